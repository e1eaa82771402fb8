import { DrizzleQueryError } from "drizzle-orm";
import { expect, test } from "vitest";
import { errorStack, errorText } from "./error-text.ts";

const failed = new DrizzleQueryError(
  "SELECT * FROM tokens WHERE hash = ?",
  ["hash-of-a-secret"],
  new Error("D1_ERROR: busy"),
);

test("an error is logged with its causes, and without the parameters of a statement", () => {
  expect(errorText(new Error("outer", { cause: failed }))).toBe(
    "Error: outer ← a statement failed ← Error: D1_ERROR: busy",
  );
  expect(errorText("text")).toBe("text");
  expect(errorText(new TypeError("x".repeat(2_000))).length).toBe(500);
});

test("a stack is where it happened, and nothing of the message", () => {
  const stack = errorStack(failed);
  expect(stack).toMatch(/^\s+at /);
  expect(stack).not.toMatch(/SELECT|hash/);
  expect(errorStack("text")).toBeUndefined();
});
