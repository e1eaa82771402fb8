/** Change requests in the hands of who means no good, or does not look (R10, Q12). */
import { describe, expect, test } from "vitest";
import { newToken } from "../../../support/admin.ts";
import {
  admin,
  author,
  outcome,
  PAYMENT,
  payer,
  serving,
  targeting,
  underPolicies,
} from "../../../support/approvals.ts";

describe("what is asked for with ill will", () => {
  const strange = [
    "__proto__",
    "constructor",
    "../gate",
    "pay/environments/production",
    "pay' OR 1=1",
    "%00",
    "\u200b",
    "🚩",
    "x".repeat(5_000),
  ];

  test.each(strange.map((name) => [name.slice(0, 30), name] as const))(
    "names nothing that is there: %s",
    async (_, name) => {
      const { requests } = await underPolicies();
      const changes = [
        { operation: "archiveFlag", path: { flag: name } },
        { operation: "turnFlagOff", path: { environment: name, flag: "pay" } },
        { operation: "updateSegment", path: { environment: "production", segment: name }, body: { included: ["ada"] } },
      ];
      for (const change of changes) {
        expect(await outcome(author("POST", requests, { title: "?", change }))).toEqual([404, "not-found"]);
      }
      const listed = await author("GET", `${requests}?flag=${encodeURIComponent(name.slice(0, 200))}`);
      expect([listed.status, listed.body.items]).toEqual([200, []]);
    },
  );

  test("is no more than a row of D1 holds, with what it would change", async () => {
    const { project, requests } = await underPolicies();
    const segments = `/projects/${project}/environments/production/segments`;
    const members = (length: number, of: string) =>
      Array.from({ length }, (_, index) => `${of}-${index}-${"x".repeat(40)}`);
    for (const key of ["one", "two", "three"]) {
      await admin("POST", segments, { key, included: members(13_000, key) });
      await admin("POST", `/projects/${project}/environments/development/segments`, { key, included: ["ada"] });
    }
    const promotion = (from: string, to: string, ...keys: string[]) => {
      const body = { from, to, items: keys.map((segment) => ({ segment })) };
      return author("POST", requests, { title: "All of it", change: { operation: "promoteChanges", body } });
    };
    const refused = await promotion("development", "production", "one", "two", "three");
    expect([refused.status, refused.body.code]).toEqual([413, "change-too-large"]);
    const { status, body } = await promotion("development", "production", "one");
    expect([status, body.preview.documents[0].proposed.included]).toEqual([201, ["ada"]]);
    expect(await outcome(author("POST", `${requests}/${body.id}/publish`))).toEqual([200, "published"]);
  });

  test("is never another's to edit, rebase, submit or take back", async () => {
    const { ask } = await underPolicies();
    const { at } = await ask({ draft: true });
    const other = await newToken({ name: "Eve", role: "editor" });
    const change = targeting({ instructions: serving(100_000) });
    expect(await outcome(other("PATCH", at, { change }))).toEqual([403, "forbidden"]);
    for (const step of ["submit", "rebase", "withdraw"]) {
      expect(await outcome(other("POST", `${at}/${step}`, {}))).toEqual([403, "forbidden"]);
    }
    expect((await author("GET", at)).body).toMatchObject({ status: "draft", revision: 1 });
  });

  test("does not grow what it asks for by an edit that races its approval", async () => {
    const { ask } = await underPolicies(PAYMENT);
    const { at } = await ask();
    const answers = await Promise.all([
      payer("POST", `${at}/approve`, { revision: 1 }),
      author("PATCH", at, { change: { operation: "archiveFlag", path: { flag: "pay" } } }),
    ]);
    expect(answers[1]!.status).toBe(200);
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([403, "approval-required"]);
    expect((await author("GET", at)).body).toMatchObject({
      operation: "archiveFlag",
      environment: null,
      approvals: [],
    });
  });
});
