/** Which patches the ruleset that is evaluated with takes. */
import type { Ruleset } from "@bunting/core";
import { expect, test } from "vitest";
import { systemClock } from "../sync/clock.ts";
import { CurrentRuleset } from "./current-ruleset.ts";

const at = (revision: number): Ruleset => ({
  schema: 1,
  environment: "e",
  revision,
  events: { exposureSampleRate: 1, summarySeconds: 60 },
  flags: {},
  segments: {},
});

test.each([
  ["builds on what is held", 10, 11, true],
  ["stands for several, some of which are held", 8, 12, true],
  ["leaves a gap", 11, 12, false],
  ["is held already", 8, 10, false],
])("a patch that %s (Q8)", (_, previous, revision, isTaken) => {
  const current = new CurrentRuleset(systemClock);
  current.install(at(10), "snapshot");
  const apply = () =>
    current.apply({ type: "patch", revision, previous, publishedAt: 0, ackWithinMs: 0, flags: {}, segments: {} });
  if (isTaken) expect(apply()).toMatchObject({ revision, previous: 10 });
  else expect(apply).toThrow("another revision");
  expect(current.revision).toBe(isTaken ? revision : 10);
});
