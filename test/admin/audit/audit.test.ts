import { env, exports } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import { newFlag, newProject, newToken } from "../../support/admin.ts";

const api = await newToken({ name: "Ada" });
const project = await newProject(api);
const there = `${await newFlag(api, project, "logged")}/environments/production`;
const list = async (query: string, as = api) => (await as("GET", `/audit?limit=100&${query}`)).body.items;
type Entry = { id: number; timestamp: number; action: string; correlation_id: string; cursor: string };

describe("the list (R11)", () => {
  test("is narrowed by who, what, where, when and why", async () => {
    const bob = await newToken({ name: "Bob" });
    await bob("PATCH", there, { on: true, reason: "Launch of the Spring sale" }, { "x-correlation-id": "trace-7" });
    await api("PATCH", there, { on: false });
    await api("POST", `/projects/${project}/environments/development/segments`, { key: "beta" });
    const [launch] = await list("actor=Bob");
    const count = async (query: string) => (await list(`project=${project}&${query}`)).length;
    expect(launch).toMatchObject({ action: "flag.update", reason: "Launch of the Spring sale" });
    expect(await count(`token=${launch.token}`)).toBe(1);
    expect(await count("correlation_id=trace-7")).toBe(1);
    expect(await count("reason=spring%20SALE")).toBe(1);
    expect(await count("reason=100%25")).toBe(0);
    expect(await count("type=segment")).toBe(1);
    expect(await count("environment=development&key=beta")).toBe(1);
    expect(await count("key=logged&action=flag.update")).toBe(2);
    expect(await count(`from=${launch.timestamp}&to=${launch.timestamp + 1}&actor=Bob`)).toBe(1);
    expect(await count(`to=${launch.timestamp}&actor=Bob`)).toBe(0);
    expect(await count(`from=${launch.timestamp + 1}&actor=Bob`)).toBe(0);
  });

  test("is read by the page, each entry once, newest first", async () => {
    const all: Entry[] = await list(`project=${project}`);
    const paged: Entry[] = [];
    for (let cursor: string | null = ""; cursor !== null; ) {
      const { body } = await api("GET", `/audit?project=${project}&limit=2&cursor=${cursor}`);
      expect(body.items.length).toBeLessThanOrEqual(2);
      paged.push(...body.items);
      cursor = body.nextCursor;
    }
    expect(paged).toEqual(all);
    expect(all.length).toBeGreaterThan(5);
    expect(all.map(({ timestamp }) => timestamp)).toEqual(all.map((one) => one.timestamp).sort((a, b) => b - a));
  });

  test("refuses filters and cursors that are none", async () => {
    for (const query of [
      "from=yesterday",
      "to=-1",
      "from=1.5",
      `actor=${"x".repeat(300)}`,
      "cursor=1",
      "cursor=1-2-3",
    ]) {
      expect([query, (await api("GET", `/audit?${query}`)).status]).toEqual([query, 400]);
    }
    for (const [path, status] of [
      ["/audit/0", 400],
      ["/audit/x", 400],
      ["/audit/99999999", 404],
    ] as const) {
      expect([path, (await api("GET", path)).status]).toEqual([path, status]);
    }
  });
});

test("an entry is read by its id, within the caller's scope", async () => {
  const [launch] = await list("actor=Bob");
  expect((await api("GET", `/audit/${launch.id}`)).body).toEqual({ ...launch, revertible: true });
  const elsewhere = await newToken({ role: "viewer", scope: { projects: ["other"], environments: [] } });
  expect((await elsewhere("GET", `/audit/${launch.id}`)).status).toBe(404);
  expect((await elsewhere("GET", "/audit")).body.items).toEqual([]);
  const development = await newToken({ scope: { projects: [], environments: [`${project}/development`] } });
  expect((await development("GET", `/audit/${launch.id}`)).status).toBe(404);
  expect(await list("", development)).toHaveLength(2);
});

const { body: exporter } = await api("POST", "/tokens", { name: "Exporter", role: "viewer" });

describe("the export", () => {
  const lines = async (query: string): Promise<Entry[]> => {
    const response = await exports.default.fetch(
      new Request(`https://bunting.test/api/v1/audit/export?${query}`, {
        headers: { authorization: `Bearer ${exporter.token}` },
      }),
    );
    expect(response.status).toBe(200);
    expect(response.headers.get("content-type")).toBe("application/x-ndjson");
    const text = await response.text();
    return text === ""
      ? []
      : text
          .trimEnd()
          .split("\n")
          .map((line) => JSON.parse(line));
  };

  test("is all that matches, oldest first, a line each", async () => {
    const listed: Entry[] = await list(`project=${project}`);
    expect((await lines(`project=${project}`)).map(({ cursor: _, ...entry }) => entry)).toEqual(listed.reverse());
    expect(await lines("actor=nobody")).toEqual([]);
  });

  test("goes on after the last line that arrived", async () => {
    const all = await lines(`project=${project}`);
    expect(await lines(`project=${project}&cursor=${all[2]?.cursor}`)).toEqual(all.slice(3));
  });

  test("takes as many pages as it needs, also of large entries", async () => {
    const insert = (actor: string, changes: object, count: number) =>
      env.DB.prepare(
        `INSERT INTO audit (timestamp, actor, action, resource_type, key, changes, correlation_id)
         SELECT 1000 + value % 7, ?1, 'flag.update', 'flag', 'bulk', ?2, 'bulk' FROM json_each(?3)`,
      )
        .bind(actor, JSON.stringify(changes), JSON.stringify(Array.from({ length: count }, (_, index) => index)))
        .run();
    await insert("Small", {}, 1_000);
    await insert("Large", { text: { to: "x".repeat(900_000) } }, 12);
    const all = await lines("correlation_id=bulk");
    expect(new Set(all.map(({ id }) => id)).size).toBe(1_012);
    const { body } = await api("GET", "/audit?actor=Large&limit=100");
    // As many as 4 MB, and the one that goes beyond.
    expect([body.items.length, body.nextCursor]).toEqual([5, expect.any(String)]);
    const rest = await api("GET", `/audit?actor=Large&limit=100&cursor=${body.nextCursor}`);
    expect(rest.body.items).toHaveLength(5);
  });
});

describe("an entry stays as it was written, also for whoever has SQL", () => {
  const attempts = [
    "UPDATE audit SET actor = 'nobody'",
    "UPDATE audit SET reason = 'nothing' WHERE id = 1",
    "DELETE FROM audit",
    "DELETE FROM audit WHERE id = 1",
    "INSERT OR REPLACE INTO audit SELECT * FROM audit WHERE id = 1",
    "REPLACE INTO audit (id, timestamp, actor, action, resource_type, key, changes, correlation_id) VALUES (1, 0, '', '', '', '', '{}', '')",
    "INSERT INTO audit SELECT * FROM audit WHERE id = 1 ON CONFLICT DO UPDATE SET actor = 'nobody'",
    "UPDATE audit_undo SET undo = '[]'",
    "DELETE FROM audit_undo",
    "REPLACE INTO audit_undo SELECT audit_id, kind, key, environment, '[]' FROM audit_undo",
  ];

  test.each(attempts)("%s", async (attempt) => {
    const whole = async () =>
      JSON.stringify([
        await env.DB.prepare("SELECT * FROM audit WHERE correlation_id != 'bulk' ORDER BY id")
          .all()
          .then(({ results }) => results),
        await env.DB.prepare("SELECT * FROM audit_undo")
          .all()
          .then(({ results }) => results),
      ]);
    const before = await whole();
    expect(before).toContain("Spring sale");
    await expect(env.DB.prepare(attempt).run()).rejects.toThrow(/append-only/);
    expect(await whole()).toBe(before);
  });

  test("and what is mirrored again changes nothing", async () => {
    const mirrored = (actor: string) =>
      env.DB.prepare(
        "INSERT OR REPLACE INTO audit (timestamp, actor, action, resource_type, key, changes, correlation_id, mirror_id) VALUES (0, ?, '', '', '', '{}', '', 'm')",
      ).bind(actor);
    await mirrored("first").run();
    await mirrored("second").run();
    const { results } = await env.DB.prepare("SELECT actor FROM audit WHERE mirror_id = 'm'").all();
    expect(results).toEqual([{ actor: "first" }]);
  });
});
