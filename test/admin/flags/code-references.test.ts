import { expect, test } from "vitest";
import { newFlag, newProject, newToken } from "../../support/admin.ts";

const api = await newToken();
const ci = await newToken({ name: "CI", role: "editor" });
const project = await newProject(api);
const path = `/projects/${project}/code-references`;
await newFlag(api, project, "checkout");
await newFlag(api, project, "search");

const reference = (flag: string, line = 1, more: object = {}) => ({ flag, path: "src/a.ts", line, ...more });
const snapshot = (references: object[], more: object = {}) => ({
  repository: "github.com/acme/shop",
  commit: "0123abc",
  branch: "main",
  references,
  ...more,
});
const found = async (query = "") => (await api("GET", `${path}?limit=100${query}`)).body.items;

test("CI tells where flags are, and which keys are no flags (R12)", async () => {
  const sent = snapshot([reference("checkout", 3, { snippet: 'if (flag("checkout"))' }), reference("gone", 9)]);
  const { status, body } = await ci("PUT", path, sent);
  expect(status).toBe(200);
  expect(body).toMatchObject({ references: 2, unknownFlags: ["gone"], commit: "0123abc" });
  expect(await found("&flag=checkout")).toEqual([
    {
      flag: "checkout",
      path: "src/a.ts",
      line: 3,
      snippet: 'if (flag("checkout"))',
      repository: "github.com/acme/shop",
      commit: "0123abc",
      branch: "main",
      uploadedAt: body.uploadedAt,
    },
  ]);
});

test("the next upload is the whole truth of its repository, and of no other", async () => {
  await ci("PUT", path, snapshot([reference("search")], { repository: "other" }));
  await ci("PUT", path, snapshot([reference("checkout", 4), reference("checkout", 4)], { commit: "4567def" }));
  expect((await found("&flag=checkout")).map(({ line }: { line: number }) => line)).toEqual([4]);
  expect(await found("&flag=gone")).toEqual([]);
  expect(await found("&repository=other")).toHaveLength(1);
  await ci("PUT", path, snapshot([], { repository: "other" }));
  expect(await found("&repository=other")).toEqual([]);
});

test("the same again changes nothing and is not in the audit log", async () => {
  const sent = snapshot([reference("search", 7)], { repository: "again" });
  const first = await ci("PUT", path, sent);
  const again = await ci("PUT", path, sent);
  expect(again.body).toEqual(first.body);
  const { body } = await api("GET", "/audit?key=again");
  expect(body.items).toHaveLength(1);
  expect(body.items[0]).toMatchObject({
    action: "repository.upload",
    actor: "CI",
    resource: { type: "repository", project, key: "again" },
    changes: { references: { to: 1 } },
  });
});

test("ten uploads at once leave one of them, whole", async () => {
  const answers = await Promise.all(
    Array.from({ length: 10 }, (_, index) =>
      ci(
        "PUT",
        path,
        snapshot(
          Array.from({ length: index + 1 }, (_, n) => reference("search", n + 1)),
          { repository: "race" },
        ),
      ),
    ),
  );
  expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(200));
  const { body } = await api("GET", "/audit?key=race&limit=1");
  expect(await found("&repository=race")).toHaveLength(body.items[0].changes.references.to);
});

test("they are read by the page", async () => {
  const many = Array.from({ length: 25 }, (_, index) => reference("search", index + 1));
  await ci("PUT", path, snapshot(many, { repository: "paged" }));
  const lines: number[] = [];
  for (let cursor: string | null = "0"; cursor !== null; ) {
    const { body } = await api("GET", `${path}?repository=paged&limit=10&cursor=${cursor}`);
    lines.push(...body.items.map(({ line }: { line: number }) => line));
    cursor = body.nextCursor;
  }
  expect(lines).toEqual(many.map(({ line }) => line));
  expect((await api("GET", `${path}?cursor=x`)).status).toBe(400);
});

test("what is wrong is told with its place", async () => {
  const pointers = async (body: object) => {
    const answer = await ci("PUT", path, body);
    return [answer.status, ...(answer.body.errors ?? []).map((one: { pointer: string }) => one.pointer)];
  };
  expect(await pointers(snapshot([reference("a b"), { flag: "x", path: "", line: 0 }]))).toEqual([
    400,
    "/references/0/flag",
    "/references/1/path",
    "/references/1/line",
  ]);
  expect(await pointers(snapshot([], { commit: "HEAD", repository: "" }))).toEqual([400, "/repository", "/commit"]);
  expect(await pointers(snapshot([reference("x", 1, { author: "me" })]))).toEqual([400, "/references/0/author"]);
  expect(await pointers(snapshot(Array(10_001).fill({ flag: "x", path: "p", line: 1 })))).toEqual([400, "/references"]);
  expect((await pointers(snapshot(Array(10_000).fill({}))))[0]).toBe(400);
  expect((await ci("PUT", "/projects/none/code-references", snapshot([]))).status).toBe(404);
});

test("it needs an editor of the whole project", async () => {
  const status = async (token: object) => (await (await newToken(token))("PUT", path, snapshot([]))).status;
  expect(await status({ role: "viewer" })).toBe(403);
  expect(await status({ role: "editor", scope: { projects: ["other"], environments: [] } })).toBe(403);
  expect(await status({ role: "editor", scope: { projects: [], environments: [`${project}/production`] } })).toBe(403);
  expect(await status({ role: "editor", scope: { projects: [project], environments: [] } })).toBe(200);
});
