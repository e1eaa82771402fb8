/** Faults between a commit and its publishing do not change the history: every change is published once (Q8). */
import { evictDurableObject, runDurableObjectAlarm } from "cloudflare:test";
import { env } from "cloudflare:workers";
import type { Flag } from "@bunting/core";
import type { PatchMessage } from "@bunting/core/wire";
import fc from "fast-check";
import { expect, test } from "vitest";
import type { Change } from "../../workers/store/outbox/change.ts";
import { commitDocuments, flag, newEnvironment } from "../support/environment.ts";
import { killRequest } from "../support/kill.ts";

const KEYS = ["a", "b", "c"];
const key = fc.constantFrom(...KEYS);
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant("commit" as const), key, isPublished: fc.boolean() }) },
  // A late, repeated or reordered publish call: any change made so far, counted back from the newest.
  { weight: 4, arbitrary: fc.record({ do: fc.constant("publish" as const), back: fc.nat(5) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constantFrom("kill" as const, "restore" as const), key }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom("crash" as const, "alarm" as const, "sweep" as const) }) },
);

test("commits, publish calls that are lost, late, repeated or reordered, kills, crashes and alarms", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 25 }), fc.boolean(), async (steps, atOnce) => {
      let head = await newEnvironment();
      const { environmentId } = head;
      const hub = () => env.HUB.get(env.HUB.idFromName(environmentId));
      await hub().create(environmentId);
      const made: Change[] = [];
      const killed = new Set<string>();
      const wanted: Record<string, number> = {};
      const underWay: Promise<unknown>[] = [];
      const published = async (call: Promise<unknown>) => (atOnce ? void underWay.push(call) : void (await call));
      for (const one of steps) {
        if (one.do === "commit") {
          const version = made.length + 1;
          const next = await commitDocuments(head, { flags: { [one.key]: flag(one.key, { version }) } });
          head = next.head;
          made.push(next.change);
          wanted[one.key] = version;
          if (one.isPublished) await published(hub().publish(next.change));
        } else if (one.do === "publish") {
          const change = made.at(-1 - one.back);
          if (change !== undefined) await published(hub().publish(change));
        } else if (one.do === "kill" || one.do === "restore") {
          const answer = await hub().setKilled(killRequest(one.key, one.do));
          expect(answer.outcome).toBe(one.key in wanted ? "done" : "unknown-flag");
          if (answer.outcome === "done" && one.do === "kill") killed.add(one.key);
          else killed.delete(one.key);
        } else if (one.do === "crash") {
          await Promise.all(underWay.splice(0));
          // Only a running object can crash.
          await hub().since(1);
          await evictDurableObject(hub());
        } else if (one.do === "alarm") await runDurableObjectAlarm(hub());
        else await hub().catchUp();
      }
      await Promise.all(underWay);
      expect(await hub().catchUp()).toMatchObject({ version: made.length });

      const { revision, ruleset } = (await hub().snapshot())!;
      const flags = JSON.parse(ruleset).flags as Record<string, Flag>;
      const served = Object.entries(flags).map(([name, { version, killed: off }]) => [name, version, off]);
      expect(served).toEqual(
        KEYS.filter((name) => name in wanted).map((name) => [name, wanted[name], killed.has(name)]),
      );
      const patches = (await hub().patches(1)).map((text) => JSON.parse(text) as PatchMessage);
      expect(patches.map(({ previous }) => previous)).toEqual(patches.map((_, index) => index + 1));
      expect(patches.at(-1)?.revision ?? 1).toBe(revision);
      // Every change is one revision, in order; all other revisions are kills.
      const versions = patches.flatMap(({ flags: changed }) =>
        Object.values(changed).map((document) => document!.version),
      );
      const edits = versions.filter((version, index) => versions.indexOf(version) === index);
      expect(edits).toEqual(made.map(({ version }) => version));
    }),
    { numRuns: 25 },
  );
}, 60_000);
