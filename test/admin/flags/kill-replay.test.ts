/** Nobody who presses kill again is told "done" while the flag is on. */
import { env } from "cloudflare:workers";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { hubOf } from "../../../workers/admin/write/hub-client.ts";
import { newFlag, newProject, newToken } from "../../support/admin.ts";

const ed = await newToken({ name: "Ed", role: "editor" });
const ann = await newToken({ name: "Ann", role: "editor" });
const root = await newToken();

async function started() {
  const project = await newProject(root);
  const there = `${await newFlag(root, project, "pay")}/environments/production`;
  const kill = (key?: string, by = ed, query = "?wait=0") =>
    by("POST", `${there}/kill${query}`, { reason: "Orders fail" }, key === undefined ? {} : { "idempotency-key": key });
  const restore = (key?: string, by = ann) =>
    by("POST", `${there}/restore`, { reason: "Fixed" }, key === undefined ? {} : { "idempotency-key": key });
  const killed = async () => (await root("GET", there)).body.killed;
  return { project, there, kill, restore, killed };
}

describe("a kill with an Idempotency-Key", () => {
  test("that is repeated while the flag is killed is done once, and marked as replayed", async () => {
    const { kill } = await started();
    const first = await kill("k1");
    expect([first.status, first.headers.get("idempotency-replayed"), first.body.replayed]).toEqual([
      200,
      null,
      undefined,
    ]);
    const again = await kill("k1");
    expect([again.status, again.headers.get("idempotency-replayed")]).toEqual([200, "true"]);
    expect(again.body).toEqual({ ...first.body, replayed: true, pending: undefined });
  });

  test("that is repeated after somebody restored the flag is refused, and says who did, when, and what to do", async () => {
    const { kill, restore, killed } = await started();
    await kill("k1");
    await restore();
    const again = await kill("k1");
    expect([again.status, again.headers.get("idempotency-replayed")]).toEqual([409, "true"]);
    expect(again.body).toMatchObject({
      code: "restored-since",
      detail: expect.stringMatching(
        /used before.*killed the flag pay\. Ann has restored it since\. The flag is not killed\..*new Idempotency-Key/,
      ),
      flag: "pay",
      environment: "production",
      killed: null,
      replayed: true,
      supersededBy: { action: "restore", by: "Ann", at: expect.any(Number), reason: "Fixed" },
    });
    expect(await killed()).toBeNull();
    // As it says: another key kills it, and so does none.
    expect((await kill("k2")).body.killed).toMatchObject({ by: "Ed" });
    await restore();
    expect((await kill()).body.killed).toMatchObject({ by: "Ed" });
  });

  test("that is repeated after it was restored and killed by somebody else says whose kill it is now", async () => {
    const { kill, restore } = await started();
    await kill("k1");
    await restore();
    await kill("k3", ann);
    const again = await kill("k1");
    expect([again.status, again.body.replayed, again.body.killed.by]).toEqual([200, true, "Ann"]);
  });

  test("that changed nothing, as the flag was killed already, is refused too once that was lifted", async () => {
    const { kill, restore } = await started();
    await kill(undefined, ann);
    expect((await kill("k1")).body.killed.by).toBe("Ann");
    await restore();
    expect((await kill("k1")).body.code).toBe("restored-since");
  });

  test("is not used up by a dry run, and a dry run of it says what a new kill would do", async () => {
    const { kill, restore, killed } = await started();
    const dry = await kill("k1", ed, "?dryRun=true");
    expect(dry.body).toEqual({
      flag: "pay",
      environment: "production",
      killed: { by: "Ed", at: expect.any(Number), reason: "Orders fail" },
      preview: { changes: { killed: { from: false, to: true } }, moved: [], share: 0, policies: [] },
    });
    expect(await killed()).toBeNull();
    expect((await kill("k1")).headers.get("idempotency-replayed")).toBeNull();
    expect((await kill("k1", ed, "?dryRun=true")).body).toMatchObject({
      killed: { by: "Ed" },
      preview: { changes: {} },
    });
    await restore();
    expect((await kill("k1", ed, "?dryRun=true")).body.preview.changes).toEqual({ killed: { from: false, to: true } });
  });
});

test("a restore that is repeated after another kill is refused, and says whose", async () => {
  const { kill, restore, killed } = await started();
  await kill();
  expect((await restore("r1")).body.killed).toBeNull();
  expect((await restore("r1")).body).toMatchObject({ killed: null, replayed: true });
  await kill();
  const again = await restore("r1");
  expect([again.status, again.body.code, again.body.supersededBy]).toMatchObject([
    409,
    "killed-since",
    { action: "kill", by: "Ed", reason: "Orders fail" },
  ]);
  expect(again.body.killed).toMatchObject({ by: "Ed" });
  expect(await killed()).toMatchObject({ by: "Ed" });
});

test("whatever is pressed in whatever order, a success means that the flag is as was asked", async () => {
  const { there, kill, restore } = await started();
  const name = (await root("GET", there.replace(/\/flags\/.*\/environments/, "/environments"))).body;
  const step = fc.record({ isKill: fc.boolean(), key: fc.option(fc.constantFrom("a", "b"), { nil: undefined }) });
  let run = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 2, maxLength: 8 }), async (steps) => {
      run++;
      for (const { isKill, key } of steps) {
        const unique = key && `${run}-${isKill}-${key}`;
        const { status, body } = await (isKill ? kill(unique, root) : restore(unique, root));
        const { killed } = await hubOf(env, { id: name.id, location: null }).kills();
        const isKilled = Object.hasOwn(killed, "pay");
        expect([status, isKilled === isKill]).toEqual(status === 200 ? [200, true] : [409, false]);
        expect(body.killed !== null).toBe(isKilled);
      }
    }),
    { numRuns: 25 },
  );
});
