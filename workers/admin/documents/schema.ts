/** The documents of docs/evaluation.md as requests carry them: shape only, meaning is core's `validate`. */
import type { Condition, Json, Operator } from "@bunting/core";
import { description, key, name } from "../http/contract.ts";
import { share } from "../http/quantities.ts";
import { z } from "../http/zod.ts";
import {
  MAX_CONDITION_VALUES,
  MAX_CONDITIONS,
  MAX_PREREQUISITES,
  MAX_RULES,
  MAX_TEXT,
  MAX_VALIDATION_ERRORS,
  MAX_VALUE_BYTES,
  MAX_VALUES,
  MAX_VARIATIONS,
} from "../limits.ts";

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

/**
 * One of several kinds, recognised by the field that only it has. A union would try each in turn: six times the work for a
 * condition, again at every level, and then it could not say which one was meant.
 */
export function oneOf<const Kinds extends Record<string, z.ZodType>>(kinds: Kinds, message: string) {
  const schema = z.union(Object.values(kinds) as Kinds[keyof Kinds][]);
  schema._zod.run = (payload, context) => {
    const { value } = payload;
    const isObject = typeof value === "object" && value !== null;
    const kind = isObject ? Object.keys(kinds).find((field) => Object.hasOwn(value, field)) : undefined;
    if (kind !== undefined) return kinds[kind]!._zod.run(payload, context);
    payload.issues.push({ code: "invalid_union", errors: [], input: value, inst: schema, message });
    return payload;
  };
  return schema;
}

/** As many as are listed, and one that says there are more: all of a long list would not fit the stack that carries them. */
export function firstErrors<Schema extends z.ZodType>(schema: Schema): Schema {
  const { run } = schema._zod;
  schema._zod.run = (payload, context) => {
    const result = run(payload, context);
    payload.issues.splice(MAX_VALIDATION_ERRORS + 1);
    return result;
  };
  return schema;
}

const text = z.string().max(MAX_TEXT);
export const attribute = text.min(1).openapi({ description: "A name, or a path that begins with /", example: "plan" });

export const condition: z.ZodType<Condition> = z
  .lazy(() =>
    oneOf(
      {
        attribute: z.strictObject({
          attribute,
          op: operator,
          values: firstErrors(
            z
              .array(z.union([text, z.number(), z.boolean()], "A string, a number or a boolean."))
              .max(MAX_CONDITION_VALUES),
          ).optional(),
          negate: z.boolean().optional(),
          ignoreCase: z.boolean().optional(),
        }),
        segment: z.strictObject({ segment: z.array(key).min(1).max(MAX_CONDITIONS), negate: z.boolean().optional() }),
        flag: z.strictObject({ flag: key, variations: z.array(key).min(1).max(MAX_VARIATIONS) }),
        all: z.strictObject({ all: conditions }),
        any: z.strictObject({ any: conditions }),
        not: z.strictObject({ not: condition }),
      },
      'A condition has "attribute" with "op" and "values", or "segment", "flag" with "variations", "all", "any" or "not".',
    ),
  )
  .openapi("Condition") as z.ZodType<Condition>;

export const conditions = firstErrors(z.array(condition).max(MAX_CONDITIONS));

/** Thousandths of a percent by variation. */
const weights = firstErrors(z.record(key, share()).openapi({ example: { on: 5_000, off: 95_000 } }));

export const serve = z
  .lazy(() =>
    oneOf(
      {
        variation: z.strictObject({ variation: key }),
        split: z.strictObject({
          split: z.strictObject({ weights, by: attribute.optional(), reshuffle: z.boolean().optional() }),
        }),
      },
      'Send {"variation": "<key>"} or {"split": {"weights": {"<key>": <thousandths of a percent>, …}}}.',
    ),
  )
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
        buckets: share(),
        reshuffle: z.boolean().optional(),
      })
      .optional(),
  })
  .openapi("SegmentRule");

export const members = firstErrors(z.array(text.min(1)).max(MAX_VALUES));

const rules = z
  .array(rule)
  .max(MAX_RULES)
  .superRefine((list, ctx) => unique(list, "id", ctx));
export const segmentRules = z
  .array(segmentRule)
  .max(MAX_RULES)
  .superRefine((list, ctx) => unique(list, "id", ctx));

export const prerequisite = z.strictObject({ flag: key, variations: z.array(key).min(1).max(MAX_VARIATIONS) });
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

export const document = z.object({ kind: z.enum(["flag", "segment"]), key: z.string() }).openapi("DocumentName");
