/** What stands in the way of a change request that has all its approvals: no room, and an author who may no longer write. */
import { env } from "cloudflare:workers";
import { expect, test } from "vitest";
import { runDue } from "../../../../workers/admin/due.ts";
import { MAX_RULESET_BYTES } from "../../../../workers/admin/limits.ts";
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

const HOUR = 3_600_000;

/** As if so much were in production. */
const fill = (project: string, bytes: number) =>
  env.DB.prepare(
    "UPDATE environments SET ruleset_bytes = ? WHERE key = 'production' AND project_id = (SELECT id FROM projects WHERE key = ?)",
  )
    .bind(bytes, project)
    .run();

test("without room in the environment it is not publishable, and says why beside what it would do", async () => {
  const { project, ask, requests } = await underPolicies();
  const change = targeting({ targets: [{ variation: "off", values: ["u"] }] });
  const { at, body } = await ask({ change });
  expect(body.preview).toMatchObject({ publishable: true, obstacle: null });
  await fill(project, MAX_RULESET_BYTES);
  const { preview } = (await author("GET", at)).body;
  expect(preview).toMatchObject({ publishable: false, obstacle: { code: "ruleset-too-large" }, conflicts: [] });
  expect(Object.keys(preview.changes)).toEqual(Object.keys(body.preview.changes));
  expect(preview.documents).toHaveLength(1);
  expect(await outcome(author("POST", `${at}/publish`))).toEqual([413, "ruleset-too-large"]);
  expect(await outcome(author("POST", requests, { title: "Again", change }))).toEqual([413, "ruleset-too-large"]);
  await fill(project, 1_000);
  expect((await author("GET", at)).body.preview).toMatchObject({ publishable: true, obstacle: null });
  expect(await outcome(author("POST", `${at}/publish`))).toEqual([200, "published"]);
});

/** A request whose time comes an hour after one of the tokens has expired. */
async function expiring(role: "editor" | "approver") {
  const there = await underPolicies(PAYMENT);
  const expiresAt = Date.now() + HOUR;
  const leaver = await newToken({ role, groups: ["payments"], expiresAt });
  const publishAt = expiresAt + HOUR;
  const fields = { change: targeting({ instructions: serving(20_000) }), publishAt };
  const { at } = await there.ask(fields, role === "editor" ? leaver : author);
  const approved = await (role === "approver" ? leaver : payer)("POST", `${at}/approve`, { revision: 1 });
  expect(approved.body.preview.publishable).toBe(true);
  await runDue(env, () => publishAt);
  return (await admin("GET", at)).body;
}

test("an author whose token has expired cannot be written for", async () => {
  expect(await expiring("editor")).toMatchObject({ status: "failed", failure: { code: "forbidden" } });
});

test("an approval outlives the expiry of its giver's token", async () => {
  expect(await expiring("approver")).toMatchObject({ status: "published", failure: null });
});
