/** What would feel a change of a flag or segment. */
import { createRoute, z } from "@hono/zod-openapi";
import { notFound } from "../../platform/problem.ts";
import { dependentGraph } from "../../store/dependents.ts";
import { findSegment } from "../../store/segments.ts";
import { document } from "../documents/schema.ts";
import { flagThere } from "../flags/targeting-edit.ts";
import { needs } from "../http/access.ts";
import { environmentPath, json, problems, resource } from "../http/contract.ts";
import { mistaken } from "../http/validation-errors.ts";
import { environmentOf } from "../write/lookup.ts";

const named = z.string().min(1).max(128).optional();

const read = createRoute({
  method: "get",
  path: "/projects/{project}/environments/{environment}/dependents",
  tags: ["environments"],
  summary: "What depends on a flag or segment, directly or through others",
  middleware: needs("viewer"),
  request: { params: environmentPath, query: z.object({ flag: named, segment: named }) },
  responses: {
    200: json(
      z
        .object({
          nodes: z.array(document).openapi({ description: "What was asked for comes first" }),
          edges: z.array(z.object({ from: document, to: document })).openapi({ description: "`from` refers to `to`" }),
          truncated: z.boolean().openapi({ description: "More than a thousand documents: these are the nearest" }),
        })
        .openapi("Dependents"),
      "The graph",
    ),
    ...problems,
  },
});

export const dependents = resource().openapi(read, async (c) => {
  const { flag, segment } = c.req.valid("query");
  if ((flag === undefined) === (segment === undefined)) {
    const message = "Send one of flag and segment.";
    throw mistaken(message, [{ pointer: "query:/flag", code: "one-of", message }]);
  }
  const environment = await environmentOf(c);
  if (flag !== undefined) await flagThere(c.var.db, environment, flag);
  else if ((await findSegment(c.var.db, environment.id, segment ?? "")) === undefined) {
    throw notFound(`The segment ${segment}`);
  }
  const root =
    flag === undefined ? { kind: "segment" as const, key: segment ?? "" } : { kind: "flag" as const, key: flag };
  return c.json(await dependentGraph(c.var.db, environment.id, root), 200);
});
