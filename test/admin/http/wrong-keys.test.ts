import { exports } from "cloudflare:workers";
import { expect, test } from "vitest";
import { as } from "../../support/admin.ts";

test.each([
  ["server", "bnt_srv_01234567890123456789_0123456789abcdef"],
  ["client", "bnt_cli_01234567890123456789_0123456789abcdef"],
])("the management API names a %s key", async (kind, key) => {
  const { status, body } = await as(key)("GET", "/me");
  expect([status, body.code]).toEqual([401, "unauthenticated"]);
  expect(body.detail).toBe(`This is a ${kind} key; the management API takes API tokens (bnt_api_…).`);
});

test("the data plane names an API token", async () => {
  for (const path of ["/sdk/v1/ruleset", "/ofrep/v1/evaluate/flags"]) {
    const response = await exports.default.fetch(
      new Request(`https://bunting.test${path}`, {
        method: path.startsWith("/ofrep") ? "POST" : "GET",
        headers: { authorization: "Bearer bnt_api_0123456789" },
      }),
    );
    expect([path, response.status, await response.text()]).toEqual([
      path,
      401,
      expect.stringContaining("This is an API token; this address takes SDK keys (bnt_srv_… or bnt_cli_…)."),
    ]);
  }
});
