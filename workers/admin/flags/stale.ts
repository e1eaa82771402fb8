/** Flags that seem to have done their work, with the evidence. */
import { createRoute, z } from "@hono/zod-openapi";
import { listStale } from "../../store/flags/stale.ts";
import { mostServed } from "../documents/serves-one-variation.ts";
import { needs } from "../http/access.ts";
import { environmentPath, json, key, page, pageQuery, problems, resource, time, whole } from "../http/contract.ts";
import { listing, truth } from "../http/pagination.ts";
import { MAX_CURSOR } from "../limits.ts";
import { environmentOf } from "../write/lookup.ts";

const DAY_MS = 86_400_000;

const days = whole(0, 36_500);

const stale = z
  .object({
    key,
    environment: key,
    because: z.array(z.enum(["full", "unchanged"])),
    servedVariation: z.string().nullable().openapi({ description: "What most are served; null: the code's default" }),
    servedShare: z.number().int().nullable().openapi({
      description: "Thousandths of a percent of all; null where rules, targets or prerequisites decide",
      example: 100_000,
    }),
    fullSince: time.nullable().openapi({ description: "Since when everybody is served the same" }),
    daysAtFull: z.number().int().nullable(),
    lastModified: time.openapi({ description: "When what it serves was last edited, killed or restored" }),
    lastEvaluated: time.nullable().openapi({ description: "Null: not known" }),
    experiment: z.string().nullable(),
    codeReferences: z.number().int(),
  })
  .openapi("StaleFlag");

const list = createRoute({
  method: "get",
  path: "/projects/{project}/environments/{environment}/stale",
  tags: ["environments"],
  summary: "Flags that serve everybody the same for long, or that nobody has changed for long",
  description: "Temporary ones: a flag that is not is meant to stay.",
  middleware: needs("viewer"),
  request: {
    params: environmentPath,
    query: pageQuery.extend({
      cursor: z.string().max(MAX_CURSOR).optional(),
      thresholdDays: days.default(30),
      unchangedDays: days.default(90),
      permanent: truth.openapi({ description: "true: those that are not temporary as well" }),
    }),
  },
  responses: { 200: json(page(stale), "Stale flags by key"), ...problems },
});

export const staleFlags = resource().openapi(list, async (c) => {
  const { thresholdDays, unchangedDays, permanent = false, limit, cursor } = c.req.valid("query");
  const environment = await environmentOf(c);
  const { page, told } = await listing(c, { limit, cursor, sort: "key" }, "key");
  const now = c.var.now();
  const fullBefore = now - thresholdDays * DAY_MS;
  const unchangedBefore = now - unchangedDays * DAY_MS;
  const rows = await listStale(
    c.var.db,
    { projectId: environment.projectId, environmentId: environment.id },
    { fullBefore, unchangedBefore, permanent },
    { limit: page.limit, after: page.after?.tie },
  );
  const shown = (row: (typeof rows)[number]): z.infer<typeof stale> => {
    const { offVariation } = row.configuration;
    const most = row.killed ? { variation: offVariation, share: 100_000 } : mostServed(row.configuration);
    const { fullSince, lastModified } = row;
    return {
      key: row.key,
      environment: environment.environment,
      because: [
        ...(fullSince !== null && fullSince <= fullBefore ? (["full"] as const) : []),
        ...(lastModified <= unchangedBefore ? (["unchanged"] as const) : []),
      ],
      servedVariation: most?.variation ?? null,
      servedShare: most?.share ?? null,
      fullSince,
      daysAtFull: fullSince === null ? null : Math.floor((now - fullSince) / DAY_MS),
      lastModified,
      lastEvaluated: null,
      experiment: null,
      codeReferences: row.codeReferences,
    };
  };
  return c.json(told(rows, shown), 200);
});
