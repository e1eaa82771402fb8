import { exports } from "cloudflare:workers";
import { expect, test } from "vitest";
import { api, operations } from "../../support/story.ts";

/** Enough to be routed there: what is wrong with a query is said before anything is looked up. */
const placeOf = (path: string) => path.replace(/\{\w+\}/g, "1");
const ask = ({ path, method }: { path: string; method: string }, query: string) =>
  api(method.toUpperCase(), `${placeOf(path)}?${query}`, method === "get" || method === "delete" ? undefined : {});
const queryOf = ({ parameters = [] }: (typeof operations)[number]) => parameters.filter((one) => one.in === "query");

test("every operation refuses a query parameter that it does not know", async () => {
  for (const operation of operations) {
    const { status, body } = await ask(operation, "zzz=1");
    expect([operation.operationId, status, body.code, body.errors]).toEqual([
      operation.operationId,
      400,
      "invalid-request",
      [{ pointer: "query:/zzz", code: "unknown-parameter", message: expect.any(String) }],
    ]);
  }
});

test("every operation names the parameter that was meant by another spelling of it", async () => {
  let spelled = 0;
  for (const operation of operations) {
    for (const { name = "" } of queryOf(operation)) {
      const snake = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
      const spellings = [name.toUpperCase(), snake, snake.replaceAll("_", "-"), name.toLowerCase(), `${name}s`];
      for (const spelling of new Set(spellings.filter((one) => one !== name))) {
        const { status, body } = await ask(operation, `${spelling}=true`);
        const answered = [operation.operationId, spelling, status, body.errors?.[0].message];
        expect(answered).toEqual([
          operation.operationId,
          spelling,
          400,
          expect.stringContaining(`Did you mean ${name}?`),
        ]);
        spelled++;
      }
    }
  }
  expect(spelled).toBeGreaterThan(200);
}, 60_000);

test("no operation takes a parameter twice, but for those that are lists", async () => {
  const lists: string[] = [];
  for (const operation of operations) {
    for (const { name = "", schema } of queryOf(operation)) {
      const { status, body } = await ask(operation, `${name}=false&${name}=true`);
      if (schema?.type === "array") lists.push(`${operation.operationId} ${name}`);
      else {
        expect([operation.operationId, name, status, body.errors[0]]).toEqual([
          operation.operationId,
          name,
          400,
          { pointer: `query:/${name}`, code: "parameter-twice", message: expect.any(String) },
        ]);
      }
    }
  }
  expect(lists).toEqual(["listFlags tag"]);
});

test("a query of thousands of unknown parameters, or of long ones, is refused without being compared with all", async () => {
  const many = Array.from({ length: 2_000 }, (_, index) => `p${index}=1`).join("&");
  const { status, body } = await api("GET", `/projects?${many}`);
  expect([status, body.errors.length]).toEqual([400, 100]);
  const long = await api("GET", `/projects?${"limit".repeat(2_000)}=1`);
  expect([long.status, long.body.errors[0].message]).toEqual([400, expect.not.stringContaining("Did you mean")]);
  for (const odd of ["__proto__=1", "constructor=1", "toString=1", "%00=1", "=1"]) {
    expect([odd, (await api("GET", `/projects?${odd}`)).status]).toEqual([odd, 400]);
  }
});

test("the data plane takes parameters that it does not know, as older SDKs send them", async () => {
  const url = "https://bunting.test/sdk/v1/ruleset?zzz=1";
  expect((await exports.default.fetch(new Request(url))).status).toBe(401);
});
