import { compile, type Flag, type Ruleset } from "@bunting/core";
import type { Delta, EvaluatedFlag } from "@bunting/core/wire";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { diff } from "../../sdk/core/diff.ts";
import { rulesets } from "../../test/conformance/arbitrary-ruleset.ts";
import { History } from "./ruleset/recent-changes.ts";
import { nextValues, type Position, valuesFor } from "./values.ts";

const CONTEXT = { targetingKey: "u1", p: "x" };

function held(ruleset: Ruleset) {
  return { evaluator: compile(structuredClone(ruleset)), history: new History(ruleset.revision) };
}

function apply({ evaluator, history }: ReturnType<typeof held>, delta: Delta): void {
  history.note(delta, evaluator.ruleset);
  evaluator.apply(structuredClone(delta));
}

/** What a client has after `put` and `patch` in turn; checks that each patch follows on what it has. */
class Client {
  revision = 0;
  flags: Record<string, EvaluatedFlag> = {};

  take(message: ReturnType<typeof nextValues>["message"]): void {
    if (message === null) return;
    if (message.type === "put") this.flags = { ...message.flags };
    else {
      expect(message.previous).toBe(this.revision);
      for (const [key, value] of Object.entries(message.flags)) {
        if (value === null) delete this.flags[key];
        else this.flags[key] = value;
      }
    }
    this.revision = message.revision;
  }
}

/** Which flags are for clients differs from ruleset to ruleset. */
const sequences = fc
  .array(fc.tuple(rulesets, fc.array(fc.constantFrom("a", "b", "c", "d"))), { minLength: 2, maxLength: 6 })
  .map((drawn) =>
    drawn.map(([ruleset, forClients], index) => ({
      ...ruleset,
      revision: index + 1,
      flags: Object.fromEntries(
        Object.entries(ruleset.flags).map(([key, flag]) => [
          key,
          { ...flag, clientSide: (forClients as string[]).includes(key) },
        ]),
      ),
    })),
  );

describe("exposures (R13)", () => {
  const flagged = (exposureSampleRate: number): Ruleset => {
    const by = (attribute: string): Partial<Flag> => ({
      fallthrough: {
        split: { by: attribute, seed: "s", hash: "xxh32", ranges: [{ from: 0, to: 100_000, variation: "on" }] },
      },
    });
    const flags = [
      flag("quiet"),
      { ...flag("tracked"), trackExposures: true },
      { ...flag("split"), trackExposures: true, ...by("company") },
      { ...flag("experiment"), experiment: "exp_1" },
    ];
    return {
      schema: 1,
      environment: "env-1",
      revision: 1,
      events: { exposureSampleRate, summarySeconds: 30 },
      flags: Object.fromEntries(flags.map((one) => [one.key, one])),
      segments: {},
    };
  };
  const exposures = (rate: number, context: object) =>
    Object.fromEntries(
      Object.entries(valuesFor(held(flagged(rate)), context)).map(([key, { exposure }]) => [key, exposure]),
    );

  test("are asked for where a flag tracks or runs an experiment, of the unit that was split by", () => {
    expect(exposures(1, { targetingKey: "u1", company: "acme" })).toEqual({
      quiet: undefined,
      tracked: { unit: "u1", experiment: null, sampleRate: 1 },
      split: { unit: "acme", experiment: null, sampleRate: 1 },
      experiment: { unit: "u1", experiment: "exp_1", sampleRate: 1 },
    });
  });

  test("are not asked for of nobody, nor of units that are not in the sample", () => {
    expect(exposures(1, {})).toMatchObject({ tracked: undefined, experiment: undefined });
    const sampled = Array.from({ length: 1_000 }, (_, n) => exposures(0.1, { targetingKey: `user-${n}` }).tracked);
    const asked = sampled.filter((exposure) => exposure !== undefined);
    expect(asked.length).toBeGreaterThan(50);
    expect(asked.length).toBeLessThan(150);
    expect(asked.every(({ sampleRate }) => sampleRate === 0.1)).toBe(true);
  });
});

describe("a stream of values", () => {
  test("leaves its client with what evaluating everything would give, wherever it looked on the way (X5)", () => {
    fc.assert(
      fc.property(sequences, fc.array(fc.boolean(), { minLength: 6, maxLength: 6 }), ([first, ...rest], looks) => {
        const state = held(first as Ruleset);
        const client = new Client();
        let position: Position | null = null;
        let before = first as Ruleset;
        for (const [index, ruleset] of [null, ...rest].entries()) {
          if (ruleset !== null) apply(state, diff(before, ruleset));
          before = ruleset ?? before;
          if (looks[index] === false && index < rest.length) continue;
          const next = nextValues(state, CONTEXT, position);
          position = next.position;
          client.take(next.message);
          expect(client.flags).toEqual(valuesFor(state, CONTEXT));
        }
      }),
      { numRuns: 500 },
    );
  });

  test("that comes back to an isolate which only heard how it came there is told the same (X4)", () => {
    fc.assert(
      fc.property(sequences, ([first, ...rest]) => {
        const client = new Client();
        const start = held(first as Ruleset);
        client.take(nextValues(start, CONTEXT, null).message);
        const all = [first, ...rest] as Ruleset[];
        const state = held(all.at(-1) as Ruleset);
        state.history.extend(rest.map((ruleset, index) => diff(all[index] as Ruleset, ruleset)));
        const { message } = nextValues(state, CONTEXT, { since: client.revision });
        const seen = new Set([...Object.keys(client.flags), ...Object.keys(valuesFor(state, CONTEXT))]);
        client.take(message);
        expect(client.flags).toEqual(valuesFor(state, CONTEXT));
        // Not even that a flag is gone is said of one that this client may not have seen.
        for (const key of Object.keys(message?.flags ?? {})) expect(seen).toContain(key);
      }),
      { numRuns: 500 },
    );
  });
});

const flag = (key: string, clientSide = true): Flag => ({
  key,
  version: 1,
  type: "boolean",
  on: true,
  variations: [
    { key: "on", value: true },
    { key: "off", value: false },
  ],
  offVariation: "off",
  prerequisites: [],
  targets: [],
  rules: [],
  fallthrough: { variation: "on" },
  clientSide,
  trackExposures: false,
  experiment: null,
  killed: false,
});

const rulesetOf = (revision: number, ...flags: Flag[]): Ruleset => ({
  schema: 1,
  environment: "env",
  revision,
  events: { exposureSampleRate: 1, summarySeconds: 30 },
  flags: Object.fromEntries(flags.map((one) => [one.key, one])),
  segments: {},
});

const change = (revision: number, flags: Delta["flags"]): Delta => ({
  revision,
  previous: revision - 1,
  flags,
  segments: {},
});

describe("what a history remembers", () => {
  test("is bounded: who lacks more is told everything", () => {
    const state = held(rulesetOf(1, flag("a"), flag("b")));
    for (let revision = 2; revision <= 1_102; revision++) apply(state, change(revision, { a: flag("a") }));
    expect(nextValues(state, {}, { seen: 1, sent: 1 }).message?.type).toBe("put");
    expect(nextValues(state, {}, { seen: 102, sent: 102 }).message?.type).toBe("patch");
    const many = Object.fromEntries(Array.from({ length: 10_001 }, (_, n) => [`f${n}`, flag(`f${n}`)]));
    apply(state, change(1_103, many));
    expect(nextValues(state, {}, { seen: 1_102, sent: 1_102 }).message?.type).toBe("put");
  });

  test("of before its time names no flag that clients may never have seen: then everything is told", () => {
    const state = held(rulesetOf(3, flag("a"), flag("secret", false)));
    state.history.extend([change(2, { secret: flag("secret", false) }), change(3, { a: flag("a") })]);
    expect(nextValues(state, {}, { since: 2 }).message).toMatchObject({ type: "patch", flags: { a: {} } });
    expect(nextValues(state, {}, { since: 1 }).message?.type).toBe("put");
  });

  test("takes in only what leads up to it", () => {
    const state = held(rulesetOf(3, flag("a")));
    state.history.extend([change(2, { a: flag("a") })]);
    expect(state.history.reaches(1)).toBe(false);
    state.history.extend([change(3, { a: flag("a") }), change(4, { a: flag("a") })]);
    expect(state.history.reaches(2)).toBe(true);
    expect(nextValues(state, {}, { seen: 2, sent: 1 }).message).toMatchObject({ previous: 1, revision: 3 });
  });
});
