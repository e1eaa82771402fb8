/**
 * Everything that the management API asks D1, found by asking it everything: each list and read of the OpenAPI document with each
 * query parameter, alone and in pairs, its first page and its second; a write of each kind; a sweep.
 */
import { createScheduledController } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { beforeAll, expect, test } from "vitest";
import { type Api, BOOLEAN, newFlag, newProject, newToken, openContract } from "../support/admin.ts";
import worker from "../support/worker.ts";

type Parameter = { name: string; in: string; required?: boolean; schema: { enum?: string[]; type?: string } };

/** Every statement that anybody prepares here, with a number of parameters that it takes. */
const statements = new Map<string, number>();

function listen(): void {
  const { prepare } = env.DB;
  const listening = Object.getPrototypeOf(env.DB) as D1Database;
  listening.prepare = function (this: D1Database, query: string) {
    const statement = prepare.call(this, query);
    statements.set(query, statements.get(query) ?? 0);
    const { bind } = statement;
    statement.bind = (...values: unknown[]) => {
      statements.set(query, values.length);
      return bind.apply(statement, values);
    };
    return statement;
  };
}

const tokens: Api[] = [];
let asked = 0;
const api: Api = (...request) => tokens[asked++ % tokens.length]!(...request);

const ids: Record<string, string> = {};

beforeAll(async () => {
  for (let count = 0; count < 30; count++) tokens.push(await newToken());
  listen();
  await write();
  await read();
  await worker.scheduled(createScheduledController(), env);
}, 120_000);

/** One of each, by the names that paths have for them. */
async function write(): Promise<void> {
  const project = await newProject(api);
  const at = `/projects/${project}`;
  const production = `${at}/environments/production`;
  Object.assign(ids, {
    project,
    environment: "production",
    flag: "one",
    segment: "few",
    revision: "1",
    from: "production",
    to: "development",
  });
  for (const key of ["one", "two", "three"]) await newFlag(api, project, key, { tags: ["a", "b"], owner: "ada" });
  const there = `${at}/flags/one/environments/production`;
  const made = async (method: string, path: string, body: object = {}, headers: Record<string, string> = {}) => {
    const answer = await api(method, path, body, headers);
    expect([path, answer.status < 300 ? "" : answer.body]).toEqual([path, ""]);
    return answer.body;
  };
  for (const key of ["few", "many"]) await made("POST", `${production}/segments`, { key });
  await made("PATCH", `${production}/segments/few`, { included: ["u"] });
  await made("PATCH", `${production}/segments/many/members`, { add: ["u"] });
  const rules = [{ conditions: [{ segment: ["few"] }], serve: { variation: "on" } }];
  await made(
    "PATCH",
    there,
    { on: true, rules, prerequisites: [{ flag: "two", variations: ["off"] }] },
    { "idempotency-key": "k" },
  );
  await made("PATCH", there, { on: true }, { "idempotency-key": "k-2" });
  await made("PATCH", `${at}/flags/two`, {
    variations: [...BOOLEAN, { key: "z", value: true }].slice(0, 2),
    name: "Two",
  });
  await made("POST", `${at}/flags/bulk`, { action: "archive", keys: ["three"] });
  await made("POST", `${at}/flags/bulk`, { action: "unarchive", keys: ["three"] });
  await made("POST", `${at}/flags/three/archive`);
  await made("POST", `${at}/flags/three/unarchive`);
  await made("POST", `${there}/kill`, { reason: "r" });
  await made("POST", `${there}/restore`);
  await made("POST", `${there}/evaluate`, { context: { targetingKey: "u" } });
  await made("PUT", `${at}/code-references`, {
    ...{ repository: "r", commit: "abcdef0", branch: "b" },
    references: [{ flag: "one", path: "a.ts", line: 1 }],
  });
  await made("POST", `${at}/promote`, {
    from: "production",
    to: "development",
    items: [{ flag: "two" }, { segment: "few" }],
  });
  ids.key = (await made("POST", `${production}/keys`, { kind: "server", name: "k" })).id;
  await made("PATCH", `${production}/keys/${ids.key}`, { name: "other" });
  ids.token = (await made("POST", "/tokens", { name: "t", role: "viewer" })).id;
  const at60 = Date.now() + 60_000;
  const planned = { environment: "production", flag: "two" };
  await made("POST", `${at}/flags/two/environments/production/on`);
  const schedule = await made("POST", `${at}/schedules`, { ...planned, at: at60, fields: { on: true } });
  const steps = [{ weight: 5_000, forMs: 60_000 }, { weight: 50_000 }];
  const ramp = await made("POST", `${at}/ramps`, { ...planned, variation: "off", steps });
  await made("POST", `${at}/ramps/${ramp.id}/pause`);
  Object.assign(ids, { schedule: schedule.id, ramp: ramp.id, member: "u" });
  const turning = { operation: "turnFlagOff", path: { environment: "production", flag: "one" } };
  ids.changeRequest = (await made("POST", `${at}/change-requests`, { title: "t", change: turning })).id;
  await made("POST", `${at}/change-requests/${ids.changeRequest}/comments`, { comment: "c" });
  const naming = { operation: "updateFlag", path: { flag: "one" }, body: { name: "First" } };
  const later = await made("POST", `${at}/change-requests`, { title: "t", change: naming, publishAt: at60 });
  await made("POST", `${at}/change-requests/${later.id}/publish`);
  await made("POST", `${at}/policies`, { key: "p", tags: ["payment"], approvers: { role: "approver" }, approvals: 1 });
  ids.policy = "p";
  await newFlag(api, project, "paid", { tags: ["payment"] });
  await made("POST", `${at}/flags/paid/environments/production/kill`, { reason: "r" });
  const { items } = (await api("GET", `${at}/kill-reviews`)).body;
  ids.killReview = items[0]?.id;
  const entry = (await api("GET", `/audit?project=${project}&action=flag.update`)).body.items[0];
  ids.entry = String(entry.id);
  await made("POST", `/audit/${entry.id}/revert?force=true`);
  await made("POST", `${at}/environments`, { key: "brief" });
  await made("DELETE", `${at}/environments/brief`);
}

const SAMPLES: Record<string, string> = {
  tag: "a",
  q: "o",
  environment: "production",
  environments: "production,development",
  flag: "one",
  segment: "few",
  from: "1",
  to: "2000000000000",
};

async function read(): Promise<void> {
  const { document } = await openContract();
  for (const [path, item] of Object.entries(document.paths)) {
    const operation = item.get as { parameters?: Parameter[] } | undefined;
    if (operation === undefined) continue;
    const id = (name: string) => ids[name] ?? ids[/\/(\w+?)s?\/\{id\}/.exec(path)?.[1] ?? ""] ?? "x";
    const place = path.replace(/\{(\w+)\}/g, (_, name: string) => encodeURIComponent(id(name)));
    const isList = operation.parameters?.some(({ name }) => name === "limit");
    const queries = (operation.parameters ?? []).filter(
      ({ in: where, name }) => where === "query" && !["limit", "cursor"].includes(name),
    );
    const sample = ({ name, schema }: Parameter) =>
      schema.enum ?? [
        path.endsWith("/compare") ? ids[name]! : schema.type === "boolean" ? "true" : (SAMPLES[name] ?? "1"),
      ];
    const always = queries.filter(({ required }) => required).map((one) => `${one.name}=${sample(one)[0]}`);
    const some = queries
      .filter(({ required }) => !required)
      .map((one) => sample(one).map((value) => `${one.name}=${value}`));
    const pairs = some.flatMap(([one = ""], index) => some.slice(index + 1).map(([other = ""]) => [one, other]));
    let answered = false;
    for (const chosen of [[], ...some.flat().map((one) => [one]), ...pairs]) {
      const query = [...always, ...chosen, ...(isList ? ["limit=1"] : [])].join("&");
      const { body, status } = await api("GET", `${place}?${query}`);
      answered ||= status === 200 || body.code === "unknown-revision";
      const { nextCursor } = body ?? {};
      if (nextCursor) await api("GET", `${place}?${query}&cursor=${encodeURIComponent(nextCursor)}`);
    }
    expect([place, answered]).toEqual([place, true]);
  }
}

type Step = { id: number; parent: number; detail: string };

/** What is no table of D1's: lists that came with the question, and what was found before. */
const FOUND = /^SCAN (json_each|CONSTANT ROW|\(subquery-\d+\)|\d+ )|VIRTUAL TABLE/;

/** What hardly holds anything at any time: environments that lag, ramps that run. */
const WAITING = /^SCAN (environments USING INDEX environments_lagging|ramps USING INDEX ramps_due)$/;

function scans(sql: string, plan: Step[]): string[] {
  const made = new Set(plan.flatMap(({ detail }) => /^(?:CO-ROUTINE|MATERIALIZE) (\S+)/.exec(detail)?.[1] ?? []));
  return plan.flatMap(({ parent, detail, id }) => {
    const scanned = /^SCAN (\S+)/.exec(detail)?.[1];
    if (scanned === undefined || FOUND.test(detail) || WAITING.test(detail)) return [];
    // A graph as far as it is known, by its alias.
    if (made.has(scanned) || sql.includes(`reach ${scanned}\n`) || sql.includes(`reach ${scanned} JOIN`)) return [];
    // In the order of an index, by itself and up to a limit: the first page of a list.
    const beside = plan.filter(
      (one) => one.parent === parent && one.id !== id && /^(SCAN|SEARCH|USE TEMP)/.test(one.detail),
    );
    const isPage = / USING (COVERING )?INDEX /.test(detail) && beside.length === 0 && / limit /i.test(sql);
    return isPage ? [] : [detail];
  });
}

/** What may be put in order each time, because there is never much of it, or because it is hardly ever asked. */
const SORTED: [RegExp, string][] = [
  [/from "environments" where .?"environments"."project_id" = /, "fifty at most"],
  [/published_version" order by random/, "those that lag"],
  [/order by "flags"."bytes" desc/, "for a new environment, or one that was refused"],
  [/FULL JOIN/, "the segments of two environments that differ"],
  [/"picked"\) "weighed"/, "a page, or the entries of one key"],
  [/json_each\(\?\)( AS new, json_each\(new|$)/, "tags that were sent"],
];

test("no table is scanned, and none is sorted for a page of it", async () => {
  expect(statements.size).toBeGreaterThan(300);
  const unindexed: [string, string[]][] = [];
  for (const [sql, parameters] of [...statements]) {
    const { results } = await env.DB.prepare(`EXPLAIN QUERY PLAN ${sql}`)
      .bind(...Array(parameters).fill(null))
      .all<Step>();
    const sorts = results.filter(
      ({ detail }) => detail.includes("TEMP B-TREE FOR") && !SORTED.some(([of]) => of.test(sql)),
    );
    const wrong = [...scans(sql, results), ...sorts.map(({ detail }) => detail)];
    if (wrong.length > 0) unindexed.push([sql, wrong]);
  }
  expect(unindexed).toEqual([]);
});
