/** Lists of what waits for people, and of what decides whom it waits for: found, filtered, and in either order. */
import { expect, test } from "vitest";
import { type Api, newFlag, newProject, newToken } from "../../support/admin.ts";
import { approver } from "../../support/approvals.ts";

const api = await newToken({ name: "Root" });
const other = await newToken({ name: "Ed", role: "editor" });
const project = await newProject(api);
const at = `/projects/${project}`;

/** One member of every item, a page at a time. */
async function all(path: string, member: string, limit = 2, who: Api = api): Promise<string[]> {
  const found: string[] = [];
  let cursor = "";
  for (let pages = 0; pages < 20; pages++) {
    const { status, body } = await who("GET", `${path}${path.includes("?") ? "&" : "?"}limit=${limit}${cursor}`);
    expect(status).toBe(200);
    found.push(...body.items.map((item: Record<string, unknown>) => item[member]));
    if (body.nextCursor === null) return found;
    cursor = `&cursor=${encodeURIComponent(body.nextCursor)}`;
  }
  throw new Error("the list has no end");
}

for (const key of ["a", "b", "c"]) await newFlag(api, project, key, { tags: ["payment"] });

test("change requests are listed newest first, or oldest first, and found by their text", async () => {
  for (const [title, description] of [
    ["First", "cherries"],
    ["Second", ""],
    ["Third Cherry", ""],
  ]) {
    const change = { operation: "turnFlagOn", path: { environment: "production", flag: "a" } };
    expect((await other("POST", `${at}/change-requests`, { title, description, change })).status).toBe(201);
  }
  const list = `${at}/change-requests`;
  expect(await all(list, "title")).toEqual(["Third Cherry", "Second", "First"]);
  expect(await all(`${list}?sort=createdAt`, "title")).toEqual(["First", "Second", "Third Cherry"]);
  expect(await all(`${list}?sort=createdAt&q=CHERR`, "title", 1)).toEqual(["First", "Third Cherry"]);
  const { body } = await api("GET", `${list}?limit=1`);
  const mistaken = await api("GET", `${list}?sort=createdAt&cursor=${encodeURIComponent(body.nextCursor)}`);
  expect([mistaken.status, mistaken.body.errors[0].code]).toEqual([400, "not-a-cursor"]);
});

test("policies are filtered by where they hold and for which tag, and listed in the order of flags", async () => {
  const asked = { approvers: { role: "approver" }, approvals: 1 };
  for (const fields of [
    { key: "x", name: "Banana", environments: ["production"], tags: ["payment"] },
    { key: "y", name: "Apple", environments: ["development"], enabled: false },
    { key: "z", name: "Banana", tags: ["other"] },
  ]) {
    expect((await api("POST", `${at}/policies`, { ...asked, ...fields })).status).toBe(201);
  }
  for (const [query, keys] of [
    ["", "x y z"],
    ["?sort=-key", "z y x"],
    ["?sort=name", "y x z"],
    ["?sort=-name", "z x y"],
    ["?sort=-createdAt", "z y x"],
    ["?environment=production", "x z"],
    ["?tag=payment", "x y"],
    ["?enabled=true", "x z"],
    ["?q=APPLE", "y"],
  ] as const) {
    expect([query, (await all(`${at}/policies${query}`, "key", 1)).join(" ")]).toEqual([query, keys]);
  }
});

test("kill reviews are listed in either order, and found by the reason", async () => {
  for (const flag of ["a", "b", "c"]) {
    await approver("POST", `${at}/flags/${flag}/environments/production/kill`, { reason: `because of ${flag}` });
  }
  const list = `${at}/kill-reviews`;
  expect(await all(list, "flag")).toEqual(["c", "b", "a"]);
  expect(await all(`${list}?sort=createdAt`, "flag", 1)).toEqual(["a", "b", "c"]);
  expect(await all(`${list}?q=OF%20B`, "flag")).toEqual(["b"]);
});

test("schedules and ramps are found by their author", async () => {
  const mine = await other("POST", `${at}/schedules`, {
    ...{ environment: "development", flag: "b", at: Date.now() + 3_600_000, fields: { on: true } },
  });
  expect(mine.status).toBe(201);
  const id = (await other("GET", "/me")).body.id;
  expect(await all(`${at}/schedules?author=${id}`, "id")).toEqual([mine.body.id]);
  const nobody = (await api("GET", "/me")).body.id;
  expect(await all(`${at}/schedules?author=${nobody}`, "id")).toEqual([]);
  const ramp = { environment: "development", flag: "c", variation: "off", steps: [{ weight: 5_000 }] };
  await other("POST", `/projects/${project}/flags/c/environments/development/on`);
  const begun = await other("POST", `${at}/ramps`, ramp);
  expect(begun.status).toBe(201);
  const status = async (author: string) => (await all(`${at}/ramps?author=${author}`, "id")).length;
  expect([await status(id), await status(nobody)]).toEqual([1, 0]);
});

test("code references are found by their path and their text, and an entry of the log has an ETag that stays", async () => {
  const references = [
    { flag: "a", path: "src/cart.ts", line: 1 },
    { flag: "b", path: "src/pay.ts", line: 2, snippet: "if (Cart)" },
    { flag: "c", path: "src/other.ts", line: 3 },
  ];
  const sent = { repository: "shop", commit: "abcdef0", branch: "main", references };
  expect((await api("PUT", `${at}/code-references`, sent)).status).toBe(200);
  expect(await all(`${at}/code-references?q=cart`, "flag", 1)).toEqual(["a", "b"]);
  const { items } = (await api("GET", `/audit?project=${project}&limit=1`)).body;
  const first = await api("GET", `/audit/${items[0].id}`);
  const again = await api("GET", `/audit/${items[0].id}`);
  expect([first.headers.get("etag"), again.headers.get("etag")]).toEqual(['"v1"', '"v1"']);
});
