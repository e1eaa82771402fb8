/** What follows from an operation's declaration alone, for every operation. */
import { exports } from "cloudflare:workers";
import { beforeAll, describe, expect, test } from "vitest";
import { type Api, as, newFlag, newProject, newToken, root } from "../../support/admin.ts";
import { operations } from "../../support/story.ts";

let api: Api;
let project: string;
let flag: string;
let token: string;
beforeAll(async () => {
  token = (await root("POST", "/tokens", { name: "test", role: "admin" })).body.token;
  api = as(token);
  project = await newProject(api);
  flag = await newFlag(api, project, "checkout");
});

const last = async (key: string) => (await api("GET", `/audit?flag_key=${key}&limit=1`)).body.items[0];

describe("routes", () => {
  test("every path answers 405 with the methods that it has, and 401 before that", async () => {
    const byPath = Map.groupBy(operations, ({ path }) => path);
    for (const [path, all] of byPath) {
      const there = path.replace(/\{\w+\}/g, "1");
      const methods = all.map(({ method }) => method.toUpperCase()).sort();
      const other = ["POST", "PUT", "PATCH", "DELETE"].find((method) => !methods.includes(method)) ?? "OPTIONS";
      const { status, headers, body } = await api(other, there);
      expect([path, status, body.code, headers.get("allow")]).toEqual([
        path,
        405,
        "method-not-allowed",
        methods.join(", "),
      ]);
      expect((await as(null)(other, there)).status).toBe(401);
    }
  });

  test("what stands in a path literally comes before what is only a name", async () => {
    expect((await api("GET", `/projects/${project}/flags/bulk`)).status).toBe(405);
    expect((await api("GET", "/audit/export")).headers.get("content-type")).toBe("application/x-ndjson");
  });

  test("HEAD is answered where GET is, and a slash at the end changes nothing", async () => {
    const head = async (path: string) => {
      const request = new Request(`https://bunting.test/api/v1${path}`, {
        method: "HEAD",
        headers: { authorization: `Bearer ${token}` },
      });
      return (await exports.default.fetch(request)).status;
    };
    expect(await head(`/projects/${project}`)).toBe(200);
    expect(await head(`/projects/${project}/promote`)).toBe(405);
    expect((await api("GET", `/projects/${project}/`)).body.key).toBe(project);
  });

  test("a path that is none of ours is 404 for those who have a token, and 401 for others", async () => {
    const send = (headers: HeadersInit) =>
      exports.default.fetch(new Request("https://bunting.test/api/v1/nothing", { headers }));
    expect((await send({})).status).toBe(401);
    expect((await api("GET", "/nothing")).status).toBe(404);
  });
});

describe("the reason of a write", () => {
  test("is taken from the body, or from the header where the body has none", async () => {
    await api(
      "POST",
      `${flag}/environments/production/on`,
      { reason: "of the body" },
      { "x-bunting-reason": "header" },
    );
    expect((await last("checkout")).reason).toBe("of the body");
    await api("POST", `${flag}/environments/production/off`, {}, { "x-bunting-reason": "of the header" });
    expect((await last("checkout")).reason).toBe("of the header");
    await api("PATCH", flag, { name: "Checkout", reason: "of a PATCH" });
    expect((await last("checkout")).reason).toBe("of a PATCH");
  });

  test("of a DELETE too", async () => {
    const gone = await newFlag(api, project, "gone");
    await api("POST", `${gone}/archive`);
    expect((await api("DELETE", gone, { reason: "nobody reads it" })).status).toBe(204);
    expect(await last("gone")).toMatchObject({ action: "flag.delete", reason: "nobody reads it" });
  });

  test("that is too long is refused, wherever it stands", async () => {
    const reason = "x".repeat(2_000);
    for (const [body, headers, pointer] of [
      [{ name: "Checkout", reason }, {}, "/reason"],
      [{ name: "Checkout" }, { "x-bunting-reason": reason }, "header:/X-Bunting-Reason"],
    ] as const) {
      const answer = await api("PATCH", flag, body, headers);
      expect([answer.status, answer.body.errors[0].pointer]).toEqual([400, pointer]);
    }
  });

  test("is no field of what is written", async () => {
    const { body } = await api("PATCH", flag, { description: "Pays", reason: "words" });
    expect(body).not.toHaveProperty("reason");
    expect((await last("checkout")).changes).not.toHaveProperty("reason");
  });
});

test("kill and restore take an empty body, with and without a reason in the header (Q2)", async () => {
  const there = `${flag}/environments/production`;
  const killed = await api("POST", `${there}/kill`);
  expect([killed.status, killed.body.killed.reason]).toEqual([200, ""]);
  expect((await api("POST", `${there}/restore`)).status).toBe(200);
  const again = await api("POST", `${there}/kill`, undefined, { "x-bunting-reason": "Orders fail" });
  expect([again.status, again.body.killed.reason]).toEqual([200, "Orders fail"]);
  await api("POST", `${there}/restore`);
});

test("an Idempotency-Key is of the query as well as of the body, but for how long to wait", async () => {
  const there = `${flag}/environments/development/on`;
  const key = { "idempotency-key": "of-the-query" };
  expect((await api("POST", there, {}, key)).status).toBe(200);
  const waiting = await api("POST", `${there}?wait=1`, {}, key);
  expect([waiting.status, waiting.headers.get("idempotency-replayed")]).toEqual([200, "true"]);
  const { items } = (await api("GET", "/audit?flag_key=checkout&limit=1")).body;
  const revert = `/audit/${items[0].id}/revert`;
  const once = { "idempotency-key": "revert-once" };
  expect((await api("POST", revert, {}, once)).status).toBe(200);
  expect((await api("POST", `${revert}?force=true`, {}, once)).body.code).toBe("idempotency-key-reused");
});

test("a role is refused before the query, the body and what they name are looked at", async () => {
  const viewer = await newToken({ role: "viewer" });
  const answer = await viewer("PATCH", `/projects/${project}/flags/nowhere?zzz=1`, "{");
  expect([answer.status, answer.body.code]).toEqual([403, "forbidden"]);
});
