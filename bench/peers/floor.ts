// The least that could work: compiled by hand into closures, no checks of anything, one attribute deep, ASCII keys.
import type { FlagSpec, Side, Test, User } from "./workloads.ts";

type Result = { value: boolean | string; reason: string; rule: number; bucket: number };
type Flag = {
  targets: Set<string>;
  segment: Set<string>;
  rules: ((user: User) => boolean)[];
  spec: FlagSpec;
  seed: number;
};

const side: Side = {
  document: (flags) => flags,
  open(text) {
    const flags = new Map((JSON.parse(text) as FlagSpec[]).map((spec) => [spec.key, compile(spec)]));
    const evaluate = (key: string, user: User): Result => decide(flags.get(key)!, user);
    return {
      context: (user) => user,
      ask:
        ({ key }) =>
        (user: User) =>
          evaluate(key, user),
      askAll: (specs) => (user: User) => {
        const results: Record<string, Result> = {};
        for (const { key } of specs) results[key] = evaluate(key, user);
        return results;
      },
      value: (result: Result) => result.value,
      valueOf: (results: Record<string, Result>, key) => results[key]?.value,
    };
  },
};
export default side;

function compile(spec: FlagSpec): Flag {
  const { targets, segment, rules, key } = spec;
  return {
    targets: new Set(targets),
    segment: new Set(segment),
    rules: rules.map((tests) => every(tests.map(predicate))),
    spec,
    seed: hash(key, 0),
  };
}

function decide({ targets, segment, rules, spec, seed }: Flag, user: User): Result {
  if (targets.size > 0 && targets.has(user.targetingKey))
    return { value: spec.hit, reason: "TARGET", rule: -1, bucket: -1 };
  for (let rule = 0; rule < rules.length; rule++) {
    if (rules[rule]!(user)) return { value: spec.hit, reason: "RULE", rule, bucket: -1 };
  }
  if (segment.size > 0 && segment.has(user.targetingKey))
    return { value: spec.hit, reason: "RULE", rule: 0, bucket: -1 };
  if (!Array.isArray(spec.otherwise)) return { value: spec.otherwise, reason: "FALLTHROUGH", rule: -1, bucket: -1 };
  const bucket = (hash(user.targetingKey, seed) / 2 ** 32) * 100;
  let end = 0;
  for (const [value, percent] of spec.otherwise) {
    end += percent;
    if (bucket < end) return { value, reason: "SPLIT", rule: -1, bucket };
  }
  throw new Error("the floor's splits are whole");
}

function every(predicates: ((user: User) => boolean)[]): (user: User) => boolean {
  const [first, second] = predicates;
  return second === undefined ? first! : (user) => first!(user) && second(user);
}

function predicate(test: Test): (user: User) => boolean {
  const { attribute } = test;
  switch (test.op) {
    case "in": {
      const values = new Set<unknown>(test.values);
      return (user) => values.has(user[attribute]);
    }
    case "matches": {
      const pattern = new RegExp(test.value);
      return (user) => pattern.test(user[attribute] as string);
    }
    case "lessThan":
      return (user) => (user[attribute] as number) < test.value;
    case "before": {
      const bound = Date.parse(test.value);
      return (user) => Date.parse(user[attribute] as string) < bound;
    }
    case "semverLessThan": {
      const [major, minor, patch] = parts(test.value);
      return (user) => {
        const [a, b, c] = parts(user[attribute] as string);
        return a !== major ? a! < major! : b !== minor ? b! < minor! : c! < patch!;
      };
    }
  }
}

function parts(version: string): number[] {
  const dash = version.indexOf("-");
  return (dash < 0 ? version : version.slice(0, dash)).split(".").map(Number);
}

/** FNV-1a with a final mix: cheaper than any hash that is also specified in other languages. */
function hash(text: string, seed: number): number {
  let value = 0x811c9dc5 ^ seed;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  value = Math.imul(value ^ (value >>> 15), 0x85ebca77);
  return (value ^ (value >>> 13)) >>> 0;
}
