import { expect, test } from "vitest";
import { NewestSeen } from "./newest-seen.ts";

test("the newest revision seen only grows, and of too many environments the one seen longest ago is forgotten", () => {
  const seen = new NewestSeen(2);
  seen.note("a", 5);
  seen.note("a", 3);
  expect(seen.of("a")).toBe(5);
  seen.note("b", 1);
  seen.note("a", 5);
  seen.note("c", 1);
  expect(["a", "b", "c"].map((environment) => seen.of(environment))).toEqual([5, 0, 1]);
});
