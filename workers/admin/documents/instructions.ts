/**
 * Edits as what is meant by them: each is followed on whatever is there when it lands, so that two people who change different
 * things never undo each other. One that has lost its object is a conflict.
 */
import type { Flag, Rule, Target } from "@bunting/core";
import { conflict, type ValidationError } from "../../platform/problem.ts";
import { description, key } from "../http/contract.ts";
import { invalid, pointer } from "../http/validation-errors.ts";
import { z } from "../http/zod.ts";
import { MAX_INSTRUCTIONS } from "../limits.ts";
import { attribute, conditions, members, prerequisite, rule, serve } from "./schema.ts";
import { ruleOf, serveOf, splitErrors } from "./splits.ts";

const before = key
  .nullable()
  .optional()
  .openapi({ description: "The rule that it comes before; null or left out: last" });
const targets = { variation: key, values: members.min(1), attribute: attribute.optional() };

const instruction = z
  .discriminatedUnion("kind", [
    z.strictObject({ kind: z.literal("turnOn") }),
    z.strictObject({ kind: z.literal("turnOff") }),
    z.strictObject({ kind: z.literal("setOffVariation"), variation: key.nullable() }),
    z.strictObject({ kind: z.literal("setTrackExposures"), trackExposures: z.boolean() }),
    z.strictObject({
      kind: z.literal("setServe"),
      rule: key.optional().openapi({ description: "Left out: the fallthrough, for whom no rule matches" }),
      serve,
    }),
    z.strictObject({ kind: z.literal("addTargets"), ...targets }),
    z.strictObject({ kind: z.literal("removeTargets"), ...targets }),
    z.strictObject({ kind: z.literal("addRule"), rule, before }),
    z.strictObject({ kind: z.literal("moveRule"), rule: key, before }),
    z.strictObject({
      kind: z.literal("updateRule"),
      rule: key,
      conditions: conditions.optional(),
      description: description.optional(),
    }),
    z.strictObject({ kind: z.literal("removeRule"), rule: key }),
    z.strictObject({ kind: z.literal("addPrerequisite"), prerequisite }),
    z.strictObject({ kind: z.literal("removePrerequisite"), flag: key }),
  ])
  .openapi("Instruction", { example: { kind: "setServe", serve: { split: { weights: { on: 5_000, off: 95_000 } } } } });
export type Instruction = z.infer<typeof instruction>;

export const instructions = z.array(instruction).min(1).max(MAX_INSTRUCTIONS);

/** The flag as it is after all of them. @throws ApiError 400 for weights that do not fit it, 409 for what is not there. */
export function follow(all: readonly Instruction[], flag: Flag): Flag {
  return all.reduce((next, one, index) => followOne(one, next, ["instructions", index]), flag);
}

type Path = (string | number)[];

function followOne(one: Instruction, flag: Flag, at: Path): Flag {
  switch (one.kind) {
    case "turnOn":
      return { ...flag, on: true };
    case "turnOff":
      return { ...flag, on: false };
    case "setOffVariation":
      return { ...flag, offVariation: one.variation };
    case "setTrackExposures":
      return { ...flag, trackExposures: one.trackExposures };
    case "setServe": {
      requireWeights(splitErrors(one.serve, [...at, "serve"], flag.variations));
      if (one.rule === undefined) return { ...flag, fallthrough: serveOf(one.serve, flag.fallthrough, flag) };
      return changeRule(flag, one.rule, at, (rule) => ({ ...rule, serve: serveOf(one.serve, rule.serve, flag) }));
    }
    case "addTargets":
      return { ...flag, targets: withTargets(flag.targets, one) };
    case "removeTargets":
      return { ...flag, targets: withoutTargets(flag.targets, one) };
    case "addRule": {
      requireWeights(splitErrors(one.rule.serve, [...at, "rule", "serve"], flag.variations));
      if (flag.rules.some(({ id }) => id === one.rule.id)) {
        throw lost([...at, "rule", "id"], "rule-exists", `There is a rule ${one.rule.id} already.`);
      }
      return { ...flag, rules: inserted(flag.rules, ruleOf(one.rule, undefined, flag), one.before, at) };
    }
    case "moveRule": {
      const rule = ruleIn(flag, one.rule, at);
      if (one.before === one.rule) return flag;
      return {
        ...flag,
        rules: inserted(
          flag.rules.filter((other) => other !== rule),
          rule,
          one.before,
          at,
        ),
      };
    }
    case "updateRule":
      return changeRule(flag, one.rule, at, (rule) => ({
        ...rule,
        ...(one.conditions && { conditions: one.conditions }),
        ...(one.description !== undefined && { description: one.description }),
      }));
    case "removeRule": {
      const rule = ruleIn(flag, one.rule, at);
      return { ...flag, rules: flag.rules.filter((other) => other !== rule) };
    }
    case "addPrerequisite": {
      const others = flag.prerequisites.filter((other) => other.flag !== one.prerequisite.flag);
      return { ...flag, prerequisites: [...others, one.prerequisite] };
    }
    case "removePrerequisite":
      return { ...flag, prerequisites: flag.prerequisites.filter((other) => other.flag !== one.flag) };
  }
}

type Targets = { variation: string; values: string[]; attribute?: string | undefined };
const isOf = (target: Target, { attribute }: Targets) =>
  (target.attribute ?? "targetingKey") === (attribute ?? "targetingKey");

/** A value is in one list of its attribute: adding it to one takes it from the others. */
function withTargets(targets: readonly Target[], added: Targets): Target[] {
  const { variation, attribute } = added;
  const values = new Set(added.values);
  const others = targets.map((target) =>
    isOf(target, added) && target.variation !== added.variation
      ? { ...target, values: target.values.filter((value) => !values.has(value)) }
      : target,
  );
  const known = others.findIndex((target) => isOf(target, added) && target.variation === added.variation);
  const all = [...new Set([...(others[known]?.values ?? []), ...added.values])];
  const merged: Target = { variation, values: all, ...(attribute !== undefined && { attribute }) };
  return (known < 0 ? [...others, merged] : others.with(known, merged)).filter(({ values }) => values.length > 0);
}

function withoutTargets(targets: readonly Target[], removed: Targets): Target[] {
  const values = new Set(removed.values);
  return targets
    .map((target) =>
      isOf(target, removed) && target.variation === removed.variation
        ? { ...target, values: target.values.filter((value) => !values.has(value)) }
        : target,
    )
    .filter((target) => target.values.length > 0);
}

function changeRule(flag: Flag, id: string, at: Path, change: (rule: Rule) => Rule): Flag {
  const rule = ruleIn(flag, id, at);
  return { ...flag, rules: flag.rules.map((other) => (other === rule ? change(rule) : other)) };
}

function ruleIn(flag: Flag, id: string, at: Path): Rule {
  const rule = flag.rules.find((one) => one.id === id);
  if (rule === undefined) throw lost([...at, "rule"], "rule-gone", `There is no rule ${id}: somebody has removed it.`);
  return rule;
}

function inserted(rules: readonly Rule[], rule: Rule, before: string | null | undefined, at: Path): Rule[] {
  if (before === undefined || before === null) return [...rules, rule];
  const place = rules.findIndex(({ id }) => id === before);
  if (place < 0) throw lost([...at, "before"], "rule-gone", `There is no rule ${before} to come before.`);
  return rules.toSpliced(place, 0, rule);
}

function requireWeights(errors: ValidationError[]): void {
  if (errors.length > 0) throw invalid("The weights do not fit the flag; each error is listed.", errors);
}

const lost = (path: Path, code: string, message: string) =>
  conflict(code, message, { errors: [{ pointer: pointer(path), code, message }] });
