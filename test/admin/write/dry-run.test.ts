import { describe, expect, test } from "vitest";
import { newFlag, newProject, newToken } from "../../support/admin.ts";
import { settle, wholeState } from "../../support/state.ts";
import { operations, playStory, type Sentence, written } from "../../support/story.ts";

const writes = operations.filter((one) => one.method !== "get" && one.operationId !== "evaluateFlag");
const isWrite = new Set(writes.map(({ operationId }) => operationId));
/** What these plan for later is in their answers, dry or not. */
const PLANS_AHEAD = new Set(
  ["createSchedule", "updateSchedule", "createRamp", "createChangeRequest", "updateChangeRequest"].concat(
    operations.map(({ operationId }) => operationId).filter((id) => /ChangeRequest$|^requestChanges$/.test(id)),
  ),
);
const dry = ({ by, method, place, query, body, headers }: Sentence, more: object = {}) =>
  by(method, `${place}${query === "" ? "?" : `${query}&`}dryRun=true`, body, { ...headers, ...more });

test("every write takes ?dryRun, no read does, and no body has a field of that name", () => {
  expect(writes.length).toBeGreaterThan(40);
  for (const operation of operations) {
    const query = (operation.parameters ?? []).filter((one) => one.in === "query").map(({ name }) => name);
    expect([operation.operationId, query.includes("dryRun")]).toEqual([
      operation.operationId,
      isWrite.has(operation.operationId),
    ]);
    expect(JSON.stringify(operation.requestBody ?? {})).not.toMatch(/dryRun/i);
    if (isWrite.has(operation.operationId))
      expect(JSON.stringify(operation.responses[200])).toMatch(
        /schemas\/(Preview|RehearsedSchedule|BegunRamp|ChangeRequest|PublishedChangeRequest)"/,
      );
  }
});

test("the story of all operations has every write", () => {
  const there = new Set(written.map(({ operationId }) => operationId));
  expect(writes.map(({ operationId }) => operationId).filter((id) => !there.has(id))).toEqual([]);
});

test("a dry run of every write changes nothing anywhere, says what it would do, and is refused what the write is refused", async () => {
  let performed = 0;
  let refused = 0;
  await playStory(async (sentence) => {
    const { operationId, by, method, place, query, body, headers } = sentence;
    const send = () => by(method, `${place}${query}`, body, headers);
    if (!isWrite.has(operationId)) return send();
    await settle();
    const before = await wholeState();
    const key = { "idempotency-key": `dry-${performed}` };
    const rehearsed = await dry(sentence, key);
    expect([operationId, rehearsed.status, rehearsed.body]).toEqual([
      operationId,
      200,
      expect.objectContaining({
        preview: expect.objectContaining({ changes: expect.any(Object), moved: expect.any(Array), policies: [] }),
      }),
    ]);
    expect(JSON.stringify(rehearsed.body)).not.toMatch(/bnt_(api|srv|cli)_\w+_\w{20}|bnt_api_\w{20}/);
    expect([operationId, await wholeState()]).toEqual([operationId, before]);
    const done = await by(method, `${place}${query}`, body, { ...headers, ...key });
    expect([operationId, done.headers.get("idempotency-replayed")]).toEqual([operationId, null]);
    if (!PLANS_AHEAD.has(operationId)) expect([operationId, done.body?.preview]).toEqual([operationId, undefined]);
    performed++;
    // Once more: it is refused now, or would change nothing, and then both say the same.
    const again = await dry(sentence);
    if (again.status >= 400) {
      refused++;
      const really = await send();
      expect([operationId, again.status, again.body.code]).toEqual([operationId, really.status, really.body.code]);
    }
    return done;
  });
  expect(performed).toBe(written.filter(({ operationId }) => isWrite.has(operationId)).length);
  expect(refused).toBeGreaterThan(8);
}, 240_000);

describe("a dry run", () => {
  test("is told by the query alone: a body that asks for one is refused, of every operation", async () => {
    const api = await newToken();
    const project = await newProject(api);
    const flag = await newFlag(api, project, "f");
    const promotion = { from: "development", to: "production", items: [{ flag: "f" }] };
    for (const field of ["dryRun", "dryrun", "dry_run"]) {
      for (const [method, path, body] of [
        ["POST", `/projects/${project}/promote`, promotion],
        ["PATCH", `${flag}/environments/production`, { on: true }],
        ["POST", `${flag}/environments/production/kill`, { reason: "x" }],
        ["POST", `/projects/${project}/flags/bulk`, { action: "archive", keys: ["f"] }],
        ["DELETE", `/projects/${project}/environments/development`, {}],
      ] as const) {
        const { status, body: answer } = await api(method, path, { ...body, [field]: true });
        expect([path, status, answer.errors]).toEqual([
          path,
          400,
          [{ pointer: `/${field}`, code: "unknown-field", message: expect.stringContaining("?dryRun=true") }],
        ]);
      }
    }
    expect((await api("GET", `${flag}/environments/production`)).body).toMatchObject({ on: false, killed: null });
    expect((await api("GET", `/projects/${project}/environments/development`)).status).toBe(200);
  });

  test("that policies would refuse is refused by them, and says nonetheless what it would do", async () => {
    const admin = await newToken();
    const editor = await newToken({ role: "editor" });
    const project = await newProject(admin);
    const flag = await newFlag(admin, project, "pay", { tags: ["money"] });
    const policy = { key: "money", tags: ["money"], approvers: { role: "approver" }, approvals: 1 };
    await admin("POST", `/projects/${project}/policies`, policy);
    for (const [path, changes] of [
      [`${flag}/environments/production/on`, { on: { from: false, to: true } }],
      [`${flag}/archive`, { archivedAt: { from: null, to: expect.any(Number) } }],
    ] as const) {
      const { status, body } = await editor("POST", `${path}?dryRun=true`, {});
      expect([status, body.code, body.policies]).toMatchObject([403, "approval-required", [{ key: "money" }]]);
      expect(body.preview).toMatchObject({ changes, policies: [{ key: "money", bypassed: false }] });
    }
  });

  test("holds If-Match, and another value than true and false is refused", async () => {
    const api = await newToken();
    const project = await newProject(api);
    const there = `${await newFlag(api, project, "f")}/environments/production`;
    const stale = await api("PATCH", `${there}?dryRun=true`, { on: true }, { "if-match": '"v9"' });
    expect([stale.status, stale.body.code]).toEqual([412, "etag-mismatch"]);
    for (const value of ["", "1", "yes", "TRUE", "true%20"]) {
      const { status, body } = await api("PATCH", `${there}?dryRun=${value}`, { on: true });
      expect([value, status, body.errors[0].pointer]).toEqual([value, 400, "query:/dryRun"]);
    }
    expect((await api("PATCH", `${there}?dryRun=false`, { on: true })).body.on).toBe(true);
  });

  test("of an upload reads every line, and of a kill knows a flag that is not there", async () => {
    const api = await newToken();
    const project = await newProject(api);
    const environment = `/projects/${project}/environments/production`;
    await api("POST", `${environment}/segments`, { key: "big" });
    const members = `${environment}/segments/big/members`;
    const ndjson = { "content-type": "application/x-ndjson" };
    const lines = Array.from({ length: 12_000 }, (_, n) => JSON.stringify(`user-${n}`));
    const uploaded = await api("POST", `${members}?dryRun=true&mode=replace`, lines.join("\n"), ndjson);
    expect([uploaded.status, uploaded.body.count, uploaded.body.preview]).toEqual([
      200,
      0,
      {
        changes: { upload: { to: { mode: "replace", received: 12_000 } } },
        moved: [{ environment: "production", kind: "segment", key: "big", rule: null, movements: "unknown" }],
        share: "unknown",
        policies: [],
      },
    ]);
    const bad = await api("POST", `${members}?dryRun=true`, [...lines, "{}"].join("\n"), ndjson);
    expect([bad.status, bad.body.errors[0].pointer]).toEqual([400, "line:12001"]);
    const few = await api("PATCH", `${members}?dryRun=true`, { add: ["a", "b"], remove: ["c"] });
    expect(few.body).toEqual({
      added: 2,
      removed: 0,
      preview: { changes: { added: { to: ["a", "b"] } }, moved: [], share: 0, policies: [] },
    });
    const unknown = `/projects/${project}/flags/none/environments/production/kill?dryRun=true`;
    expect((await api("POST", unknown, { reason: "x" })).body.code).toBe("unknown-flag");
  });
});
