/** One flag from its first day to the list of those that have done their work: all parts of the management plane together. */
import { createExecutionContext } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { Hono } from "hono";
import { afterEach, expect, test, vi } from "vitest";
import { adminApi } from "../../../workers/admin/api.ts";
import { runDue } from "../../../workers/admin/due.ts";
import { root as administrator, BOOLEAN, openContract } from "../../support/admin.ts";
import { evaluatorOf } from "../../support/big-segment.ts";

const DAY = 86_400_000;
const START = Date.now();
const ORIGIN = "https://bunting.test/api/v1";
const app = new Hono().route("/api/v1", adminApi({ now: () => clock }));
let clock = START;
let environmentId: string;

/** What D1 and the hub note down is of the same day. */
function day(number: number) {
  clock = START + number * DAY;
  vi.setSystemTime(clock);
}
afterEach(() => vi.useRealTimers());

/** Somebody who works with the management plane on the day that it is. */
async function person(fields: object) {
  const { body } = await administrator("POST", "/tokens", fields);
  return async (method: string, path: string, sent?: unknown) => {
    const request = new Request(`${ORIGIN}${path}`, {
      method,
      headers: { authorization: `Bearer ${body.token}`, "content-type": "application/json" },
      ...(sent !== undefined && { body: JSON.stringify(sent) }),
    });
    const response = await app.fetch(request, env, createExecutionContext());
    const { status, headers } = response;
    const text = await response.text();
    (await openContract()).check(method, path, { status, headers, text });
    return { status, body: text === "" ? null : JSON.parse(text) };
  };
}

const root = await person({ name: "Root", role: "admin" });
const ed = await person({ name: "Ed", role: "editor" });
const ann = await person({ name: "Ann", role: "approver" });

const project = "/projects/life";
const flag = `${project}/flags/new-checkout`;
const production = `${flag}/environments/production`;
const development = `${flag}/environments/development`;
const named = { environment: "production", flag: "new-checkout" };
const serving = (on: number) => ({ split: { weights: { on, off: 100_000 - on } } });
const rule = (id: string, attribute: string, value: string, variation: string) => ({
  id,
  conditions: [{ attribute, op: "in", values: [value] }],
  serve: { variation },
});
const VISITORS = Array.from({ length: 400 }, (_, index) => `user-${index}`);

/** Who of a crowd an SDK that starts now serves `on` in production. */
async function servedOn(more: object = {}): Promise<string[]> {
  const evaluator = await evaluatorOf(environmentId);
  const isOn = (targetingKey: string) =>
    evaluator.evaluate("new-checkout", { targetingKey, ...more }, null).value === true;
  return VISITORS.filter(isOn);
}

/** Nobody who had it has lost it, and it has come to about so many percent. */
async function expectMore(percent: number, before: string[]): Promise<string[]> {
  const now = await servedOn();
  expect(before.filter((user) => !now.includes(user))).toEqual([]);
  expect(Math.abs(now.length - (VISITORS.length * percent) / 100)).toBeLessThan(VISITORS.length / 20);
  return now;
}

/** Ed may not, asks Ann, and publishes what she has approved. */
async function approved(title: string, instructions: object[]) {
  const refused = await ed("POST", `${production}/instructions`, { instructions });
  expect([refused.status, refused.body.code]).toEqual([403, "approval-required"]);
  const asked = await ed("POST", `${project}/change-requests`, {
    title,
    change: { operation: "editTargeting", path: named, body: { instructions } },
  });
  const request = `${project}/change-requests/${asked.body.id}`;
  expect((await ed("POST", `${request}/publish`)).status).toBe(403);
  await ann("POST", `${request}/approve`, { revision: 1 });
  const { status, body } = await ed("POST", `${request}/publish`);
  expect([status, body.status]).toEqual([200, "published"]);
}

test("the whole life of a flag (R6, R9–R12, X3)", async () => {
  vi.useFakeTimers({ toFake: ["Date"] });

  day(0);
  await root("POST", "/projects", { key: "life" });
  for (const key of ["production", "development"]) await root("POST", `${project}/environments`, { key });
  const { body: sdk } = await root("POST", `${project}/environments/production/keys`, { kind: "server" });
  environmentId = `env_${sdk.key.split("_")[2]}`;
  await root("POST", `${project}/policies`, {
    key: "half",
    name: "Half of all users, or more",
    environments: ["production"],
    share: 50_000,
    approvers: { role: "approver" },
    approvals: 1,
    bypass: "admin",
  });
  await ed("POST", `${project}/flags`, { key: "new-checkout", type: "boolean", variations: BOOLEAN, temporary: true });

  // It is tried out in development, and production is given the rule for the staff while the flag is off there.
  await ed("PATCH", development, { on: true, rules: [rule("staff", "group", "staff", "on")], fallthrough: serving(0) });
  const given = await ed("POST", `${project}/promote`, {
    from: "development",
    to: "production",
    items: [{ flag: "new-checkout", parts: ["rules", "fallthrough"] }],
  });
  expect(given.status).toBe(200);
  expect(await servedOn({ group: "staff" })).toEqual([]);

  // Turning it on is of concern to everybody: Ann looks at it.
  day(1);
  await approved("A tenth", [{ kind: "turnOn" }, { kind: "setServe", serve: serving(10_000) }]);
  expect(await servedOn({ group: "staff" })).toEqual(VISITORS);
  const tenth = await expectMore(10, []);

  // All the rest at once would need an approval; what is less than half of all users Ed does himself.
  day(2);
  const steps = [{ weight: 25_000, forMs: DAY }, { weight: 50_000 }];
  const ramp = { ...named, variation: "on", reason: "It looks good" };
  const greedy = await ed("POST", `${project}/ramps`, { ...ramp, steps: [steps[0], { weight: 100_000 }] });
  expect([greedy.status, greedy.body.code]).toEqual([403, "approval-required"]);
  const begun = await ed("POST", `${project}/ramps`, { ...ramp, steps });
  expect(begun.status).toBe(201);
  const quarter = await expectMore(25, tenth);

  // Root, in a hurry, takes it from those who pay; the way back is in the audit log, and the ramp goes on meanwhile.
  day(2.5);
  const bad = rule("bad", "plan", "pro", "off");
  await root("POST", `${production}/instructions`, { instructions: [{ kind: "addRule", rule: bad }] });
  expect(await servedOn({ plan: "pro" })).toEqual([]);
  expect(await servedOn()).toEqual(quarter);
  const { body: latest } = await root("GET", `/audit?project=life&limit=1`);
  expect(latest.items[0]).toMatchObject({ actor: "Root", bypassed: ["half"] });
  const reverted = await root("POST", `/audit/${latest.items[0].id}/revert`, { reason: "Not those who pay" });
  expect(reverted.status).toBe(200);
  expect(await servedOn({ plan: "pro" })).toEqual(quarter);

  day(3);
  await runDue(env, () => clock);
  await expectMore(50, quarter);
  expect((await root("GET", `${project}/ramps/${begun.body.id}`)).body).toMatchObject({ status: "finished" });

  // The other half is half of all users.
  day(5);
  await approved("Everybody", [{ kind: "setServe", serve: { variation: "on" } }]);
  expect(await servedOn()).toEqual(VISITORS);

  // A kill asks nobody, is looked at afterwards, and what comes back is what there was.
  day(6);
  const killed = await ed("POST", `${production}/kill`, { reason: "Orders are lost" });
  expect([killed.status, killed.body.pending]).toEqual([200, undefined]);
  expect(await servedOn({ group: "staff" })).toEqual([]);
  const { body: reviews } = await ann("GET", `${project}/kill-reviews?status=open`);
  const review = `${project}/kill-reviews/${reviews.items[0].id}`;
  expect((await ann("POST", `${review}/close`, { comment: "They were" })).status).toBe(200);
  day(7);
  expect((await ed("POST", `${production}/restore`, { reason: "Fixed" })).status).toBe(200);
  expect(await servedOn()).toEqual(VISITORS);

  // The rule for the staff has no work left: gone in development, compared, and promoted. It moves nobody.
  day(8);
  await ed("PATCH", development, { rules: [], fallthrough: { variation: "on" } });
  const { body: differences } = await ed("GET", `${project}/compare?from=development&to=production`);
  expect(differences.items).toMatchObject([{ key: "new-checkout", parts: ["rules"], moved: [], promotable: true }]);
  const [{ versions }] = differences.items;
  const items = [{ flag: "new-checkout", versions }];
  const promoted = await ed("POST", `${project}/promote`, { from: "development", to: "production", items });
  expect(promoted.status).toBe(200);
  expect((await root("GET", production)).body.rules).toEqual([]);
  expect(await servedOn()).toEqual(VISITORS);

  day(9);
  const references = [{ flag: "new-checkout", path: "checkout.ts", line: 12 }];
  const code = { repository: "shop", commit: "0123abc", branch: "main", references };
  expect((await root("PUT", `${project}/code-references`, code)).status).toBe(200);
  const stale = async () => (await ed("GET", `${project}/environments/production/stale`)).body.items;
  day(36);
  expect(await stale()).toEqual([]);
  day(8 + 45);
  expect(await stale()).toEqual([
    {
      key: "new-checkout",
      environment: "production",
      because: ["full"],
      servedVariation: "on",
      servedShare: 100_000,
      fullSince: START + 7 * DAY,
      daysAtFull: 46,
      lastModified: START + 8 * DAY,
      lastEvaluated: null,
      experiment: null,
      codeReferences: 1,
    },
  ]);

  // In production; what happened in development is told there.
  const { body: log } = await root("GET", "/audit?project=life&environment=production&limit=100");
  type Entry = { action: string; actor: string; timestamp: number };
  const entries = log.items.map(
    ({ action, actor, timestamp }: Entry) => `${(timestamp - START) / DAY} ${actor} ${action}`,
  );
  expect(entries.toReversed()).toEqual([
    "0 Root environment.create",
    "0 Root key.create",
    "0 Ed flag.promote",
    "1 Ed change-request.open",
    "1 Ann change-request.approve",
    "1 Ed flag.update",
    "1 Ed change-request.publish",
    "2 Ed ramp.create",
    "2 Ed flag.update",
    "2.5 Root flag.update",
    "2.5 Root flag.revert",
    "3 Ed ramp.finish",
    "3 Ed flag.update",
    "5 Ed change-request.open",
    "5 Ann change-request.approve",
    "5 Ed flag.update",
    "5 Ed change-request.publish",
    "6 Ed flag.kill",
    "6 Ed kill-review.open",
    "6 Ann kill-review.close",
    "7 Ed flag.restore",
    "8 Ed flag.promote",
  ]);
});
