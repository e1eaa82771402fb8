import { exports } from "cloudflare:workers";
import { hc } from "hono/client";
import { expect, test } from "vitest";
import type { AdminApi } from "../../../workers/admin/api.ts";
import { difference } from "../../../workers/admin/documents/diff.ts";
import { bootstrap } from "../../support/admin.ts";

test("the app's type is its clients' contract", async () => {
  const { body } = await bootstrap("POST", "/tokens", { name: "flagctl", role: "admin" });
  const api = hc<AdminApi>("https://bunting.test/api/v1", {
    headers: { authorization: `Bearer ${body.token}` },
    fetch: (input: RequestInfo | URL, init?: RequestInit) => exports.default.fetch(new Request(input, init)),
  });
  await api.projects.$post({ json: { key: "typed" } });
  await api.projects[":project"].environments.$post({ param: { project: "typed" }, json: { key: "production" } });
  const created = await api.projects[":project"].flags.$post({
    param: { project: "typed" },
    json: { key: "colour", type: "string", variations: [{ key: "red", value: "#f00" }] },
  });
  if (!created.ok) throw new Error("not created");
  expect((await created.json()).environments?.production?.revision).toBeGreaterThan(0);
  const there = api.projects[":project"].flags[":flag"].environments[":environment"];
  const param = { project: "typed", flag: "colour", environment: "production" };
  const patched = await there.$patch({ param, query: {}, json: { on: true } });
  if (patched.ok) expect((await patched.json()).on).toBe(true);
  const killed = await there.kill.$post({ param, query: { wait: "0" }, json: { reason: "red alert" } });
  if (!killed.ok) throw new Error("not killed");
  expect((await killed.json()).killed?.reason).toBe("red alert");
  const missing = await api.projects[":project"].$get({ param: { project: "none" } });
  if (missing.status === 404) expect((await missing.json()).code).toBe("not-found");
});

test("a change is told by what it means: things by their id, lists whole, long lists by what came and went", () => {
  const rule = (id: string, plans: string[]) => ({ id, conditions: [{ attribute: "plan", op: "in", values: plans }] });
  expect(difference({ rules: [rule("a", ["free"])] }, { rules: [rule("a", ["free", "pro"])] })).toEqual({
    "rules[0].conditions[0].values": { from: ["free"], to: ["free", "pro"] },
  });
  expect(difference({ rules: [rule("a", []), rule("b", [])] }, { rules: [rule("b", []), rule("a", ["x"])] })).toEqual({
    "rules[1].conditions[0].values": { from: [], to: ["x"] },
    "rules.order": { from: ["a", "b"], to: ["b", "a"] },
  });
  expect(difference({ rules: [rule("a", [])] }, { rules: [rule("new", []), rule("a", [])] })).toEqual({
    "rules[0]": { to: rule("new", []) },
  });
  expect(difference({ rules: [rule("a", [])] }, { rules: [rule("b", [])] })).toEqual({
    "rules[0]": { from: rule("a", []), to: rule("b", []) },
  });
  const users = Array.from({ length: 100 }, (_, index) => `u${index}`);
  expect(difference({ values: users }, { values: [...users.slice(1), "new"] })).toEqual({
    "values.removed": { from: ["u0"] },
    "values.added": { to: ["new"] },
  });
  expect(difference({ a: 1, b: { c: null } }, { a: 1, b: { c: 2 }, d: [] })).toEqual({
    "b.c": { from: null, to: 2 },
    d: { to: [] },
  });
});
