/** Flags that seem to have done their work, with the evidence. */

import { listStale } from "../../store/flags/stale.ts";
import { mostServed } from "../documents/serves-one-variation.ts";
import { key, page, pageQuery, time, whole } from "../http/contract.ts";
import { listing, truth } from "../http/pagination.ts";
import { z } from "../http/zod.ts";
import { MAX_CURSOR } from "../limits.ts";
import { operation } from "../operation.ts";
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

const list = operation({
  id: "listStaleFlags",
  method: "get",
  path: "/projects/{project}/environments/{environment}/stale",
  tag: "environments",
  summary: "Flags that serve everybody the same for long, or that nobody has changed for long",
  description: "Temporary ones: a flag that is not is meant to stay.",
  role: "viewer",
  query: pageQuery.extend({
    cursor: z.string().max(MAX_CURSOR).optional(),
    thresholdDays: days.default(30),
    unchangedDays: days.default(90),
    permanent: truth.openapi({ description: "true: those that are not temporary as well" }),
  }),
  answer: page(stale),
  returns: "Stale flags by key",
  handle: async (requested, c) => {
    const { thresholdDays, unchangedDays, permanent = false, limit, cursor } = requested.query;
    const environment = await environmentOf(requested);
    const { page, answerOf } = await listing(c, { limit, cursor, sort: "key" }, "key");
    const now = c.var.now();
    const fullBefore = now - thresholdDays * DAY_MS;
    const unchangedBefore = now - unchangedDays * DAY_MS;
    const rows = await listStale(
      requested.db,
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
    return answerOf(rows, shown);
  },
});

export const staleFlags = [list];
