/** The documents of docs/evaluation.md as requests carry them: shape only, meaning is core's `validate`. */
import type { Condition, Json, Operator } from "@bunting/core";
import { z } from "@hono/zod-openapi";
import { description, key, name } from "./contract.ts";
import {
  MAX_CONDITIONS,
  MAX_PREREQUISITES,
  MAX_RULES,
  MAX_TEXT,
  MAX_VALUE_BYTES,
  MAX_VALUES,
  MAX_VARIATIONS,
} from "./limits.ts";

/** Parsed from JSON, so it is JSON. */
const jsonValue = (z.unknown() as z.ZodType<Json>).openapi({ description: "Any JSON value" });

export const flagType = z.enum(["boolean", "string", "number", "json"]);

export const variation = z
  .strictObject({ key, value: jsonValue, name: name.optional() })
  .refine(({ value }) => value !== undefined, { path: ["value"], message: "A variation has a value." })
  .refine(({ value }) => new TextEncoder().encode(JSON.stringify(value) ?? "").byteLength <= MAX_VALUE_BYTES, {
    path: ["value"],
    message: `A value has at most ${MAX_VALUE_BYTES / 1_024} KB of JSON.`,
  })
  .openapi("Variation");

export const variations = z
  .array(variation)
  .min(1)
  .max(MAX_VARIATIONS)
  .superRefine((list, ctx) => unique(list, "key", ctx));

const operator = z.enum([
  "in",
  "startsWith",
  "endsWith",
  "contains",
  "matches",
  "exists",
  "lessThan",
  "lessThanOrEqual",
  "greaterThan",
  "greaterThanOrEqual",
  "modulo",
  "before",
  "after",
  "semverEqual",
  "semverLessThan",
  "semverLessThanOrEqual",
  "semverGreaterThan",
  "semverGreaterThanOrEqual",
  "cidr",
] satisfies Operator[]);

const text = z.string().max(MAX_TEXT);
const attribute = text.min(1).openapi({ description: "A name, or a path that begins with /", example: "plan" });

export const condition: z.ZodType<Condition> = z
  .lazy(() =>
    z.union([
      z.strictObject({
        attribute,
        op: operator,
        values: z
          .array(z.union([text, z.number(), z.boolean()]))
          .max(MAX_VALUES)
          .optional(),
        negate: z.boolean().optional(),
        ignoreCase: z.boolean().optional(),
      }),
      z.strictObject({ segment: z.array(key).min(1).max(MAX_CONDITIONS), negate: z.boolean().optional() }),
      z.strictObject({ flag: key, variations: z.array(key).min(1).max(MAX_VARIATIONS) }),
      z.strictObject({ all: conditions }),
      z.strictObject({ any: conditions }),
      z.strictObject({ not: condition }),
    ]),
  )
  .openapi("Condition") as z.ZodType<Condition>;

const conditions = z.array(condition).max(MAX_CONDITIONS);

/** Thousandths of a percent by variation. */
const weights = z.record(key, z.number().int().min(0).max(100_000)).openapi({ example: { on: 5_000, off: 95_000 } });

const serve = z
  .union([
    z.strictObject({ variation: key }),
    z.strictObject({
      split: z.strictObject({ weights, by: attribute.optional(), reshuffle: z.boolean().optional() }),
    }),
  ])
  .openapi("Serve");
export type ServeInput = z.infer<typeof serve>;

export const rule = z
  .strictObject({ id: key.optional(), description: description.optional(), conditions, serve })
  .openapi("Rule");

export const segmentRule = z
  .strictObject({
    id: key.optional(),
    description: description.optional(),
    conditions,
    sample: z
      .strictObject({
        by: attribute.optional(),
        buckets: z.number().int().min(0).max(100_000),
        reshuffle: z.boolean().optional(),
      })
      .optional(),
  })
  .openapi("SegmentRule");

export const members = z.array(text.min(1)).max(MAX_VALUES);

const rules = z
  .array(rule)
  .max(MAX_RULES)
  .superRefine((list, ctx) => unique(list, "id", ctx));
export const segmentRules = z
  .array(segmentRule)
  .max(MAX_RULES)
  .superRefine((list, ctx) => unique(list, "id", ctx));

const prerequisite = z.strictObject({ flag: key, variations: z.array(key).min(1).max(MAX_VARIATIONS) });
const target = z.strictObject({ variation: key, values: members, attribute: attribute.optional() });

/** How one environment serves a flag. */
export const targeting = z.strictObject({
  on: z.boolean(),
  offVariation: key.nullable(),
  prerequisites: z.array(prerequisite).max(MAX_PREREQUISITES),
  targets: z.array(target).max(MAX_VARIATIONS),
  rules,
  fallthrough: serve,
  trackExposures: z.boolean(),
});

export type TargetingInput = z.infer<typeof targeting>;

function unique<Field extends string>(
  list: { [K in Field]?: string | undefined }[],
  field: Field,
  ctx: z.core.$RefinementCtx,
): void {
  const seen = new Set<string>();
  list.forEach((item, index) => {
    const value = item[field];
    if (value === undefined) return;
    if (seen.has(value)) ctx.addIssue({ code: "custom", path: [index, field], message: `${value} is there twice.` });
    seen.add(value);
  });
}
