import { expect, test } from "vitest";
import { newFlag, newProject, newToken } from "../../support/admin.ts";

const api = await newToken();
const project = await newProject(api);
const segments = `/projects/${project}/environments/production/segments`;

test("a segment is made, used, changed, and deleted when nothing uses it", async () => {
  const created = await api("POST", segments, {
    key: "beta-users",
    included: ["u1"],
    rules: [
      { conditions: [{ attribute: "plan", op: "in", values: ["pro"] }], sample: { buckets: 25_000 } },
      { conditions: [{ attribute: "staff", op: "in", values: [true] }] },
    ],
  });
  expect(created.status).toBe(201);
  expect(created.body.rules[0]).toMatchObject({ sample: { by: "key", seed: "beta-users", buckets: 25_000 } });
  expect(created.body.revision).toBeGreaterThan(0);

  const flag = `${await newFlag(api, project, "for-beta")}/environments/production`;
  const rule = { conditions: [{ segment: ["beta-users"] }], serve: { variation: "on" } };
  await api("PATCH", flag, { on: true, rules: [rule], fallthrough: { variation: "off" } });
  const served = async (context: object) => (await api("POST", `${flag}/evaluate`, { context })).body.variation;
  expect(await served({ targetingKey: "u1" })).toBe("on");
  expect(await served({ targetingKey: "u2" })).toBe("off");

  const patched = await api("PATCH", `${segments}/beta-users`, { included: ["u1", "u2"] }, { "if-match": '"v1"' });
  expect(patched.body).toMatchObject({ version: 2, included: ["u1", "u2"], rules: created.body.rules });
  expect(await served({ targetingKey: "u2" })).toBe("on");

  const refused = await api("DELETE", `${segments}/beta-users`);
  expect(refused.status).toBe(409);
  expect(refused.body.dependents).toEqual([{ environment: "production", kind: "flag", key: "for-beta" }]);
  await api("PATCH", flag, { rules: [] });
  expect((await api("DELETE", `${segments}/beta-users`)).status).toBe(204);
  expect((await api("GET", `${segments}/beta-users`)).status).toBe(404);
  const { body: log } = await api("GET", `/audit?type=segment&project=${project}&environment=production`);
  expect(log.items.map((entry: { action: string }) => entry.action)).toEqual([
    "segment.delete",
    "segment.update",
    "segment.create",
  ]);
  expect(log.items[1].changes).toEqual({ included: { from: ["u1"], to: ["u1", "u2"] } });
});

test("segments that hold each other are refused, as are unknown fields and keys that are taken", async () => {
  const decidedBy = (key: string) => [{ conditions: [{ segment: [key] }] }];
  await api("POST", segments, { key: "one" });
  await api("POST", segments, { key: "two", rules: decidedBy("one") });
  const cycle = await api("PATCH", `${segments}/one`, { rules: decidedBy("two") });
  expect(cycle.status).toBe(400);
  expect(cycle.body.errors[0].pointer).toMatch(/^\/rules\/0\/conditions\/0/);
  expect((await api("POST", segments, { key: "one" })).status).toBe(409);
  expect((await api("POST", segments, { key: "x", members: [] })).body.errors).toMatchObject([{ pointer: "/members" }]);
  const list = await api("GET", `${segments}?limit=1`);
  expect(list.body).toMatchObject({ items: [{ key: "one" }], nextCursor: expect.any(String) });
  expect((await api("GET", `${segments}?cursor=${list.body.nextCursor}`)).body.items).toMatchObject([{ key: "two" }]);
});

test("a segment may have a name that every object has", async () => {
  for (const key of ["toString", "valueOf", "hasOwnProperty"]) {
    expect((await api("POST", segments, { key, included: ["u1"] })).status).toBe(201);
    expect((await api("POST", segments, { key })).status).toBe(409);
  }
});
