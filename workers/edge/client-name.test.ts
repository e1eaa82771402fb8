import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { clientHeader } from "../../sdk/js/client/credentials.ts";
import { clientName } from "./client-name.ts";

const nameFrom = (name: string) => clientName(clientHeader("bunting-node", "0b0f", name)).name;

describe("the name of an application", () => {
  test.each(["shop", "shop api", "café/checkout", "東京-店", "a;b=c", "100 %", "🛒 basket"])(
    "%s is shown in receipts as it was given",
    (name) => expect(nameFrom(name)).toBe(name),
  );

  test("of more than 100 characters is cut between two of them", () => {
    expect(nameFrom("店".repeat(150))).toBe("店".repeat(100));
    expect(nameFrom("🛒".repeat(101))).toBe("🛒".repeat(100));
  });

  test("is a header that can be sent, whatever it is, and what is visible of it arrives", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 300 }), (name) => {
        const header = clientHeader("bunting-node", "0b0f", name);
        expect(header).toMatch(/^[\x20-\x7e]*$/);
        expect(clientName(header)).toMatchObject({ sdk: expect.stringMatching(/^bunting-node\//), instance: "0b0f" });
        const first = [...name].slice(0, 100).join("").toWellFormed();
        expect(clientName(header).name).toBe(first.replace(/[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/gu, ""));
      }),
    );
  });

  test.each([
    ["of an app without an SDK need not be encoded", "shop-ios/4.2;name=shop ios", "shop ios"],
    ["that is encoded wrongly stands for itself", "shop/1;name=100%", "100%"],
    ["loses line breaks, controls and marks that turn a line around", "shop/1;name=a%0Ab%00%E2%80%AEc", "abc"],
    ["may be missing", "shop/1", ""],
  ])("%s", (_, header, name) => expect(clientName(header).name).toBe(name));
});

test("whoever says nothing is unknown", () => {
  expect(clientName("")).toEqual({ sdk: "unknown", instance: "", name: "" });
});
