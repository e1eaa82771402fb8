import { OpenFeature } from "@openfeature/server-sdk";
import { OpenFeature as WebOpenFeature } from "@openfeature/web-sdk";
import { createElement } from "react";
import { renderToString } from "react-dom/server";
import { describe, expect, expectTypeOf, test, vi } from "vitest";
import type { BrowserClient } from "./browser.ts";
import type { Client } from "./node.ts";
import { BuntingProvider } from "./openfeature-server.ts";
import { BuntingWebProvider } from "./openfeature-web.ts";
import { type ProviderProps, BuntingProvider as ReactProvider, useFlag } from "./react.tsx";
import { createTestBrowserClient, createTestClient } from "./testing.ts";

type Flags = { "new-checkout": boolean; theme: string; limit: number; layout: { columns: number } };

/** What an application has: it knows nothing of tests. */
function price(bunting: Client<Flags>, user: string): string {
  const context = { targetingKey: user, plan: user.startsWith("gold") ? "gold" : "free" };
  bunting.track("priced", context, 9.5);
  const discount = bunting.boolean("new-checkout", false, context) ? "less" : "full";
  return `${discount}, ${bunting.string("theme", "light", context)}`;
}

const made = () =>
  createTestClient<Flags>({
    flags: { "new-checkout": true, theme: ({ plan }) => (plan === "gold" ? "dark" : "light") },
  });

describe("a client for tests", () => {
  test("takes the place of the real one, and answers the values that the test set, by context (R15)", () => {
    const bunting = made();
    expect(price(bunting, "gold-1")).toBe("less, dark");
    expect(price(bunting, "ada")).toBe("less, light");
    bunting.set("new-checkout", false);
    expect(price(bunting, "gold-1")).toBe("full, dark");
  });

  test("records what was evaluated and tracked, in order", () => {
    const bunting = made();
    price(bunting, "gold-1");
    expect(bunting.evaluations).toMatchObject([
      { key: "new-checkout", context: { targetingKey: "gold-1" }, decision: { value: true, reason: "STATIC" } },
      { key: "theme", decision: { value: "dark", reason: "RULE_MATCH" } },
    ]);
    expect(bunting.tracked).toMatchObject([{ metric: "priced", unit: "gold-1", value: 9.5 }]);
  });

  test("tracks nothing that the real one would not send", () => {
    const bunting = made();
    bunting.track("priced", {});
    bunting.track("priced", { targetingKey: "ada" }, Number.NaN);
    expect(bunting.tracked).toEqual([]);
  });

  test("answers the default for a flag that is not set or removed, and for one of another type", () => {
    const bunting = createTestClient({ flags: { theme: "dark" } });
    expect(bunting.details("new-checkout", true)).toMatchObject({ value: true, errorCode: "FLAG_NOT_FOUND" });
    expect(bunting.details("theme", 7)).toMatchObject({ value: 7, errorCode: "TYPE_MISMATCH" });
    expect(bunting.boolean("theme", true)).toBe(true);
    bunting.remove("theme");
    expect(bunting.string("theme", "light")).toBe("light");
    expect(bunting.details("constructor", 1)).toMatchObject({ errorCode: "FLAG_NOT_FOUND" });
  });

  test("is as it was made after a reset", () => {
    const bunting = made();
    bunting.set("new-checkout", false);
    bunting.set("limit", 3);
    price(bunting, "ada");
    bunting.reset();
    expect(bunting.evaluations).toEqual([]);
    expect(bunting.tracked).toEqual([]);
    expect(Object.keys(bunting.all())).toEqual(["new-checkout", "theme"]);
    expect(bunting.boolean("new-checkout", false)).toBe(true);
  });

  test("reports a change as the real one does", () => {
    const bunting = made();
    const changed = vi.fn();
    const stop = bunting.on("change", changed);
    bunting.set("limit", 3);
    expect(changed).toHaveBeenCalledWith(expect.objectContaining({ flags: ["limit"], segments: [] }));
    stop();
    bunting.set("limit", 4);
    expect(changed).toHaveBeenCalledTimes(1);
  });

  test("freezes JSON values, its own copy of them", () => {
    const layout = { columns: 2 };
    const bunting = createTestClient<Flags>({ flags: { layout } });
    const value = bunting.json("layout", { columns: 1 });
    layout.columns = 3;
    expect(value).toEqual({ columns: 2 });
    expect(() => {
      value.columns = 4;
    }).toThrow(TypeError);
  });

  test("is ready at once, and closes", async () => {
    const bunting = made();
    expect(await bunting.ready()).toBe(true);
    expect(bunting.status()).toMatchObject({ ready: true, stale: false, revision: 1 });
    await bunting.close();
    expect(bunting.status().closed).toBe(true);
    expect(bunting.boolean("new-checkout", false)).toBe(true);
  });

  test("serves OpenFeature's provider", async () => {
    await OpenFeature.setProviderAndWait("testing", new BuntingProvider(made()));
    const details = await OpenFeature.getClient("testing").getStringDetails("theme", "light", { plan: "gold" });
    expect(details).toMatchObject({ value: "dark", reason: "TARGETING_MATCH" });
    await OpenFeature.clearProviders();
  });

  test("has the real client's type", () => {
    expectTypeOf(made()).toExtend<Client<Flags>>();
    const bunting = made();
    // @ts-expect-error: a text is no boolean
    bunting.set("new-checkout", "yes");
    // @ts-expect-error: there is no such flag
    bunting.set("new-chekout", true);
  });
});

describe("a client for tests of what runs in browsers", () => {
  const visited = (context = {}) =>
    createTestBrowserClient<Flags>({
      flags: { "new-checkout": true, theme: ({ plan }) => (plan === "gold" ? "dark" : "light") },
      context,
    });

  test("answers for its context, and again when that changes", async () => {
    const bunting = visited();
    const changed = vi.fn();
    bunting.on("change", changed);
    expect(bunting.string("theme", "")).toBe("light");
    await bunting.setContext({ plan: "gold" });
    expect(bunting.string("theme", "")).toBe("dark");
    expect(bunting.context).toEqual({ targetingKey: "anonymous", anonymousId: "anonymous", plan: "gold" });
    await bunting.setContext({ targetingKey: undefined, plan: "gold" });
    expect(bunting.context).toEqual({ targetingKey: "anonymous", anonymousId: "anonymous", plan: "gold" });
    expect(changed.mock.calls).toEqual([[{ revision: 1, flags: ["theme"] }]]);
    expect(bunting.evaluations.map(({ decision }) => decision.value)).toEqual(["light", "dark"]);
  });

  test("keeps all values the same object until one of them changes", () => {
    const bunting = visited();
    const before = bunting.all();
    expect(bunting.all()).toBe(before);
    expect(before["new-checkout"]).toMatchObject({ value: true, variation: "test", reason: "STATIC" });
    bunting.set("new-checkout", false);
    expect(bunting.all()).not.toBe(before);
    expect(bunting.boolean("new-checkout", true)).toBe(false);
  });

  test("records what is tracked, of the visitor", () => {
    const bunting = visited({ targetingKey: "ada" });
    bunting.track("ordered", 99.5);
    expect(bunting.tracked).toMatchObject([{ metric: "ordered", unit: "ada", value: 99.5 }]);
  });

  test("serves OpenFeature's provider", async () => {
    const bunting = visited();
    await WebOpenFeature.setProviderAndWait("testing", new BuntingWebProvider(bunting));
    const features = WebOpenFeature.getClient("testing");
    expect(features.getStringValue("theme", "")).toBe("light");
    await WebOpenFeature.setContext("testing", { plan: "gold" });
    expect(features.getStringValue("theme", "")).toBe("dark");
    await WebOpenFeature.clearProviders();
  });

  test("serves components of React", () => {
    const bunting = visited({ plan: "gold" });
    const Theme = () => useFlag("theme", "light");
    const drawn = () => renderToString(createElement(ReactProvider, { client: bunting }, createElement(Theme)));
    expect(drawn()).toBe("dark");
  });

  test("has the real client's type", () => {
    expectTypeOf(visited()).toExtend<BrowserClient<Flags>>();
    expectTypeOf<BrowserClient<Flags>>().toExtend<ProviderProps["client"]>();
  });
});
