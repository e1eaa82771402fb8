/** What would feel a change of a flag or segment. */
import { notFound } from "../../platform/problem.ts";
import { dependentGraph } from "../../store/dependents.ts";
import { findSegment } from "../../store/segments.ts";
import { document } from "../documents/schema.ts";
import { flagThere } from "../flags/targeting-edit.ts";
import { invalid } from "../http/validation-errors.ts";
import { z } from "../http/zod.ts";
import { operation } from "../operation.ts";
import { environmentOf } from "../write/lookup.ts";

const named = z.string().min(1).max(128).optional();

const read = operation({
  id: "listDependents",
  method: "get",
  path: "/projects/{project}/environments/{environment}/dependents",
  tag: "environments",
  summary: "What depends on a flag or segment, directly or through others",
  role: "viewer",
  query: z.object({ flag: named, segment: named }),
  answer: z
    .object({
      nodes: z.array(document).openapi({ description: "What was requested comes first" }),
      edges: z.array(z.object({ from: document, to: document })).openapi({ description: "`from` refers to `to`" }),
      truncated: z.boolean().openapi({ description: "More than a thousand documents: these are the nearest" }),
    })
    .openapi("Dependents"),
  returns: "The graph",
  handle: async (requested) => {
    const { db, query } = requested;
    const { flag, segment } = query;
    if ((flag === undefined) === (segment === undefined)) {
      const message = "Send one of flag and segment.";
      throw invalid(message, [{ pointer: "query:/flag", code: "one-of", message }]);
    }
    const environment = await environmentOf(requested);
    if (flag !== undefined) await flagThere(db, environment, flag);
    else if ((await findSegment(db, environment.id, segment ?? "")) === undefined) {
      throw notFound(`The segment ${segment}`);
    }
    const root =
      flag === undefined ? { kind: "segment" as const, key: segment ?? "" } : { kind: "flag" as const, key: flag };
    return dependentGraph(db, environment.id, root);
  },
});

export const dependents = [read];
