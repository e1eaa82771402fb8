import { env } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import { listFlags } from "../../../workers/store/flags/flags.ts";
import type { PageOf } from "../../../workers/store/page.ts";
import { listEnvironments, listProjects } from "../../../workers/store/projects.ts";
import { listSdkKeys } from "../../../workers/store/sdk-keys.ts";
import { listSegments } from "../../../workers/store/segments.ts";
import { listTokens } from "../../../workers/store/tokens.ts";
import { type Api, newFlag, newProject, newToken } from "../../support/admin.ts";
import { db } from "../../support/environment.ts";

/** A token of its own for each request: this is not about how often one may ask. */
const tokens = await Promise.all(Array.from({ length: 10 }, () => newToken()));
let asked = 0;
const api: Api = (...request) => tokens[asked++ % tokens.length]!(...request);

/** Every item of a list, a page at a time; `between` runs after each page. */
async function all(path: string, limit = 2, between = async (_: number) => {}, who: Api = api) {
  // biome-ignore lint/suspicious/noExplicitAny: items of every resource
  const items: any[] = [];
  let cursor: string | null = null;
  for (let pages = 0; pages < 100; pages++) {
    const at = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const { status, body } = await who("GET", `${path}${path.includes("?") ? "&" : "?"}limit=${limit}${at}`);
    expect(status).toBe(200);
    expect(body.items.length).toBeLessThanOrEqual(limit);
    items.push(...body.items);
    cursor = body.nextCursor;
    if (cursor === null) return items;
    await between(pages);
  }
  throw new Error("the list has no end");
}
const keys = async (path: string) => (await all(path)).map(({ key }) => key);

describe("flags", async () => {
  const project = await newProject(api);
  const flags = `/projects/${project}/flags`;
  await newFlag(api, project, "d", { name: "Apple", tags: ["payment", "web"], owner: "ada", temporary: true });
  await newFlag(api, project, "c", { name: "Banana", tags: ["payment"], owner: "ada", clientSide: true });
  await newFlag(api, project, "b", { name: "Banana", tags: ["web"], owner: "bob", description: "Cherries too" });
  await newFlag(api, project, "a", { name: "Date", type: "string", variations: [{ key: "x", value: "x" }] });
  await newFlag(api, project, "gone", { name: "Elder", tags: ["web"] });
  await api("POST", `${flags}/gone/archive`, {});
  await api("PATCH", `${flags}/c`, { description: "last touched" });

  test.each([
    ["by key unless told", "", ["a", "b", "c", "d"]],
    ["by key, backwards", "?sort=-key", ["d", "c", "b", "a"]],
    ["by name, and by key where names are the same", "?sort=name", ["d", "b", "c", "a"]],
    ["by name, backwards", "?sort=-name", ["a", "c", "b", "d"]],
    ["by creation", "?sort=createdAt", ["d", "c", "b", "a"]],
    ["by the last change, newest first", "?sort=-updatedAt", ["c", "a", "b", "d"]],
    ["of a tag", "?tag=payment", ["c", "d"]],
    ["of two tags", "?tag=payment&tag=web", ["d"]],
    ["of a tag that no flag has", "?tag=none", []],
    ["of an owner", "?owner=ada", ["c", "d"]],
    ["of a type", "?type=string", ["a"]],
    ["temporary ones", "?temporary=true", ["d"]],
    ["permanent ones", "?temporary=false", ["a", "b", "c"]],
    ["for clients", "?clientSide=true", ["c"]],
    ["not for clients", "?clientSide=false", ["a", "b", "d"]],
    ["archived ones", "?archived=true", ["gone"]],
    ["archived or not", "?archived=any", ["a", "b", "c", "d", "gone"]],
    ["with text in the key", "?q=GON&archived=any", ["gone"]],
    ["with text in the name", "?q=banana", ["b", "c"]],
    ["with text in the description", "?q=CHERR", ["b"]],
    ["with text that SQL would take for a pattern", "?q=%25", []],
    ["by several filters at once", "?tag=web&owner=ada&temporary=true&type=boolean&sort=-name", ["d"]],
  ])("%s", async (_, query, expected) => {
    expect(await keys(`${flags}${query}`)).toEqual(expected);
  });

  test("a tag that is taken away, and a flag that is deleted, are not found by it any more", async () => {
    await newFlag(api, project, "retagged", { tags: ["old", "kept"] });
    await api("PATCH", `${flags}/retagged`, { tags: ["kept", "new"] });
    expect(await keys(`${flags}?tag=old`)).toEqual([]);
    expect(await keys(`${flags}?tag=new&tag=kept`)).toEqual(["retagged"]);
    await api("POST", `${flags}/retagged/archive`, {});
    expect(await keys(`${flags}?tag=new&archived=true`)).toEqual(["retagged"]);
    await api("DELETE", `${flags}/retagged`);
    await newFlag(api, project, "retagged");
    expect(await keys(`${flags}?tag=new&archived=any`)).toEqual([]);
    await api("POST", `${flags}/retagged/archive`, {});
    const { results } = await env.DB.prepare("SELECT * FROM flag_tags WHERE flag_key = 'retagged'").all();
    expect(results).toEqual([]);
  });

  test.each([
    ["an order that there is not", "sort=colour", "query:/sort"],
    ["a type that there is not", "type=date", "query:/type"],
    ["neither true nor false", "temporary=maybe", "query:/temporary"],
    ["too many tags", Array(11).fill("tag=x").join("&"), "query:/tag"],
    ["a text too long", `q=${"x".repeat(257)}`, "query:/q"],
    ["no items at all", "limit=0", "query:/limit"],
  ])("%s is a 400 with its place", async (_, query, pointer) => {
    const { status, body } = await api("GET", `${flags}?${query}`);
    expect([status, body.errors[0].pointer]).toEqual([400, pointer]);
  });
});

describe("cursors", async () => {
  const project = await newProject(api);
  const flags = `/projects/${project}/flags`;
  for (const key of ["b", "d", "f", "h"]) await newFlag(api, project, key, { name: `Name of ${key} 💥` });

  test.each(["key", "name", "createdAt"])("each item comes once, whatever is made meanwhile (%s)", async (sort) => {
    const before = (await all(`${flags}?sort=${sort}`)).map(({ key }) => key as string);
    let made = 0;
    const there = await all(`${flags}?sort=${sort}`, 2, async (page) => {
      // At first, before and after the place where the cursor is: in the order of creation there would be no end.
      if (page > 1) return;
      for (const key of [`a-${sort}-${page}`, `z-${sort}-${page}`]) await newFlag(api, project, key, { name: key });
      made += 2;
    });
    const seen = there.map(({ key }) => key as string);
    expect(new Set(seen).size).toBe(seen.length);
    expect(seen.filter((key) => before.includes(key))).toEqual(before);
    expect(made).toBeGreaterThan(0);
  });

  test("a deleted item takes no other with it", async () => {
    const before = await keys(flags);
    const there = await all(flags, 1, async (page) => {
      if (page > 0) return;
      await api("POST", `${flags}/${before[0]}/archive`, {});
      await api("DELETE", `${flags}/${before[0]}`);
    });
    expect(there.map(({ key }) => key)).toEqual(before);
  });

  test("one of another list or order, or that nobody was given, is a 400", async () => {
    const { body } = await api("GET", `${flags}?limit=1`);
    const cursor = encodeURIComponent(body.nextCursor);
    const elsewhere = await newProject(api);
    const [list] = JSON.parse(atob(body.nextCursor.padEnd(Math.ceil(body.nextCursor.length / 4) * 4, "=")));
    const forged = (parts: unknown) => btoa(JSON.stringify(parts)).replaceAll("=", "");
    for (const path of [
      `/projects/${elsewhere}/flags?cursor=${cursor}`,
      `/projects?cursor=${cursor}`,
      `/projects/${project}/environments?cursor=${cursor}`,
      `/projects/${project}/environments/production/segments?cursor=${cursor}`,
      `/projects/${project}/environments/production/keys?cursor=${cursor}`,
      `/tokens?cursor=${cursor}`,
      `${flags}?sort=-key&cursor=${cursor}`,
      `${flags}?sort=name&cursor=${cursor}`,
      `${flags}?cursor=b`,
      `${flags}?cursor=%00`,
      `${flags}?cursor=${forged(["x", "b", "b"])}`,
      `${flags}?cursor=${forged([list, { a: 1 }, "b"])}`,
      `${flags}?cursor=${forged(null)}`,
    ]) {
      const { status, body } = await api("GET", path);
      expect([path, status]).toEqual([path, 400]);
      expect(body.errors).toMatchObject([{ pointer: "query:/cursor", code: "not-a-cursor" }]);
    }
    expect((await api("GET", `${flags}?cursor=`)).status).toBe(200);
  });
});

test("projects are searched, sorted and limited to what the caller may see", async () => {
  const [one, other] = [await newProject(api), await newProject(api)];
  await api("PATCH", `/projects/${one}`, { name: "Zebra", description: "stripes" });
  await api("PATCH", `/projects/${other}`, { name: "Aardvark", description: "stripeless" });
  expect(await keys("/projects?q=stripe&sort=name")).toEqual([other, one]);
  expect(await keys("/projects?q=stripe&sort=-name")).toEqual([one, other]);
  expect(await keys("/projects?q=STRIPES")).toEqual([one]);
  const limited = await newToken({ scope: { projects: [one] } });
  expect((await all("/projects", 1, undefined, limited)).map(({ key }) => key)).toEqual([one]);
});

test("environments and segments are searched and sorted; a token sees its own environments", async () => {
  const project = await newProject(api);
  const environments = `/projects/${project}/environments`;
  await api("PATCH", `${environments}/production`, { name: "All the world" });
  expect(await keys(`${environments}?sort=name`)).toEqual(["production", "development"]);
  expect(await keys(`${environments}?sort=-createdAt`)).toEqual(["development", "production"]);
  expect(await keys(`${environments}?q=world`)).toEqual(["production"]);
  const limited = await newToken({ scope: { environments: [`${project}/development`] } });
  expect((await all(environments, 1, undefined, limited)).map(({ key }) => key)).toEqual(["development"]);
  const segments = `${environments}/production/segments`;
  for (const [key, name] of ["beta", "alpha", "gamma"].map((key, index) => [key, `N${2 - index}`])) {
    await api("POST", segments, { key, name, description: `about ${key}` });
  }
  expect(await keys(`${segments}?sort=name`)).toEqual(["gamma", "alpha", "beta"]);
  expect(await keys(`${segments}?sort=-createdAt`)).toEqual(["gamma", "alpha", "beta"]);
  expect(await keys(`${segments}?q=ABOUT+a`)).toEqual(["alpha"]);
});

test("keys and tokens are listed by creation, and narrowed by kind, role, state and text", async () => {
  const path = `/projects/${await newProject(api)}/environments/production/keys`;
  const made = [];
  for (const [kind, name] of [
    ["server", "Backend"],
    ["client", "Web shop"],
    ["server", "Old backend"],
  ])
    made.push((await api("POST", path, { kind, name })).body);
  await api("DELETE", `${path}/${made[2].id}`);
  const names = async (query: string) => (await all(`${path}${query}`)).map(({ name }) => name);
  expect(await names("")).toEqual(["Backend", "Web shop", "Old backend"]);
  expect(await names("?sort=-name")).toEqual(["Web shop", "Old backend", "Backend"]);
  expect(await names("?kind=server&state=active")).toEqual(["Backend"]);
  expect(await names("?state=revoked")).toEqual(["Old backend"]);
  expect(await names("?q=shop")).toEqual(["Web shop"]);
  await newToken({ name: "a robot", role: "viewer" });
  await newToken({ name: "another robot", role: "editor" });
  const robots = async (query: string) => (await all(`/tokens?q=robot${query}`)).map(({ name }) => name);
  expect(await robots("&sort=-createdAt")).toEqual(["another robot", "a robot"]);
  expect(await robots("&role=viewer&state=active")).toEqual(["a robot"]);
  expect(await robots("&state=expired")).toEqual([]);
});

describe("every list is read by an index", () => {
  const page = <By extends string>(by: By, descending = false): PageOf<By> => ({
    limit: 21,
    by,
    descending,
    after: { value: by.endsWith("At") ? 1 : "m", tie: "m" },
  });
  const planOf = async ({ sql, params }: { sql: string; params: unknown[] }): Promise<string[]> => {
    const { results } = await env.DB.prepare(`EXPLAIN QUERY PLAN ${sql}`)
      .bind(...params)
      .all<{ detail: string }>();
    return results.map(({ detail }) => detail);
  };
  const filter = { q: undefined, state: undefined, now: 0, kind: undefined, role: undefined };

  test.each(["key", "name", "createdAt", "updatedAt"] as const)("in the order of %s without sorting", async (by) => {
    for (const descending of [false, true]) {
      const asked = page(by, descending);
      const plans = await Promise.all([
        planOf(listProjects(db, null, undefined, asked).toSQL()),
        planOf(listFlags(db, "prj", {}, asked).toSQL()),
        planOf(listFlags(db, "prj", { archived: false, q: "text" }, asked).toSQL()),
        planOf(listSegments(db, "env", undefined, asked).toSQL()),
        ...(by === "key"
          ? []
          : [
              planOf(listSdkKeys(db, "env", filter, page(by, descending)).toSQL()),
              planOf(listTokens(db, filter, page(by, descending)).toSQL()),
            ]),
      ]);
      for (const plan of plans) expect(plan).toEqual([expect.stringMatching(/^SEARCH \w+ USING INDEX /)]);
    }
    // At most fifty of them, found by their project.
    const environments = await planOf(listEnvironments(db, "prj", null, undefined, page(by)).toSQL());
    expect(environments[0]).toMatch(/^SEARCH environments USING INDEX environments_by_key/);
  });

  test.each([
    [{ tags: ["a"] }, /SEARCH flag_tags USING (COVERING )?INDEX \w+ \(project_id=\? AND tag=\?\)/],
    [{ tags: ["a", "b"] }, /SEARCH flags USING INDEX \w+ \(project_id=\? AND key=\?\)/],
    [{ owner: "ada" }, /INDEX flags_by_owner \(project_id=\? AND owner=\?/],
    [{ type: "json" }, /INDEX flags_by_type \(project_id=\? AND type=\?/],
    [{ temporary: true }, /INDEX flags_by_temporary \(project_id=\? AND temporary=\?/],
    [{ clientSide: false }, /INDEX flags_by_client_side \(project_id=\? AND client_side=\?/],
    [{ archived: true }, /INDEX flags_archived \(project_id=\?/],
  ] as const)("flags by %j", async (narrowed, index) => {
    const plan = await planOf(listFlags(db, "prj", narrowed as object, { ...page("key"), after: undefined }).toSQL());
    expect(plan.join("\n")).toMatch(index);
    for (const step of plan) expect(step).not.toMatch(/^SCAN/);
  });

  test("keys by kind, tokens by role, projects by what a token names", async () => {
    const keysOfKind = await planOf(listSdkKeys(db, "env", { ...filter, kind: "client" }, page("createdAt")).toSQL());
    expect(keysOfKind).toEqual([expect.stringMatching(/INDEX sdk_keys_by_kind \(environment_id=\? AND kind=\?/)]);
    const ofRole = await planOf(listTokens(db, { ...filter, role: "admin" }, page("createdAt")).toSQL());
    expect(ofRole).toEqual([expect.stringMatching(/INDEX api_tokens_by_role \(role=\?/)]);
    const named = await planOf(listProjects(db, ["a"], undefined, { ...page("key"), after: undefined }).toSQL());
    expect(named[0]).toMatch(/^SEARCH projects USING INDEX \w+ \(key=\?\)/);
  });
});
