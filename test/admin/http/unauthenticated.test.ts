/** What is asked without a valid token costs little, and delays nobody who has one. */
import { env, exports } from "cloudflare:workers";
import { describe, expect, test, vi } from "vitest";
import { as, newFlag, newProject, newToken } from "../../support/admin.ts";

const get = (path: string, headers: Record<string, string> = {}) =>
  exports.default.fetch(new Request(`https://bunting.test/api/v1${path}`, { headers }));

describe("the OpenAPI document and its page", () => {
  test("have an ETag, may be cached, and are 304 for those who have them", async () => {
    for (const path of ["/openapi.json", "/docs"]) {
      const first = await get(path);
      const etag = first.headers.get("etag") ?? "";
      expect([path, first.status, first.headers.get("cache-control")]).toEqual([path, 200, "public, max-age=300"]);
      expect(etag).toMatch(/^"[0-9a-f]{32}"$/);
      await first.text();
      const again = await get(path, { "if-none-match": etag });
      expect([path, again.status, await again.text()]).toEqual([path, 304, ""]);
      const third = await get(path);
      expect(third.headers.get("etag")).toBe(etag);
      await third.text();
    }
  });
});

describe("guessed API tokens", () => {
  test("are refused before anything is read once an address has sent a hundred; others, and kills, are not", async () => {
    const api = await newToken();
    const project = await newProject(api);
    const flag = await newFlag(api, project, "guessed");
    const from = (address: string) => ({ "cf-connecting-ip": address });
    const statuses: number[] = [];
    for (let n = 0; n < 130; n++) {
      const guess = as(`bnt_api_guess${n}`);
      statuses.push((await guess("GET", "/projects", undefined, from("203.0.113.9"))).status);
    }
    expect(statuses.slice(0, 100)).toEqual(Array.from({ length: 100 }, () => 401));
    expect(statuses.at(-1)).toBe(429);
    const prepare = vi.spyOn(env.DB, "prepare");
    const refused = await as("bnt_api_one-more")("GET", "/projects", undefined, from("203.0.113.9"));
    expect([refused.status, refused.body.code]).toEqual([429, "too-many-requests"]);
    expect(prepare).not.toHaveBeenCalled();
    expect((await as("bnt_api_other")("GET", "/projects", undefined, from("203.0.113.10"))).status).toBe(401);
    expect(prepare).toHaveBeenCalled();
    prepare.mockRestore();
    expect((await api("GET", `/projects/${project}`, undefined, from("203.0.113.9"))).status).toBe(200);
    const kill = `${flag}/environments/production/kill`;
    expect((await as("bnt_api_guess")("POST", kill, { reason: "x" }, from("203.0.113.9"))).status).toBe(401);
    expect((await api("POST", kill, { reason: "fire" }, from("203.0.113.9"))).status).toBe(200);
  });
});

test("what is called evaluate is checked as everything else is: only the operation takes any JSON", async () => {
  const api = await newToken();
  const project = await newProject(api);
  const flag = await newFlag(api, project, "evaluate");
  for (const [body, code] of [
    ['{"name": "\\ud800"}', "lone-surrogate"],
    ['{"__proto__": {"x": 1}}', "reserved-name"],
    ['{"tags": [1e999]}', "number-too-large"],
  ] as const) {
    const { status, body: problem } = await api("PATCH", flag, body);
    expect([body, status, problem.errors[0].code]).toEqual([body, 400, code]);
  }
  const decided = await api("POST", `${flag}/environments/production/evaluate`, '{"context": {"odd": 1e999}}');
  expect(decided.status).toBe(200);
});

test("answers are not stored by caches and not guessed at by browsers", async () => {
  const api = await newToken();
  const { headers } = await api("POST", "/tokens", { name: "once", role: "viewer" });
  expect([headers.get("cache-control"), headers.get("x-content-type-options")]).toEqual(["no-store", "nosniff"]);
  const problem = await api("GET", "/tokens/none");
  expect([problem.status, problem.headers.get("cache-control")]).toEqual([404, "no-store"]);
});
