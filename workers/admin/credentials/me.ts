/** Who the caller is. */
import { ROLES } from "../../store/schema/index.ts";
import { z } from "../http/zod.ts";
import { operation } from "../operation.ts";

const read = operation({
  id: "readMe",
  method: "get",
  path: "/me",
  tag: "me",
  summary: "Who the token is, and what it may",
  role: "viewer",
  reach: "own",
  answer: z.object({
    id: z.string(),
    name: z.string(),
    role: z.enum(ROLES),
    scope: z.object({ projects: z.array(z.string()), environments: z.array(z.string()) }),
    groups: z.array(z.string()),
  }),
  returns: "The caller",
  handle: async (_, c) => {
    const { id, name, role, scope, groups } = c.var.caller;
    return { id, name, role, scope, groups };
  },
});

export const me = [read];
