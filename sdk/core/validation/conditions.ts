import { isNumber, isString, toInstant, toNetwork, toVersion } from "../operators/operators.ts";
import { refusalOf } from "../patterns/refusals.ts";
import type { Operator } from "../ruleset.ts";
import { checkValuesLimit } from "./flag-limits.ts";
import { LIMITS } from "./limits.ts";
import { type Fields, type Path, type Report, show } from "./report.ts";

const KINDS = ["segment", "flag", "all", "any", "not"] as const;

type Operand = { readonly code: string; readonly accepts: (value: unknown) => boolean; readonly remedy: string };

const STRING: Operand = {
  code: "operand-not-a-string",
  accepts: (v) => isString(v) !== undefined,
  remedy: "give a string",
};
const NUMBER: Operand = {
  code: "operand-not-a-number",
  accepts: (v) => isNumber(v) !== undefined,
  remedy: "give a number",
};
const SCALAR: Operand = {
  code: "operand-not-comparable",
  accepts: (v) => typeof v === "string" || typeof v === "boolean" || isNumber(v) !== undefined,
  remedy: "give a string, a number or a boolean",
};
const DATE: Operand = {
  code: "operand-not-a-date",
  accepts: (v) => toInstant(v) !== undefined,
  remedy: "give RFC 3339 with an offset, like 2026-01-31T09:30:00Z, or epoch milliseconds as a number",
};
const VERSION: Operand = {
  code: "operand-not-a-version",
  accepts: (v) => toVersion(v) !== undefined,
  remedy: "give a semantic version like 2.1.0 or 2.1.0-rc.1, without a leading v",
};
const NETWORK: Operand = {
  code: "operand-not-a-network",
  accepts: (v) => toNetwork(v) !== undefined,
  remedy: "give a network with its prefix, like 10.0.0.0/8, 203.0.113.7/32 or 2001:db8::/32",
};

const OPERANDS: Readonly<Record<Exclude<Operator, "exists">, Operand>> = {
  in: SCALAR,
  startsWith: STRING,
  endsWith: STRING,
  contains: STRING,
  matches: STRING,
  lessThan: NUMBER,
  lessThanOrEqual: NUMBER,
  greaterThan: NUMBER,
  greaterThanOrEqual: NUMBER,
  modulo: NUMBER,
  before: DATE,
  after: DATE,
  semverEqual: VERSION,
  semverLessThan: VERSION,
  semverLessThanOrEqual: VERSION,
  semverGreaterThan: VERSION,
  semverGreaterThanOrEqual: VERSION,
  cidr: NETWORK,
};
const IGNORES_CASE: readonly unknown[] = ["in", "startsWith", "endsWith", "contains"] satisfies Operator[];

export function checkConditions(value: unknown, path: Path, report: Report): void {
  for (const [index, condition] of report.array(value, path).entries()) {
    checkCondition(condition, [...path, index], report, 1);
  }
}

function checkCondition(value: unknown, path: Path, report: Report, nesting: number): void {
  if (nesting > LIMITS.nesting) {
    report.add(path, "nesting-too-deep", `Conditions nest at most ${LIMITS.nesting} deep: flatten this one.`);
    return;
  }
  const condition = report.object(value, path);
  if (condition === undefined) return;
  const kinds: string[] = KINDS.filter((kind) => condition[kind] !== undefined);
  if (condition.attribute !== undefined || condition.op !== undefined) kinds.unshift("attribute");
  if (kinds.length !== 1) {
    const code = kinds.length === 0 ? "condition-unknown" : "condition-ambiguous";
    const found = kinds.length === 0 ? "none of them" : kinds.join(" and ");
    report.add(path, code, `A condition is one of attribute, ${KINDS.join(", ")}: this is ${found}.`);
    return;
  }
  report.boolean(condition.negate, [...path, "negate"]);
  const { segment, flag, variations, all, any, not } = condition;
  if (segment !== undefined) {
    for (const [index, key] of report.texts(segment, [...path, "segment"]))
      report.segment(key, [...path, "segment", index]);
  } else if (flag !== undefined) {
    report.requirement(flag, variations, path);
  } else if (not !== undefined) {
    checkCondition(not, [...path, "not"], report, nesting + 1);
  } else if (all !== undefined || any !== undefined) {
    const group = all === undefined ? "any" : "all";
    const inner = report.array(condition[group], [...path, group]);
    if (Array.isArray(condition[group]) && inner.length === 0) {
      report.add([...path, group], "values-empty", `This group is empty: add a condition to it, or remove it.`);
    }
    for (const [index, child] of inner.entries()) checkCondition(child, [...path, group, index], report, nesting + 1);
  } else {
    checkLeaf(condition, path, report);
  }
}

function checkLeaf({ attribute, op, values, ignoreCase }: Fields, path: Path, report: Report): void {
  report.attribute(attribute, [...path, "attribute"]);
  report.boolean(ignoreCase, [...path, "ignoreCase"]);
  if (ignoreCase === true && !IGNORES_CASE.includes(op)) {
    report.add(
      [...path, "ignoreCase"],
      "ignore-case-unsupported",
      `Only ${IGNORES_CASE.join(", ")} can ignore case: remove ignoreCase${op === "matches" ? ", and write [aA] in the pattern" : ""}.`,
    );
  }
  const place = [...path, "values"];
  if (op === "exists") {
    if (Array.isArray(values) && values.length > 0) {
      report.add(
        place,
        "values-unused",
        "exists compares with nothing: remove the values, and use negate for its opposite.",
      );
    }
    return;
  }
  const operand =
    typeof op === "string" && Object.hasOwn(OPERANDS, op) ? OPERANDS[op as keyof typeof OPERANDS] : undefined;
  if (operand === undefined) {
    const known = [...Object.keys(OPERANDS), "exists"].join(", ");
    report.add([...path, "op"], "operator-unknown", `There is no operator ${show(op)}: use one of ${known}.`);
    return;
  }
  const operands = report.array(values, place);
  if (Array.isArray(values) && operands.length === 0) {
    report.add(place, "values-empty", "There is nothing to compare with: add a value.");
  }
  checkValuesLimit(operands, place, op, report);
  for (const [index, value] of operands.entries()) {
    if (!operand.accepts(value)) {
      report.add([...place, index], operand.code, `${show(value)} cannot be used with ${op}: ${operand.remedy}.`);
    } else if (op === "matches") {
      const refusal = refusalOf(value as string);
      if (refusal !== undefined)
        report.add([...place, index], "pattern-refused", `The pattern ${show(value)} ${refusal}.`);
    }
  }
  if (op === "modulo" && operands.length > 0) checkModulo(operands, place, report);
}

function checkModulo(operands: readonly unknown[], place: Path, report: Report): void {
  const [divisor, remainder] = operands;
  if (operands.length !== 2) {
    report.add(place, "modulo-operands", "modulo takes exactly two values: [divisor, remainder].");
  } else if (divisor === 0) {
    report.add([...place, 0], "modulo-divisor", "Nothing can be divided by 0: give another divisor.");
  } else if (typeof divisor === "number" && typeof remainder === "number" && Math.abs(remainder) >= Math.abs(divisor)) {
    report.add(
      [...place, 1],
      "modulo-remainder",
      `No division by ${divisor} leaves ${remainder}: give a remainder nearer to 0.`,
    );
  }
}
