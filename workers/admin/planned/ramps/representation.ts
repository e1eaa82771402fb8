/** How requests and answers show a ramp. */

import type { RampRow } from "../../../store/planned/ramps.ts";
import type { RampStep } from "../../../store/schema/index.ts";
import { shownServe, WHOLE } from "../../documents/splits.ts";
import { serve } from "../../flags/representation.ts";
import { key, reason, time, validationError } from "../../http/contract.ts";
import { duration, share } from "../../http/quantities.ts";
import { z } from "../../http/zod.ts";
import { MAX_AHEAD_MS, MAX_GUARDS, MAX_STEPS, MAX_VARIATIONS, MIN_STEP_MS } from "../../limits.ts";
import { delivery } from "../../write/hub-client.ts";
import { preview } from "../../write/preview.ts";
import { author, failure } from "../planned.ts";

export const status = z.enum(["running", "paused", "finished", "aborted"]);

const guard = z
  .strictObject({
    metric: key,
    worse: z.enum(["higher", "lower"]).openapi({ description: "Which way the metric gets worse" }),
    tolerance: z.number().min(0).max(1).openapi({ description: "How much worse is borne, as a part of what it was" }),
    action: z.enum(["pause", "abort"]),
  })
  .openapi("RampGuard", {
    description: "Kept with the ramp, for whoever judges its metrics",
    example: { metric: "checkout-errors", worse: "higher", tolerance: 0.05, action: "abort" },
  });

const step = z.strictObject({
  weight: share(1),
  forMs: duration(MIN_STEP_MS, MAX_AHEAD_MS).optional().openapi({
    description:
      'Milliseconds, or a duration like "1d", until the next step; after the last, which may leave it out, until the ramp counts as finished',
    example: 86_400_000,
  }),
});

const steps = z
  .array(step)
  .min(1)
  .max(MAX_STEPS)
  .superRefine((list, ctx) => {
    list.forEach(({ weight, forMs }, index) => {
      const issue = (field: string, message: string) => ctx.addIssue({ code: "custom", path: [index, field], message });
      const before = list[index - 1]?.weight ?? 0;
      if (weight <= before) issue("weight", "Each step is larger than the one before.");
      if (forMs === undefined && index < list.length - 1) issue("forMs", "Only the last step may leave it out.");
    });
    const last = list.at(-1);
    if (last?.weight !== 100) return;
    const message = `Weights are thousandths of a percent: for 100 % send ${WHOLE}.`;
    ctx.addIssue({ code: "custom", path: [list.length - 1, "weight"], message });
  });

export const newRamp = z
  .strictObject({
    environment: key,
    flag: key,
    rule: key.optional().openapi({ description: "Left out: the fallthrough, for whom no rule matches" }),
    variation: key.openapi({ description: "What grows" }),
    others: z.array(key).min(1).max(MAX_VARIATIONS).optional().openapi({
      description:
        "What shrinks for it, in proportion to present weights. Left out: first those who are in no range, then all others",
    }),
    steps,
    guards: z.array(guard).max(MAX_GUARDS).optional(),
    reason: reason.optional(),
  })
  .openapi("NewRamp", {
    example: {
      environment: "production",
      flag: "new-checkout",
      variation: "on",
      steps: [
        { weight: 5_000, forMs: 86_400_000 },
        { weight: 25_000, forMs: 86_400_000 },
        { weight: 50_000, forMs: 86_400_000 },
        { weight: 100_000 },
      ],
      reason: "Launch",
    },
  });
export type NewRamp = z.infer<typeof newRamp>;

export const ramp = z
  .object({
    id: z.string(),
    environment: key,
    flag: key,
    rule: z.string().nullable(),
    variation: z.string(),
    others: z.array(z.string()).nullable(),
    steps: z.array(z.object({ weight: z.number().int(), forMs: z.number().int() })),
    guards: z.array(guard),
    reason: z.string().nullable(),
    status,
    step: z.number().int().openapi({ description: "The step that it is at, from 0" }),
    nextAt: time.nullable().openapi({ description: "When the next step is due, or the last one over, while it runs" }),
    remainingMs: z.number().int().nullable().openapi({ description: "What is left of the step, while it is paused" }),
    pause: failure
      .extend({ by: z.string().nullable(), at: time })
      .nullable()
      .openapi({
        description:
          "Why it is paused: `requested` by somebody; or by itself: `edited`, `killed`, `flag-off`, `archived`, `rule-gone`, " +
          "or the code of the problem that stopped it",
      }),
    began: serve.openapi({ description: "What was served before; an abort brings it back" }),
    restored: z.boolean().nullable().openapi({
      description: "After an abort: false where somebody else had changed the split, and it was left as it was",
    }),
    author,
    changeRequest: z.string().nullable().openapi({
      description: "The change request that has begun it: who has approved of that has approved of each of its steps",
    }),
    version: z.number().int(),
    createdAt: time,
    updatedAt: time,
    endedAt: time.nullable(),
  })
  .openapi("Ramp");

export const writtenRamp = ramp.extend(delivery.shape).openapi("WrittenRamp");

export const begunRamp = writtenRamp
  .extend({
    warnings: z.array(validationError),
    preview: preview.openapi({ description: "What its last step would change, and whom it would move, from now" }),
  })
  .openapi("BegunRamp");

export const stepsOf = (sent: NewRamp["steps"]): RampStep[] => sent.map(({ weight, forMs = 0 }) => ({ weight, forMs }));

export const shownRamp = (row: RampRow & { environment: string }): z.infer<typeof ramp> => ({
  id: row.id,
  environment: row.environment,
  flag: row.flagKey,
  rule: row.ruleId === "" ? null : row.ruleId,
  variation: row.variation,
  others: row.others,
  steps: row.steps,
  guards: row.guards,
  reason: row.reason,
  status: row.status,
  step: row.step,
  nextAt: row.nextAt,
  remainingMs: row.remainingMs,
  pause: row.pause,
  began: shownServe(row.serves[0]!),
  restored: row.restored,
  author: { actor: row.actor, token: row.tokenId },
  changeRequest: row.changeRequestId,
  version: row.version,
  createdAt: row.createdAt,
  updatedAt: row.updatedAt,
  endedAt: row.endedAt,
});
