/** A ramp whose split somebody changes is held with that change, whichever way it was made. */
import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { runDue } from "../../../workers/admin/due.ts";
import { newFlag, newProject, newToken } from "../../support/admin.ts";

const MINUTE = 60_000;
const ada = await newToken({ name: "Ada", role: "admin" });
const project = await newProject(ada);
const ramps = `/projects/${project}/ramps`;
let count = 0;

/** A ramp from 5 to 100 % that has just begun. */
async function ramped() {
  const key = `held-${++count}`;
  const there = `${await newFlag(ada, project, key)}/environments/production`;
  await ada("PATCH", there, { on: true, fallthrough: { variation: "off" } });
  const steps = [{ weight: 5_000, forMs: 10 * MINUTE }, { weight: 100_000 }];
  const made = await ada("POST", ramps, { environment: "production", flag: key, variation: "on", steps });
  const read = async () => (await ada("GET", `${ramps}/${made.body.id}`)).body;
  const say = (verb: string) => ada("POST", `${ramps}/${made.body.id}/${verb}`, {});
  return { key, there, read, say };
}
const run = (at: number) => runDue(env, () => at);

test.each<
  [string, (there: string, key: string) => Promise<{ status: number; body: { warnings?: { code: string }[] } }>]
>([
  [
    "instructions",
    (there) =>
      ada("POST", `${there}/instructions`, {
        instructions: [{ kind: "setServe", serve: { variation: "on" } }],
      }),
  ],
  [
    "a whole configuration",
    (there) => ada("PUT", there, { on: true, offVariation: "off", fallthrough: { variation: "off" } }),
  ],
  [
    "a promotion",
    async (there, key) => {
      await ada("PATCH", there.replace("production", "development"), { on: true, fallthrough: { variation: "on" } });
      const items = [{ flag: key }];
      return ada("POST", `/projects/${project}/promote`, { from: "development", to: "production", items });
    },
  ],
])("is held by %s too", async (_, change) => {
  const { there, key, read, say } = await ramped();
  const { status, body } = await change(there, key);
  expect([status, body.warnings?.map(({ code }) => code)]).toEqual([200, ["ramp-held"]]);
  expect(await read()).toMatchObject({ status: "paused", pause: { code: "edited" } });
  expect((await say("resume")).body.code).toBe("edited");
});

test("is held by a revert of what it began with, and by a schedule", async () => {
  const { there, read, key } = await ramped();
  const at = Date.now() + MINUTE;
  const fields = { fallthrough: { variation: "on" } };
  await ada("POST", `/projects/${project}/schedules`, { environment: "production", flag: key, at, fields });
  expect((await read()).status).toBe("running");
  await run(at);
  expect(await read()).toMatchObject({ status: "paused", pause: { code: "edited" } });
  expect((await ada("GET", there)).body.fallthrough).toEqual({ variation: "on" });
});
