/** One list for all flags of a project (R1): what it says, and when it says that nothing has changed. */
import { env, exports } from "cloudflare:workers";
import { sql } from "drizzle-orm";
import { describe, expect, test } from "vitest";
import { flagLine, listHead } from "../../../workers/admin/flags/summary.ts";
import * as table from "../../../workers/store/schema/index.ts";
import { type Api, BOOLEAN, newFlag, newProject, newToken, openContract, root } from "../../support/admin.ts";
import { db } from "../../support/environment.ts";
import { setFaults, withFaults } from "../../support/faults.ts";
import worker from "../../support/worker.ts";

/** A token for each few requests: this is not about how often one may ask. */
const tokens = await Promise.all(Array.from({ length: 8 }, () => newToken()));
let sent = 0;
const api: Api = (...request) => tokens[sent++ % tokens.length]!(...request);

const HOUR = 3_600_000;
const rule = { conditions: [{ attribute: "plan", op: "in", values: ["pro"] }], serve: { variation: "on" } };
const split = { split: { weights: { on: 25_000, off: 75_000 } } };

const linesIn = (text: string) => text.trimEnd().split("\n");

async function listed(project: string, environments = "production", by: Api = api) {
  const { status, headers, body } = await by("GET", `/projects/${project}/flags/summary?environments=${environments}`);
  expect([status, headers.get("content-type")]).toEqual([200, "application/x-ndjson"]);
  const [head, ...lines] = linesIn(body).map((line) => JSON.parse(line));
  const flags = lines.map((line) => flagLine.parse(line));
  return {
    etag: headers.get("etag")!,
    head: listHead.parse(head),
    flags,
    of: (key: string, environment = "production") => flags.find((one) => one.key === key)!.environments[environment]!,
  };
}

/** A flag with something of everything around it: `path`, and where production serves it. */
async function newPlace() {
  const project = await newProject(api);
  const flag = await newFlag(api, project, "one", { tags: ["a"], owner: "ada", temporary: true });
  return { project, flag, there: `${flag}/environments/production` };
}

/** Answers that are successes. */
async function made(method: string, path: string, body?: object) {
  const answer = await api(method, path, body);
  expect([path, answer.status < 300 ? "" : answer.body]).toEqual([path, ""]);
  return answer.body;
}

describe("the list of all flags", () => {
  test("says of the project how many there are, then of each flag what it is and what environments serve (R1)", async () => {
    const { project, there } = await newPlace();
    await made("PATCH", there, { on: true, fallthrough: split });
    await newFlag(api, project, "another");
    const { head, flags } = await listed(project, "production,development");
    const environments = { production: { killsKnown: true }, development: { killsKnown: true } };
    expect(head).toEqual({ project, flags: 2, environments });
    const at = expect.any(Number);
    const off = { on: false, killed: false, serves: { variation: "off" }, scheduled: 0, ramping: false };
    expect(flags[1]).toEqual({
      ...{ key: "one", name: "one", type: "boolean", tags: ["a"], owner: "ada", temporary: true, updatedAt: at },
      environments: {
        production: { ...off, on: true, serves: { split: { on: 25_000, off: 75_000 } }, version: 2, changedAt: at },
        development: { ...off, version: 1, changedAt: at },
      },
    });
    expect(flags.map(({ key }) => key)).toEqual(["another", "one"]);
    expect(Object.keys((await listed(project, "development,production")).flags[0]!.environments)).toEqual([
      "development",
      "production",
    ]);
  });

  test.each<[string, object, object]>([
    ["a flag that is off", { on: false, rules: [rule] }, { variation: "off" }],
    ["one that is off without a variation for it", { on: false, offVariation: null }, { variation: null }],
    ["one that is on for all", { on: true, fallthrough: { variation: "on" } }, { variation: "on" }],
    ["a split", { on: true, fallthrough: split }, { split: { on: 25_000, off: 75_000 } }],
    ["rules", { on: true, rules: [rule, rule], fallthrough: split }, { rules: 2, targets: 0, prerequisites: 0 }],
    [
      "targets and prerequisites",
      {
        on: true,
        targets: [{ variation: "on", values: ["ada", "grace"] }],
        prerequisites: [{ flag: "before", variations: ["on"] }],
      },
      { rules: 0, targets: 1, prerequisites: 1 },
    ],
  ])("says what %s serves", async (_, fields, serves) => {
    const { project, there } = await newPlace();
    await newFlag(api, project, "before");
    await made("PATCH", there, fields);
    expect((await listed(project)).of("one").serves).toEqual(serves);
  });

  test("leaves out archived flags, and has a deleted one again that was put back", async () => {
    const { project, flag, there } = await newPlace();
    await newFlag(api, project, "other");
    await made("PATCH", there, { on: true, rules: [rule] });
    await made("POST", `${flag}/archive`);
    expect((await listed(project)).head.flags).toBe(1);
    expect((await listed(project)).flags.map(({ key }) => key)).toEqual(["other"]);
    await made("DELETE", flag);
    const [entry] = (await made("GET", `/audit?project=${project}&action=flag.delete`)).items;
    await made("POST", `/audit/${entry.id}/revert`, {});
    await made("POST", `${flag}/unarchive`);
    expect((await listed(project)).of("one")).toMatchObject({
      on: true,
      serves: { rules: 1, targets: 0, prerequisites: 0 },
    });
  });

  test("counts pending schedules, and says whether a ramp is under way", async () => {
    const { project, there } = await newPlace();
    await newFlag(api, project, "quiet");
    await made("PATCH", there, { on: true, fallthrough: { variation: "off" } });
    const plan = { environment: "production", flag: "one" };
    for (const hours of [1, 2]) {
      await made("POST", `/projects/${project}/schedules`, {
        ...plan,
        at: Date.now() + hours * HOUR,
        fields: { on: false },
      });
    }
    const steps = [{ weight: 5_000, forMs: HOUR }, { weight: 50_000 }];
    await made("POST", `/projects/${project}/ramps`, { ...plan, variation: "on", steps });
    const { of } = await listed(project, "production,development");
    expect(of("one")).toMatchObject({
      scheduled: 2,
      ramping: true,
      serves: { split: { on: 5_000, off: 95_000 } },
    });
    for (const quiet of [of("quiet"), of("one", "development")]) {
      expect(quiet).toMatchObject({ scheduled: 0, ramping: false });
    }
  });

  test("knows kills from the hub, and from D1 where the hub is silent, which it says (R14)", async () => {
    const { project, there } = await newPlace();
    await newFlag(api, project, "two");
    await made("POST", `${there}/kill`, { reason: "Orders fail" });
    const known = await listed(project);
    expect([known.of("one").killed, known.of("two").killed]).toEqual([true, false]);
    expect(known.head.environments).toEqual({ production: { killsKnown: true } });
    // What D1 holds to be killed, and the hub does not.
    const { id } = await db.get<{ id: string }>(sql`SELECT environments.id FROM environments
      JOIN projects ON projects.id = project_id WHERE projects.key = ${project} AND environments.key = 'production'`);
    const mirrored = { environmentId: id, flagKey: "two", seq: 1_000, killed: true, by: "ada", at: 0, reason: "r" };
    await db.insert(table.kills).values(mirrored);
    expect((await listed(project)).of("two").killed).toBe(false);
    const token = (await made("POST", "/tokens", { name: "t", role: "viewer" })).token;
    const path = `/projects/${project}/flags/summary?environments=production`;
    setFaults({ HUB: { mode: "fail" } });
    const answer = await worker.fetch(
      new Request(`https://bunting.test/api/v1${path}`, { headers: { authorization: `Bearer ${token}` } }) as never,
      withFaults(env),
      { waitUntil: () => {}, passThroughOnException: () => {} } as never,
    );
    setFaults({});
    const [head, , two] = linesIn(await answer.text()).map((line) => JSON.parse(line));
    expect(head.environments).toEqual({ production: { killsKnown: false } });
    expect([two.key, two.environments.production.killed]).toEqual(["two", true]);
    expect(answer.headers.get("etag")).not.toBe(known.etag);
  });
});

describe("who asks for the list", () => {
  test.each([
    ["an environment that is not there", "production,nowhere", 404, "not-found"],
    ["none", "", 400, "invalid-request"],
    ["what is no key", "production,%20", 400, "invalid-request"],
    ["six", "a,b,c,d,e,f", 400, "invalid-request"],
  ])("for %s is told so", async (_, environments, status, code) => {
    const { project } = await newPlace();
    const answer = await api("GET", `/projects/${project}/flags/summary?environments=${environments}`);
    expect([answer.status, answer.body.code]).toEqual([status, code]);
    if (status === 400) expect(answer.body.errors[0].pointer).toBe("query:/environments");
  });

  test("without naming environments, or for a project that is not there, is told so", async () => {
    const { project } = await newPlace();
    expect((await api("GET", `/projects/${project}/flags/summary`)).status).toBe(400);
    expect((await api("GET", "/projects/nowhere/flags/summary?environments=production")).status).toBe(404);
  });

  test("sees the environments of its scope and no others, not even whether they are there", async () => {
    const { project } = await newPlace();
    const limited = await newToken({ role: "viewer", scope: { environments: [`${project}/production`] } });
    expect((await listed(project, "production", limited)).head.flags).toBe(1);
    for (const environments of ["development", "production,development", "production,nowhere"]) {
      const answer = await limited("GET", `/projects/${project}/flags/summary?environments=${environments}`);
      expect([answer.status, answer.body.code]).toEqual([403, "forbidden"]);
    }
  });

  test("finds it where no flag can be", async () => {
    const { project } = await newPlace();
    const body = { key: "summary", type: "boolean", variations: BOOLEAN };
    const answer = await api("POST", `/projects/${project}/flags`, body);
    expect([answer.status, answer.body.errors[0]]).toMatchObject([
      400,
      { pointer: "/key", message: "A flag cannot be called summary: …/flags/summary is something else." },
    ]);
    const other = await api("DELETE", `/projects/${project}/flags/summary`);
    expect([other.status, other.headers.get("allow")]).toEqual([405, "GET"]);
  });

  test("and takes gzip is sent it compressed, with the same ETag", async () => {
    const { project } = await newPlace();
    const path = `/projects/${project}/flags/summary?environments=production`;
    const plain = await api("GET", path);
    const packed = await api("GET", path, undefined, { "accept-encoding": "br, gzip" });
    expect(plain.headers.get("content-encoding")).toBeNull();
    expect([packed.headers.get("content-encoding"), packed.headers.get("etag")]).toEqual([
      "gzip",
      plain.headers.get("etag"),
    ]);
    const refused = await api("GET", path, undefined, { "accept-encoding": "gzip;q=0" });
    expect(refused.headers.get("content-encoding")).toBeNull();
  });

  test("and takes no gzip is sent it plain, whatever the platform in between sends the Worker", async () => {
    const { project } = await newPlace();
    const { token } = (await root("POST", "/tokens", { name: "curl", role: "viewer" })).body;
    const url = `https://bunting.test/api/v1/projects/${project}/flags/summary?environments=production`;
    const headers = { authorization: `Bearer ${token}`, "accept-encoding": "br, gzip" };
    const answerFor = (cf: object) => exports.default.fetch(new Request(url, { headers, cf } as RequestInit));
    for (const [cf, encoding] of [
      [{ country: "CH" }, null],
      [{ clientAcceptEncoding: "identity" }, null],
      [{ clientAcceptEncoding: "gzip, deflate" }, "gzip"],
    ] as const) {
      const answer = await answerFor(cf);
      expect([cf, answer.status, answer.headers.get("content-encoding")]).toEqual([cf, 200, encoding]);
      await answer.body?.cancel();
    }
  });
});

describe("the ETag of the list", () => {
  type Place = Awaited<ReturnType<typeof newPlace>> & { id: string };
  const plan = { environment: "production", flag: "one" };
  const schedule = { ...plan, at: Date.now() + HOUR, fields: { on: false } };
  const ramp = { ...plan, variation: "on", steps: [{ weight: 5_000, forMs: HOUR }, { weight: 50_000 }] };
  const ramps = ({ project }: Place) => `/projects/${project}/ramps`;
  const bulk = (body: object) => [({ project }: Place) => made("POST", `/projects/${project}/flags/bulk`, body)];

  /** One after another, all of the same flag. */
  const changes: [string, (place: Place) => Promise<{ id: string }>][] = [
    ["a name", ({ flag }) => made("PATCH", flag, { name: "First" })],
    ["tags", ({ flag }) => made("PATCH", flag, { tags: ["b"] })],
    ["an owner", ({ flag }) => made("PATCH", flag, { owner: "grace" })],
    ["that it is here to stay", ({ flag }) => made("PATCH", flag, { temporary: false })],
    ["tags of many", bulk({ action: "addTags", tags: ["c"], keys: ["one"] })[0]!],
    ["the owner of many", bulk({ action: "setOwner", owner: "joan", keys: ["one"] })[0]!],
    ["archiving many", bulk({ action: "archive", keys: ["two"] })[0]!],
    ["bringing many back", bulk({ action: "unarchive", keys: ["two"] })[0]!],
    ["archiving", ({ project }) => made("POST", `/projects/${project}/flags/two/archive`)],
    ["bringing back", ({ project }) => made("POST", `/projects/${project}/flags/two/unarchive`)],
    ["a new flag", ({ project }) => made("POST", `/projects/${project}/flags`, { key: "three", type: "boolean" })],
    ["turning on", ({ there }) => made("POST", `${there}/on`)],
    ["an edit", ({ there }) => made("PATCH", there, { fallthrough: { variation: "off" } })],
    [
      "a promotion",
      ({ project }) => {
        const items = [{ flag: "two" }];
        return made("POST", `/projects/${project}/promote`, { from: "development", to: "production", items });
      },
    ],
    ["a kill", ({ there }) => made("POST", `${there}/kill`, { reason: "r" })],
    ["a restore", ({ there }) => made("POST", `${there}/restore`)],
    ["a schedule", ({ project }) => made("POST", `/projects/${project}/schedules`, schedule)],
    ["the end of a schedule", ({ project, id }) => made("DELETE", `/projects/${project}/schedules/${id}`)],
    ["a ramp", (place) => made("POST", ramps(place), ramp)],
    ["a pause of a ramp", (place) => made("POST", `${ramps(place)}/${place.id}/pause`)],
    ["the end of a ramp", (place) => made("POST", `${ramps(place)}/${place.id}/abort`)],
  ];

  test("changes with all that a line says, and stays while nothing does", async () => {
    const place = { ...(await newPlace()), id: "" };
    const two = await newFlag(api, place.project, "two");
    await made("PATCH", `${two}/environments/development`, { on: true });
    const seen = new Map<string, string>();
    for (const [what, change] of changes) {
      const before = await listed(place.project);
      place.id = (await change(place))?.id ?? place.id;
      const after = await listed(place.project);
      const lines = JSON.stringify(after.flags);
      // A ramp that is paused is under way still.
      expect([what, lines === JSON.stringify(before.flags)]).toEqual([what, what === "a pause of a ramp"]);
      expect([what, after.etag === before.etag]).toEqual([what, false]);
      // A restore brings back what there was before the kill.
      expect([what, seen.get(after.etag) ?? lines]).toEqual([what, lines]);
      seen.set(after.etag, lines);
      expect((await listed(place.project)).etag).toBe(after.etag);
    }
  });

  test("is another one for other environments, and of another environment by the same name", async () => {
    const { project } = await newPlace();
    const production = await listed(project, "production");
    const both = await listed(project, "production,development");
    const turned = await listed(project, "development,production");
    expect(new Set([production, both, turned].map(({ etag }) => etag)).size).toBe(3);
    await made("DELETE", `/projects/${project}/environments/production`);
    await made("POST", `/projects/${project}/environments`, { key: "production" });
    expect((await listed(project)).etag).not.toBe(production.etag);
  });

  test("that is known is answered with 304 and nothing else, without reading a flag (Q6)", async () => {
    const { project, there } = await newPlace();
    const path = `/projects/${project}/flags/summary?environments=production`;
    const { etag } = await listed(project);
    const statements: string[] = [];
    const { prepare } = env.DB;
    const listening = Object.getPrototypeOf(env.DB) as D1Database;
    listening.prepare = function (this: D1Database, query: string) {
      statements.push(query);
      return prepare.call(this, query);
    };
    const readsFlags = () => statements.splice(0).filter((sql) => /from "?(flags|flag_configurations)"?/i.test(sql));
    for (const known of [etag, etag.replace("W/", ""), `"x", ${etag}`, "*"]) {
      const answer = await api("GET", path, undefined, { "if-none-match": known });
      expect([known, answer.status, answer.body, answer.headers.get("etag")]).toEqual([known, 304, null, etag]);
      expect(statements.length).toBeGreaterThan(0);
      expect(readsFlags()).toEqual([]);
    }
    expect((await api("GET", path, undefined, { "if-none-match": '"x"' })).status).toBe(200);
    expect(readsFlags()).not.toEqual([]);
    listening.prepare = prepare;
    await made("POST", `${there}/on`);
    expect((await api("GET", path, undefined, { "if-none-match": etag })).status).toBe(200);
  });

  test("is in the OpenAPI document: the header that names it, and the 304", async () => {
    const { document } = await openContract();
    const { get } = document.paths["/projects/{project}/flags/summary"] as Record<string, never>;
    expect(get).toMatchObject({
      parameters: expect.arrayContaining([{ $ref: "#/components/parameters/If-None-Match" }]),
      responses: { 304: { headers: { ETag: { $ref: "#/components/headers/ETag" } } } },
    });
  });
});

test("4,500 flags come in their order, each once, in pages (R1)", async () => {
  const project = await newProject(api);
  const keys = Array.from({ length: 4_500 }, (_, index) => `flag-${(index * 7_919) % 100_003}`);
  const of = "FROM projects p JOIN json_each(?1) WHERE p.key = ?2";
  const all = [JSON.stringify(keys), project];
  await env.DB.batch([
    env.DB.prepare(
      `INSERT INTO flags (id, project_id, key, name, type, variations, tags, temporary, client_side, bytes, version, created_at, updated_at)
       SELECT p.id || value, p.id, value, value, 'boolean', '[]', '[]', 0, 0, 1, 1, 0, 0 ${of}`,
    ).bind(...all),
    env.DB.prepare(
      `INSERT INTO flag_configurations SELECT e.id, f.id, 1, 1, 'off', 0, 0, 0, '[]', '[]', '[]', json_object('variation', f.key)
       FROM projects p JOIN flags f ON f.project_id = p.id JOIN environments e ON e.project_id = p.id WHERE p.key = ?1`,
    ).bind(project),
  ]);
  const { head, flags } = await listed(project, "development,production");
  expect(head.flags).toBe(4_500);
  expect(flags.map(({ key }) => key)).toEqual(keys.toSorted());
  for (const { key, environments } of flags) {
    expect([environments.production!.serves, environments.development!.serves]).toEqual([
      { variation: key },
      { variation: key },
    ]);
  }
});
