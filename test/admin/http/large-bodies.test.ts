/** Bodies that are too deep, too long or too many: refused by every write, before anything else is made of them (Q12). */
import { expect, test } from "vitest";
import { newFlag, newProject, newToken, openContract } from "../../support/admin.ts";

const api = await newToken();
const project = await newProject(api);
const flag = await newFlag(api, project, "solid");
const there = `${flag}/environments/production`;

/** 400 KB: refused for its depth, not for its size. */
const DEEP = `{"a":${"[".repeat(200_000)}${"]".repeat(200_000)}}`;

test("two hundred thousand levels are a 4xx of every write", async () => {
  const { document } = await openContract();
  const routes = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.keys(item).flatMap((method) =>
      ["post", "put", "patch", "delete"].includes(method) ? [[method.toUpperCase(), path] as const] : [],
    ),
  );
  // Uploads take lines of members, in streams: no JSON document.
  const writes = routes.filter(([method, path]) => !(method === "POST" && path.endsWith("/members")));
  expect(writes.length).toBeGreaterThan(40);
  // One token may write so often and no more.
  const callers = await Promise.all(Array.from({ length: 4 }, () => newToken()));
  for (const [index, [method, path]] of writes.entries()) {
    const names: Record<string, string> = { project, environment: "production", flag: "solid" };
    const place = path.replace(/\{(\w+)\}/g, (_, name: string) => names[name] ?? "1");
    const { status } = await callers[index % callers.length]!(method, place, DEEP);
    expect([method, path, status]).toEqual([method, path, expect.toBeOneOf([400, 413])]);
  }
}, 60_000);

test.each([
  ["a string of 5 MiB", { reason: "x".repeat(5 * 1_024 * 1_024) }],
  ["a hundred thousand values", { targets: [{ variation: "on", values: Array(100_000).fill(1) }] }],
  ["a hundred thousand rules", { rules: Array(100_000).fill(1) }],
])(
  "%s is a 4xx, and the next write is answered",
  async (_, body) => {
    for (const [method, path] of [
      ["PATCH", there],
      ["POST", `${there}/instructions`],
      ["POST", `/projects/${project}/flags`],
      ["PATCH", flag],
      ["POST", `/projects/${project}/change-requests`],
    ] as const) {
      const { status } = await api(method, path, body);
      expect([method, path, status]).toEqual([method, path, expect.toBeOneOf([400, 413])]);
    }
    expect((await api("PATCH", there, { on: true })).status).toBe(200);
  },
  60_000,
);
