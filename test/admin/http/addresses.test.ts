import { expect, test } from "vitest";
import { newFlag, newProject, newToken } from "../../support/admin.ts";
import { api, operations } from "../../support/story.ts";

const token = await newToken();
const key = await newProject(token);
const project = `/projects/${key}`;
const flag = await newFlag(token, key, "slashed");

test("a slash at the end of a path changes nothing", async () => {
  for (const path of ["/projects", project, `${project}/flags`, flag, `${flag}/environments/production`, "/me"]) {
    const [plain, slashed] = [await token("GET", path), await token("GET", `${path}/`)];
    expect([path, slashed.status]).toEqual([path, 200]);
    expect(slashed.body).toEqual(plain.body);
  }
  const created = await token("POST", `${project}/flags/`, {
    key: "after-a-slash",
    type: "boolean",
    variations: [{ key: "on", value: true }],
  });
  expect(created.status).toBe(201);
  expect((await token("POST", `${flag}/environments/production/kill/`, { reason: "Orders fail" })).status).toBe(200);
});

test("with a slash at its end, every path answers 405 and names the same methods as without", async () => {
  for (const { path } of operations) {
    const place = path.replace(/\{\w+\}/g, "1");
    const [plain, slashed] = [await api("OPTIONS", place), await api("OPTIONS", `${place}/`)];
    expect([place, plain.status, slashed.status]).toEqual([place, 405, 405]);
    expect(slashed.headers.get("allow")).toBe(plain.headers.get("allow"));
  }
});

test("with a slash at its end, every operation still checks its query", async () => {
  for (const { path, method } of operations) {
    const place = `${path.replace(/\{\w+\}/g, "1")}/?zzz=1`;
    const { status, body } = await api(
      method.toUpperCase(),
      place,
      method === "get" || method === "delete" ? undefined : {},
    );
    expect([place, status, body.errors?.[0].pointer]).toEqual([place, 400, "query:/zzz"]);
  }
});

test("an Idempotency-Key is of one request, with or without a slash at the end", async () => {
  const headers = { "idempotency-key": "slashed" };
  const body = { key: "twice-slashed", type: "boolean", variations: [{ key: "on", value: true }] };
  expect((await token("POST", `${project}/flags`, body, headers)).status).toBe(201);
  const again = await token("POST", `${project}/flags/`, body, headers);
  expect([again.status, again.headers.get("idempotency-replayed")]).toEqual([201, "true"]);
});
