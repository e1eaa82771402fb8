import { env } from "cloudflare:workers";
import type { Flag, Ruleset, Segment } from "@bunting/core";
import { eq, type SQL } from "drizzle-orm";
import { expect, test } from "vitest";
import { findHead } from "../../../workers/store/environments.ts";
import type { Documents, Head } from "../../../workers/store/outbox/change.ts";
import { commit, retryingLostRaces } from "../../../workers/store/outbox/commit.ts";
import { documentBytes, newSum, RulesetTooLarge, sizeStatements } from "../../../workers/store/outbox/ruleset-size.ts";
import * as table from "../../../workers/store/schema/index.ts";
import { type Api, newFlag, newProject, newToken } from "../../support/admin.ts";
import { db, flag, newEnvironment } from "../../support/environment.ts";

const edit = (head: Head, documents: Partial<Documents>, maxRulesetBytes?: number) =>
  commit(db, {
    statements: [],
    edits: [{ head, documents }],
    audit: [],
    now: Date.now(),
    ...(maxRulesetBytes !== undefined && { maxRulesetBytes }),
  });

const headOf = async (environmentId: string) => (await findHead(db, environmentId)) as Head;

async function countedIn(environmentId: string): Promise<number | undefined> {
  const [row] = await db.select().from(table.environments).where(eq(table.environments.id, environmentId));
  return row?.rulesetBytes;
}

const segment = (key: string, included: string[]): Segment => ({ key, version: 1, included, excluded: [], rules: [] });
const wide = (key: string, length: number): Flag => flag(key, { rules: [], experiment: "é".repeat(length) });

test("at the limit exactly a write lands, a byte more is refused with the largest named, and nothing of it is written", async () => {
  const head = await newEnvironment();
  const { environmentId } = head;
  const [a, s] = [wide("a", 50), segment("s", ["one", "two", "three"])];
  const max = documentBytes(a) + documentBytes(s);
  await edit(head, { flags: { a } }, max);
  const next = await headOf(environmentId);
  await expect(edit(next, { segments: { s: segment("s", ["one", "two", "three!"]) } }, max)).rejects.toMatchObject({
    name: "RulesetTooLarge",
    environments: [
      {
        environmentId,
        bytes: max + 1,
        largest: [
          { kind: "flag", key: "a", bytes: documentBytes(a) },
          { kind: "segment", key: "s", bytes: documentBytes(s) + 1 },
        ],
      },
    ],
  });
  expect([await headOf(environmentId), await countedIn(environmentId)]).toEqual([next, documentBytes(a)]);
  await edit(next, { segments: { s } }, max);
  expect(await countedIn(environmentId)).toBe(max);
});

test("what weighs UTF-8 bytes is counted in UTF-8 bytes", () => {
  const text = JSON.stringify({ ...flag("a"), on: false, version: 0, experiment: "é🙂" });
  expect(documentBytes(flag("a", { experiment: "é🙂" }))).toBe(new TextEncoder().encode(text).byteLength);
});

test("an environment that is too large already may be switched and made smaller, and not made larger", async () => {
  const head = await newEnvironment();
  const { environmentId } = head;
  const [a, b] = [wide("a", 100), wide("b", 100)];
  await edit(head, { flags: { a, b } });
  const max = 100;
  await edit(await headOf(environmentId), { flags: { a: { ...a, on: false, version: 1_000_000 } } }, max);
  await edit(await headOf(environmentId), { flags: { a: wide("a", 99) } }, max);
  await expect(edit(await headOf(environmentId), { flags: { a } }, max)).rejects.toBeInstanceOf(RulesetTooLarge);
  // One that grows beside one that shrinks as much is no growth.
  await edit(await headOf(environmentId), { flags: { a, b: wide("b", 99) } }, max);
  await edit(await headOf(environmentId), { flags: { a: null } }, max);
  expect(await countedIn(environmentId)).toBe(documentBytes(wide("b", 99)));
  await edit(await headOf(environmentId), { flags: { b: null } }, max);
  expect(await countedIn(environmentId)).toBe(0);
});

test("over several environments nothing is written anywhere when one would be too large", async () => {
  const [small, large] = [await newEnvironment(), await newEnvironment()];
  await edit(large, { flags: { a: wide("a", 500) } });
  const heads = [small, await headOf(large.environmentId)];
  const edits = heads.map((head) => ({ head, documents: { flags: { b: wide("b", 300) } } }));
  const written = commit(db, { statements: [], edits, audit: [], maxRulesetBytes: 1_500, now: Date.now() });
  await expect(written).rejects.toMatchObject({ environments: [{ environmentId: large.environmentId }] });
  expect([await countedIn(small.environmentId), await headOf(small.environmentId)]).toEqual([0, small]);
});

test("writers who race for the last place count exactly, and no more land than fit", async () => {
  const { environmentId } = await newEnvironment();
  const documents = Array.from({ length: 12 }, (_, index) => wide(`flag-${index + 10}`, 100));
  const max = 7 * documentBytes(documents[0]!) + 20;
  const landed = await Promise.allSettled(
    documents.map((one) =>
      retryingLostRaces(async () => edit(await headOf(environmentId), { flags: { [one.key]: one } }, max)),
    ),
  );
  expect(landed.filter(({ status }) => status === "fulfilled")).toHaveLength(7);
  expect(await countedIn(environmentId)).toBe(max - 20);
  const rows = await db.select().from(table.documentSizes).where(eq(table.documentSizes.environmentId, environmentId));
  expect(rows.reduce((sum, { bytes }) => sum + bytes, 0)).toBe(max - 20);
});

/** By the environment's key: what D1 has counted, and what the hub really publishes. */
async function weights(api: Api, project: string): Promise<Record<string, [number | undefined, number]>> {
  const { body } = await api("GET", `/projects/${project}/environments`);
  const pairs = body.items.map(async ({ id, key }: { id: string; key: string }) => {
    const parts = await env.HUB.get(env.HUB.idFromName(id)).snapshot();
    const { flags, segments } = JSON.parse(parts!.ruleset) as Ruleset;
    const published = [...Object.values(flags), ...Object.values(segments)].map(documentBytes);
    return [key, [await countedIn(id), published.reduce((sum, bytes) => sum + bytes, 0)]];
  });
  return Object.fromEntries(await Promise.all(pairs));
}

test("through a flag's and a segment's whole life the count is what the hub publishes", async () => {
  const api = await newToken();
  const project = await newProject(api);
  const path = `/projects/${project}`;
  const agree = async () => {
    const found = Object.values(await weights(api, project));
    expect(found.map(([counted]) => counted)).toEqual(found.map(([, published]) => published));
    return found.map(([counted]) => counted as number);
  };
  const one = await newFlag(api, project, "one");
  await newFlag(api, project, "two", { type: "string", variations: [{ key: "a", value: "é" }] });
  const rules = [{ conditions: [{ segment: ["s"] }], serve: { variation: "on" } }];
  await api("POST", `${path}/environments/production/segments`, { key: "s", included: ["ada"] });
  await api("PATCH", `${one}/environments/production`, { on: true, rules });
  await api("PATCH", `${path}/environments/production/segments/s`, { included: ["ada", "grace"] });
  expect((await agree())[0]).toBeLessThan((await agree())[1] as number);
  await api("PATCH", `${path}/flags/two`, { variations: [{ key: "a", value: "longer" }] });
  await api("POST", `${path}/environments`, { key: "staging" });
  expect(new Set(await agree()).size).toBe(2);
  await api("POST", `${one}/archive`, {});
  await api("POST", `${path}/environments`, { key: "later" });
  await agree();
  await api("POST", `${one}/unarchive`, {});
  await api("POST", `${one}/environments/production/kill`, { reason: "x" });
  await agree();
  await api("PATCH", `${path}/environments/production/segments/s/members`, { add: ["big"] });
  await api("PATCH", `${one}/environments/production`, { rules: [] });
  await api("DELETE", `${path}/environments/production/segments/s`);
  expect((await agree()).length).toBe(4);
});

test("20 MB of flags are accepted over HTTP, more is a 413 that names the largest, and a kill is no write of that kind", async () => {
  const api = await newToken();
  const project = await newProject(api);
  const path = `/projects/${project}`;
  const variations = Array.from({ length: 4 }, (_, n) => ({ key: `v${n}`, value: "x".repeat(65_300) }));
  for (let n = 0; n < 80; n++) {
    const { status } = await api("POST", `${path}/flags`, { key: `large-${n}`, type: "string", variations });
    expect([n, status]).toEqual([n, 201]);
  }
  await api("POST", `${path}/flags`, { key: "small", type: "string", variations: [{ key: "v0", value: "" }] });
  const there = `${path}/flags/large-0/environments/production`;
  const values = Array.from({ length: 40_000 }, (_, n) => `user-${n}`);
  const refused = [
    ["POST", `${path}/flags`, { key: "large-80", type: "string", variations }],
    ["POST", `${path}/environments/production/segments`, { key: "s", included: values }],
  ] as const;
  for (const [method, where, body] of refused) {
    const answer = await api(method, where, body);
    expect([method, where, answer.status]).toEqual([method, where, 413]);
    expect(answer.body).toMatchObject({ code: "ruleset-too-large", detail: expect.stringContaining("(256 KB)") });
    expect(answer.body.environments[0].largest).toHaveLength(10);
  }
  const targets = [{ variation: "v0", values: values.slice(0, 15_000) }];
  const enlarged = await api("PATCH", `${path}/flags/small/environments/production`, { targets });
  expect([enlarged.status, enlarged.body.code]).toEqual([413, "ruleset-too-large"]);
  const fewer = [{ variation: "v0", values: values.slice(0, 5_000) }];
  const inAnHour = Date.now() + 3_600_000;
  const small = { environment: "production", flag: "small" };
  for (const [method, where, body] of [
    ["PATCH", `${path}/flags/small/environments/production?dryRun=true`, { targets }],
    ["POST", `${path}/schedules`, { ...small, at: inAnHour, fields: { targets: fewer } }],
  ] as const) {
    const { status, body: answer } = await api(method, where, body);
    expect([where, status, answer.code]).toEqual([where, 413, "ruleset-too-large"]);
  }
  const longer = [{ key: "v0", value: "x".repeat(60_000) }];
  const everywhere = await api("PATCH", `${path}/flags/small`, { variations: longer });
  const named = everywhere.body.environments.map(({ environment }: { environment: string }) => environment).sort();
  expect([everywhere.status, named]).toEqual([413, ["development", "production"]]);
  const fitting = { key: "s", included: values.slice(0, 10) };
  expect((await api("POST", `${path}/environments/production/segments`, fitting)).status).toBe(201);
  const segmentPath = `${path}/environments/production/segments/s`;
  expect((await api("PATCH", segmentPath, { included: values })).body.code).toBe("ruleset-too-large");
  expect((await api("PATCH", there, { on: true })).status).toBe(200);
  expect((await api("POST", `${there}/off`, {})).status).toBe(200);
  expect((await api("POST", `${there}/kill`, { reason: "x" })).status).toBe(200);
  expect((await api("GET", segmentPath)).body.version).toBe(1);
  expect((await api("POST", `${path}/flags/large-1/archive`, {})).status).toBe(200);
  expect((await api("PATCH", segmentPath, { included: values.slice(0, 10_000) })).status).toBe(200);
  const back = await api("POST", `${path}/flags/large-1/unarchive`, {});
  expect([back.status, back.body.code]).toEqual([413, "ruleset-too-large"]);
  const { items } = (await api("GET", `/audit?project=${project}&action=flag.archive`)).body;
  const reverted = await api("POST", `/audit/${items[0].id}/revert?dryRun=true`, {});
  expect([reverted.status, reverted.body.code]).toEqual([413, "ruleset-too-large"]);
  const long = { key: "long", included: values };
  await api("POST", `${path}/environments`, { key: "roomy" });
  for (let n = 2; n < 8; n++) await api("POST", `${path}/flags/large-${n}/archive`, {});
  for (const [environment, key] of [
    ["roomy", "long"],
    ["roomy", "longer"],
    ["production", "there"],
    ["production", "here"],
  ]) {
    const { status } = await api("POST", `${path}/environments/${environment}/segments`, { ...long, key });
    expect([environment, key, status]).toEqual([environment, key, 201]);
  }
  const asked = { from: "roomy", to: "production", items: [{ segment: "long" }, { segment: "longer" }] };
  const promoted = await api("POST", `${path}/promote?dryRun=true`, asked);
  expect([promoted.status, promoted.body.code]).toEqual([413, "ruleset-too-large"]);
  expect((await api("POST", `${path}/promote`, asked)).body.code).toBe("ruleset-too-large");
}, 120_000);

test("an environment that would begin with more than 20 MB is not made", async () => {
  const api = await newToken();
  await api("POST", "/projects", { key: "without-environments" });
  const path = "/projects/without-environments";
  const variations = Array.from({ length: 4 }, (_, n) => ({ key: `v${n}`, value: "x".repeat(65_300) }));
  for (let n = 0; n < 81; n++) await api("POST", `${path}/flags`, { key: `large-${n}`, type: "string", variations });
  const { status, body } = await api("POST", `${path}/environments`, { key: "first" });
  expect([status, body.code, body.environments[0].environment]).toEqual([413, "ruleset-too-large", "first"]);
  expect((await api("GET", `${path}/environments`)).body.items).toEqual([]);
  await api("POST", `${path}/flags/large-7/archive`, {});
  expect((await api("POST", `${path}/environments`, { key: "first" })).status).toBe(201);
}, 120_000);

test("a write looks at the documents that it changes, however many there are: ten thousand", async () => {
  const { environmentId } = await newEnvironment();
  await env.DB.prepare(
    `WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)
     INSERT INTO document_sizes SELECT ?, 'flag', 'flag-' || i, 300 FROM n`,
  )
    .bind(environmentId)
    .run();
  const scan = await env.DB.prepare("SELECT sum(bytes) FROM document_sizes").run();
  expect(scan.meta.rows_read).toBeGreaterThanOrEqual(10_000);
  const sizes = [{ kind: "flag" as const, key: "flag-5000", bytes: 400 }];
  const there = eq(table.environments.id, environmentId);
  const sum = await db
    .update(table.environments)
    .set({ rulesetBytes: newSum(environmentId, sizes, 1_000) })
    .where(there);
  expect(await countedIn(environmentId)).toBe(100);
  expect(sum.meta.rows_read).toBeLessThan(20);
  const [upsert] = sizeStatements(db, environmentId, sizes);
  const written = (await db.run((upsert as unknown as { getSQL(): SQL }).getSQL())) as D1Result;
  expect(written.meta.rows_read).toBeLessThan(20);
});
