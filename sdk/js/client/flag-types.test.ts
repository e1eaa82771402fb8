import type { Decision, Json } from "@bunting/core";
import { describe, expect, expectTypeOf, test } from "vitest";
import type { BrowserClient } from "../browser.ts";
import type { Client } from "../node.ts";
import { useFlag } from "../react.tsx";
import { createTestBrowserClient, createTestClient } from "../testing.ts";
import type { WorkersClient } from "../workers.ts";

/** An application's own, as `interface`s, which have no index signature. */
interface Layout {
  columns: number;
  title?: string;
}
interface Flags {
  "new-checkout": boolean;
  theme: "light" | "dark";
  limit: number;
  layout: Layout;
}
interface User {
  targetingKey: string;
  plan: string;
}

const user: User = { targetingKey: "ada", plan: "pro" };
const layout: Layout = { columns: 2 };
const made = () => createTestClient<Flags>({ flags: { layout: { columns: 3 }, "new-checkout": true, theme: "dark" } });
const visited = () => createTestBrowserClient<Flags>({ flags: { layout: { columns: 3 } }, context: user });

describe("the types of an application may be interfaces", () => {
  test("of flags: keys and types of values are checked, for servers and for pages", () => {
    const server = made();
    const page = visited();
    expect(server.boolean("new-checkout", false, user)).toBe(true);
    expect(page.json("layout", layout)).toEqual({ columns: 3 });
    // @ts-expect-error: there is no such flag
    server.boolean("new-chekout", false);
    // @ts-expect-error: it is a number
    page.boolean("limit", false);
    expectTypeOf<Client<Flags>>().toHaveProperty("boolean");
    expectTypeOf<BrowserClient<Flags>>().toHaveProperty("json");
    expectTypeOf<WorkersClient<Flags>["client"]>().toEqualTypeOf<Client<Flags>>();
  });

  test("of a JSON flag's value", () => {
    expectTypeOf(made().json("layout", layout, user)).toEqualTypeOf<Layout>();
    expectTypeOf(visited().json("layout", layout)).toEqualTypeOf<Layout>();
    // @ts-expect-error: a function is no JSON
    made().json("layout", { columns: () => 2 });
    // @ts-expect-error: nor is a bigint
    visited().json("layout", { columns: 2n });
  });

  test("of a context", () => {
    expect(made().string("theme", "light", user)).toBe("dark");
    made().track("bought", user);
    void visited().setContext(user);
    // @ts-expect-error: a targeting key is a string
    made().string("theme", "light", { targetingKey: 42 });
  });
});

test("details() keeps the type of its default, and any JSON for null", () => {
  expectTypeOf(made().details("new-checkout", false)).toEqualTypeOf<Decision<boolean>>();
  expectTypeOf(made().details("theme", "light")).toEqualTypeOf<Decision<string>>();
  expectTypeOf(made().details("layout", layout)).toEqualTypeOf<Decision<Layout>>();
  expectTypeOf(made().details("layout", null)).toEqualTypeOf<Decision<Json>>();
  expectTypeOf(visited().details("limit", 3)).toEqualTypeOf<Decision<number>>();
});

test("useFlag answers what its default can be, and any JSON for null", () => {
  const typesOf = () => {
    expectTypeOf(useFlag("new-checkout", false)).toEqualTypeOf<boolean>();
    expectTypeOf(useFlag("theme", "light")).toEqualTypeOf<string>();
    expectTypeOf(useFlag("layout", layout)).toEqualTypeOf<Layout>();
    expectTypeOf(useFlag<Layout>("layout", layout)).toEqualTypeOf<Layout>();
    expectTypeOf(useFlag("layout", null)).toEqualTypeOf<Json>();
    // @ts-expect-error: a function is no JSON
    useFlag("layout", { columns: () => 2 });
  };
  expect(typesOf).toBeTypeOf("function");
});

test("listeners know their events, and the flags whose changes they want", () => {
  const server = made();
  server.on("change:theme", ({ revision, flags }) =>
    expectTypeOf({ revision, flags }).toEqualTypeOf<{ revision: number; flags: string[] }>(),
  );
  server.once("stale", ({ forMs }) => expectTypeOf(forMs).toEqualTypeOf<number>());
  visited().on("change:limit", ({ flags }) => expectTypeOf(flags).toEqualTypeOf<string[]>());
  // @ts-expect-error: there is no such flag
  server.on("change:thme", () => {});
  // @ts-expect-error: there is no such event
  visited().on("chnge", () => {});
});
