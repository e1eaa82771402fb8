import { describe, expect, test } from "vitest";
import { statusAfter, verdicts } from "./change-request-state.ts";

describe("what can be done with a change request, and what becomes of it (R10)", () => {
  const steps = [
    "submit",
    "edit",
    "rebase",
    "comment",
    "approve",
    "request-changes",
    "withdraw",
    "publish",
    "fail",
  ] as const;
  test.each([
    ["draft", ["open", "draft", "draft", "draft", null, null, "withdrawn", null, null]],
    ["open", [null, "open", "open", "open", "open", "open", "withdrawn", "published", "failed"]],
    ["failed", [null, "open", "open", "failed", "failed", "failed", "withdrawn", "published", null]],
    ["published", [null, null, null, "published", null, null, null, null, null]],
    ["withdrawn", [null, null, null, "withdrawn", null, null, null, null, null]],
  ] as const)("%s", (status, after) => {
    expect(steps.map((step) => statusAfter(status, step))).toEqual(after);
  });
});

test("of each reviewer the last word on a revision counts, and none on another", () => {
  const said = (kind: "approve" | "request-changes" | "comment", actorId: string, revision = 2) => ({
    kind,
    actorId,
    revision,
  });
  const names = (events: ReturnType<typeof said>[]) => {
    const { approvals, objections } = verdicts(events, 2);
    return [approvals.map(({ actorId }) => actorId), objections.map(({ actorId }) => actorId)];
  };
  expect(names([])).toEqual([[], []]);
  expect(names([said("approve", "ada", 1)])).toEqual([[], []]);
  expect(names([said("approve", "ada"), said("approve", "ada"), said("comment", "ada")])).toEqual([["ada"], []]);
  expect(names([said("approve", "ada"), said("request-changes", "ada"), said("approve", "bob")])).toEqual([
    ["bob"],
    ["ada"],
  ]);
  expect(names([said("request-changes", "ada"), said("approve", "ada")])).toEqual([["ada"], []]);
  expect(names([said("request-changes", "ada", 1)])).toEqual([[], []]);
});
