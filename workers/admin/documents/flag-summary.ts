/** What a list says of how an environment serves a flag, from what SQLite has stored of it. Pure; kills are beside it. */
import type { StoredSummary } from "../../store/schema/index.ts";
import { z } from "../http/zod.ts";
import { outcomesOfSplit, weightsOf } from "./serves-one-variation.ts";

export const serves = z.union([
  z.object({ variation: z.string().nullable() }),
  z.object({ split: z.record(z.string(), z.number().int()) }),
  z.object({ rules: z.number().int(), targets: z.number().int(), prerequisites: z.number().int() }),
]);

export function servesOf(stored: StoredSummary): z.infer<typeof serves> {
  switch (stored[0]) {
    case "variation":
      return { variation: stored[1] };
    case "depends": {
      const [, rules, targets, prerequisites] = stored;
      return { rules, targets, prerequisites };
    }
    case "split": {
      const [, offVariation, ranges] = stored;
      const weights = weightsOf(ranges);
      const [first, ...others] = new Set(outcomesOfSplit(weights, offVariation));
      return first === undefined || others.length > 0 ? { split: Object.fromEntries(weights) } : { variation: first };
    }
  }
}
