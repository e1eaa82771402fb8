/** What SQLite stores of each configuration for lists, held against the documents. */
import type { Flag } from "@bunting/core";
import { and, eq } from "drizzle-orm";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { servesOf } from "../../workers/admin/documents/flag-summary.ts";
import type { ConfigurationRow } from "../../workers/store/documents.ts";
import * as table from "../../workers/store/schema/index.ts";
import { db } from "../support/environment.ts";

describe("what SQLite computes of a configuration", () => {
  type Configuration = Pick<
    Flag,
    "on" | "offVariation" | "prerequisites" | "targets" | "rules" | "fallthrough" | "trackExposures"
  >;

  /** From the document, as the list is documented. */
  function expected({ on, offVariation, rules, targets, prerequisites, fallthrough }: Configuration) {
    if (!on) return { variation: offVariation };
    if (rules.length + targets.length + prerequisites.length > 0) {
      return { rules: rules.length, targets: targets.length, prerequisites: prerequisites.length };
    }
    if ("variation" in fallthrough) return { variation: fallthrough.variation };
    const served = new Map<string | null, number>();
    let rest = 100_000;
    for (const { variation, from, to } of fallthrough.split.ranges) {
      served.set(variation, (served.get(variation) ?? 0) + to - from);
      rest -= to - from;
    }
    const weights = [...served].filter(([, weight]) => weight > 0);
    const outcomes = new Set([...weights.map(([variation]) => variation), ...(rest > 0 ? [offVariation] : [])]);
    return outcomes.size === 1 ? { variation: [...outcomes][0] } : { split: Object.fromEntries(weights) };
  }

  const variation = fc.oneof(
    fc.constantFrom("on", "off", 'a "quoted" one', "ümläut", "a'b"),
    fc.string({ minLength: 1 }),
  );
  const cuts = fc.array(fc.integer({ min: 0, max: 100_000 }), { minLength: 1, maxLength: 6 });
  const ranges = fc.tuple(cuts, fc.array(variation, { minLength: 1, maxLength: 3 })).map(([all, variations]) =>
    all
      .toSorted((one, other) => one - other)
      .map((to, index, ends) => ({
        variation: variations[index % variations.length]!,
        from: ends[index - 1] ?? 0,
        to,
      })),
  );
  const serve = fc.oneof(
    variation.map((variation) => ({ variation })),
    ranges.map((ranges) => ({ split: { by: "targetingKey", seed: "s", hash: "xxh32", ranges } })),
  );
  const few = <T>(one: fc.Arbitrary<T>) =>
    fc.oneof({ weight: 3, arbitrary: fc.constant<T[]>([]) }, fc.array(one, { maxLength: 4 }));
  const condition = fc.record({
    attribute: fc.string(),
    op: fc.constant("in" as const),
    values: fc.array(fc.string()),
  });
  const configuration: fc.Arbitrary<Configuration> = fc.record({
    on: fc.oneof({ weight: 4, arbitrary: fc.constant(true) }, fc.constant(false)),
    offVariation: fc.option(variation),
    prerequisites: few(fc.record({ flag: fc.string(), variations: fc.array(variation) })),
    targets: few(fc.record({ variation, values: fc.array(fc.string()) })),
    rules: few(fc.record({ id: fc.string(), conditions: fc.array(condition), serve })),
    fallthrough: serve,
    trackExposures: fc.boolean(),
  });

  const { flagConfigurations } = table;
  const stored = async (environmentId: string) => {
    const rows = await db.select().from(flagConfigurations).where(eq(flagConfigurations.environmentId, environmentId));
    return new Map(rows.map(({ flagId, summary }) => [flagId, servesOf(summary)]));
  };
  const row = (environmentId: string, flagId: string, fields: Configuration): ConfigurationRow => ({
    ...{ environmentId, flagId, version: 1, updatedAt: 0, fullSince: null },
    ...fields,
  });

  test("is what its document says, when it is inserted and when it is changed", async () => {
    const all = fc.sample(configuration, { numRuns: 600 });
    const rows = all.map((fields, index) => row("env_stored", `flg_${index}`, fields));
    const inserts = rows.map((one) => db.insert(flagConfigurations).values(one));
    await db.batch([inserts[0]!, ...inserts.slice(1)]);
    const inserted = await stored("env_stored");
    for (const one of rows) expect([one, inserted.get(one.flagId)]).toEqual([one, expected(one)]);
    const kinds = new Set([...inserted.values()].flatMap((serves) => Object.keys(serves)));
    expect(kinds).toEqual(new Set(["variation", "split", "rules", "targets", "prerequisites"]));

    const changed = rows.map((one, index) => ({ ...one, ...all[(index + 1) % all.length]! }));
    const updates = changed.map(({ environmentId, flagId, ...fields }) => {
      const here = and(eq(flagConfigurations.environmentId, environmentId), eq(flagConfigurations.flagId, flagId));
      return db.update(flagConfigurations).set(fields).where(here);
    });
    await db.batch([updates[0]!, ...updates.slice(1)]);
    const updated = await stored("env_stored");
    for (const one of changed) expect([one, updated.get(one.flagId)]).toEqual([one, expected(one)]);
  });

  test("is read before all that may be long", () => {
    const order = Object.keys(flagConfigurations);
    const last = Math.max(...["version", "on", "updatedAt", "summary"].map((name) => order.indexOf(name)));
    for (const long of ["prerequisites", "targets", "rules", "fallthrough"]) {
      expect(order.indexOf(long)).toBeGreaterThan(last);
    }
  });
});
