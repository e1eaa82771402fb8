/** The flags that OpenFeature's scenarios ask for, as this project's admin API takes them. */
import { readFileSync } from "node:fs";
import type { Condition, Json } from "@bunting/core";

type TestFlag = {
  variants: Record<string, Json>;
  defaultVariant?: string | null;
  disabled?: boolean;
  /** An expression in CEL: each that occurs is written out below. */
  contextEvaluator?: string;
};

export type AdminFlag = { flag: { key: string; type: string; variations: object[]; clientSide: true }; targeting: object };

/** The conditions under which an expression answers a variation and not "", which stands for the default variant. */
const expressions: Record<string, { variation: string; conditions: Condition[] }> = {
  "email == 'ballmer@macrosoft.com' ? 'zero' : ''": {
    variation: "zero",
    conditions: [{ attribute: "email", op: "in", values: ["ballmer@macrosoft.com"] }],
  },
  "!customer && email == 'ballmer@macrosoft.com' && age > 10 ? 'internal' : ''": {
    variation: "internal",
    conditions: [
      { attribute: "customer", op: "in", values: [false] },
      { attribute: "email", op: "in", values: ["ballmer@macrosoft.com"] },
      { attribute: "age", op: "greaterThan", values: [10] },
    ],
  },
};

/** A scenario of evaluation.feature asks for it by these values; test-flags.json has no such flag. */
const contextAware: AdminFlag = {
  flag: {
    key: "context-aware",
    type: "string",
    clientSide: true,
    variations: [
      { key: "internal", value: "INTERNAL" },
      { key: "external", value: "EXTERNAL" },
    ],
  },
  targeting: {
    on: true,
    fallthrough: { variation: "external" },
    rules: [
      {
        conditions: [
          { attribute: "fn", op: "in", values: ["Sulisław"] },
          { attribute: "ln", op: "in", values: ["Świętopełk"] },
          { attribute: "age", op: "in", values: [29] },
          { attribute: "customer", op: "in", values: [false] },
        ],
        serve: { variation: "internal" },
      },
    ],
  },
};

export function openFeatureFlags(): AdminFlag[] {
  const file = readFileSync("test/third-party/openfeature/test-flags.json", "utf8");
  const flags = JSON.parse(file) as Record<string, TestFlag>;
  return [...Object.entries(flags).map(([key, flag]) => translate(key, flag)), contextAware];
}

function translate(key: string, { variants, defaultVariant, disabled, contextEvaluator }: TestFlag): AdminFlag {
  const variations = Object.entries(variants).map(([name, value]) => ({ key: name, value }));
  const type = typeof variations[0]!.value === "object" ? "json" : typeof variations[0]!.value;
  const rule = contextEvaluator === undefined ? undefined : expressions[contextEvaluator];
  if (contextEvaluator !== undefined && rule === undefined) throw new Error(`What does "${contextEvaluator}" mean?`);
  // Off without a variation of its own is the code's default: so is a flag that is disabled, or has no default variant.
  const on = disabled !== true && typeof defaultVariant === "string";
  return {
    flag: { key, type, variations, clientSide: true },
    targeting: {
      on,
      offVariation: null,
      ...(on && { fallthrough: { variation: defaultVariant } }),
      ...(rule && { rules: [{ conditions: rule.conditions, serve: { variation: rule.variation } }] }),
    },
  };
}
