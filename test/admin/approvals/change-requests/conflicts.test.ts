/** Changes of all kinds that were asked for (R10): what others do meanwhile, and whose business they are. */
import { env } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import { BOOLEAN, newFlag, newToken } from "../../../support/admin.ts";
import { admin, author, outcome, PAYMENT, payer, underSegment } from "../../../support/approvals.ts";

const RULES = [{ conditions: [{ attribute: "plan", op: "in", values: ["pro"] }] }];
const production = { environment: "production", flag: "pay" };

describe("what has changed since it was asked for", () => {
  const conflicts = async (at: string) =>
    (await author("GET", at)).body.preview.conflicts.map((one: Record<string, unknown>) => {
      return [one.environment, one.kind, one.key, one.path].join(" ");
    });

  test("is in the way of a segment's rules, and not of who is listed in it", async () => {
    const there = await underSegment();
    const { segment, ask } = there;
    const path = { environment: "production", segment: "beta" };
    const rules = await ask({ change: { operation: "updateSegment", path, body: { rules: RULES } } });
    await admin("PATCH", segment, { included: ["ada", "grace"] });
    expect(await conflicts(rules.at)).toEqual([]);
    await admin("PATCH", segment, { rules: [{ id: "mine", conditions: RULES[0]!.conditions }] });
    expect(await conflicts(rules.at)).toEqual(["production segment beta rules.mine"]);
    expect(await outcome(author("POST", `${rules.at}/publish`))).toEqual([409, "change-request-conflicts"]);
    await author("POST", `${rules.at}/rebase`, {});
    expect(await outcome(author("POST", `${rules.at}/publish`))).toEqual([200, "published"]);
    expect((await admin("GET", segment)).body.included).toEqual(["ada", "grace"]);
  });

  test("is in the way of a flag's archiving, whatever it was", async () => {
    const { ask, there, flag } = await underSegment();
    const { at } = await ask({ change: { operation: "archiveFlag", path: { flag: "pay" } } });
    expect(await conflicts(at)).toEqual([]);
    await admin("PATCH", there, { trackExposures: true });
    expect(await conflicts(at)).toEqual(["production flag pay version"]);
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([409, "change-request-conflicts"]);
    expect((await admin("GET", flag)).body.archivedAt).toBe(null);
  });

  test("is in the way of a flag's tags and variations, and not of its targeting", async () => {
    const { ask, there, flag } = await underSegment();
    const variations = [BOOLEAN[0], { ...BOOLEAN[1], name: "Old" }];
    const body = { tags: ["payment", "eu"], variations };
    const { at } = await ask({ change: { operation: "updateFlag", path: { flag: "pay" }, body } });
    await admin("PATCH", there, { trackExposures: true });
    await admin("PATCH", flag, { description: "Takes money" });
    expect(await conflicts(at)).toEqual([]);
    await admin("PATCH", flag, {
      tags: ["payment", "us"],
      variations: [BOOLEAN[0], { ...BOOLEAN[1], name: "Legacy" }],
    });
    expect(await conflicts(at)).toEqual([
      " flag pay tags",
      "development flag pay variations.off.name",
      "production flag pay variations.off.name",
    ]);
  });

  test("is in the way of a promotion also where it was promoted from: nobody has approved of that", async () => {
    const { approved, flag, there, protect } = await underSegment();
    const development = `${flag}/environments/development`;
    await admin("PATCH", development, { on: true, fallthrough: { variation: "on" } });
    await protect();
    const items = [{ flag: "pay", parts: ["fallthrough"] }];
    const change = { operation: "promoteChanges", body: { from: "development", to: "production", items } };
    const { at } = await approved(change);
    await admin("PATCH", `/projects/${flag.split("/")[2]}/policies/payment`, { environments: ["production"] });
    await admin("PATCH", development, { fallthrough: { variation: "off" } });
    expect(await conflicts(at)).toEqual(["development flag pay version"]);
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([409, "change-request-conflicts"]);
    expect((await admin("GET", there)).body.version).toBe(3);
  });

  test("is in the way of turning a flag on, whatever it was: nobody has approved of serving that", async () => {
    const { approved, there, policies } = await underSegment();
    await admin("POST", `${there}/off`);
    // Who edits a flag that is off moves nobody: this policy does not hold that up.
    await admin("POST", policies, { ...PAYMENT, share: 50_001 });
    const { at } = await approved({ operation: "turnFlagOn", path: production });
    expect(await outcome(author("PATCH", there, { fallthrough: { variation: "on" } }))).toEqual([200, undefined]);
    const places = ["split", "variation"].map((part) => `production flag pay fallthrough.${part}`);
    expect(await conflicts(at)).toEqual(places);
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([409, "change-request-conflicts"]);
    expect((await admin("GET", there)).body.on).toBe(false);
    expect(await outcome(author("POST", `${at}/rebase`, {}))).toEqual([200, "open"]);
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([403, "approval-required"]);
  });

  test("to what was asked for is no conflict, and nothing is left to do", async () => {
    const { ask, flag } = await underSegment();
    const { at } = await ask({
      change: { operation: "updateFlag", path: { flag: "pay" }, body: { owner: "payments" } },
    });
    await admin("PATCH", flag, { owner: "payments" });
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([200, "published"]);
    expect((await admin("GET", flag)).body.version).toBe(2);
  });

  test("keeps one thing done to many from being done in part", async () => {
    const { ask, project, flag } = await underSegment();
    await newFlag(admin, project, "gate");
    const change = { operation: "changeFlags", body: { action: "setOwner", keys: ["pay", "gate"], owner: "payments" } };
    const { at, body } = await ask({ change });
    expect(Object.keys(body.preview.changes).sort()).toEqual(["flags.gate.owner", "flags.pay.owner"]);
    await admin("POST", `/projects/${project}/flags/gate/archive`);
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([409, "archived"]);
    expect((await admin("GET", flag)).body.owner).toBe(null);
    const later = { change: { ...change, body: { ...change.body, keys: ["pay", "none"] } }, title: "Again" };
    expect(await outcome(author("POST", `/projects/${project}/change-requests`, later))).toEqual([404, "not-found"]);
  });
});

describe("a change request of a whole project", () => {
  const rename = { operation: "updateFlag", path: { flag: "pay" }, body: { clientSide: true } };

  test("is seen by who sees one of its environments, and takes the whole project to approve of or publish", async () => {
    const { project, ask, protect } = await underSegment();
    await protect();
    const part = await newToken({
      ...{ name: "Part", role: "approver", groups: ["payments"] },
      scope: { environments: [`${project}/production`] },
    });
    const requests = `/projects/${project}/change-requests`;
    expect(await outcome(part("POST", requests, { title: "Mine", change: rename }))).toEqual([403, "forbidden"]);
    const { at, id, body } = await ask({ change: rename });
    expect([body.environment, body.preview.documents.length]).toEqual([null, 2]);
    expect((await part("GET", at)).status).toBe(200);
    expect((await part("GET", requests)).body.items.map((one: { id: string }) => one.id)).toEqual([id]);
    for (const [step, body] of [
      ["approve", { revision: 1 }],
      ["comments", { comment: "?" }],
      ["publish", {}],
    ] as const) {
      expect(await outcome(part("POST", `${at}/${step}`, body))).toEqual([403, "forbidden"]);
    }
    await payer("POST", `${at}/approve`, { revision: 1 });
    const published = await author("POST", `${at}/publish`);
    expect(published.body.published).toEqual({
      development: expect.objectContaining({ revision: expect.any(Number) }),
      production: expect.objectContaining({ revision: expect.any(Number) }),
    });
  });

  test("shows of environments beyond the reader's scope that they would change, and nothing of what they hold", async () => {
    const { project, ask, flag, there } = await underSegment();
    const scope = { environments: [`${project}/development`] };
    const part = await newToken({ name: "Part", role: "viewer", scope });
    expect((await part("GET", there)).status).toBe(403);
    const variations = [BOOLEAN[0], { ...BOOLEAN[1], name: "Old" }];
    const { at } = await ask({ change: { operation: "updateFlag", path: { flag: "pay" }, body: { variations } } });
    await admin("PATCH", flag, { variations: [BOOLEAN[0], { ...BOOLEAN[1], name: "Legacy" }] });
    const { documents, conflicts } = (await part("GET", at)).body.preview;
    const text = { current: expect.any(Object), proposed: expect.any(Object) };
    const place = { kind: "flag", key: "pay" };
    expect(documents).toEqual([
      { ...place, environment: "development", ...text },
      { ...place, environment: "production" },
    ]);
    const path = "variations.off.name";
    expect(conflicts).toEqual([
      { environment: "development", kind: "flag", key: "pay", path, current: "Legacy", proposed: "Old" },
      { environment: "production", kind: "flag", key: "pay", path },
    ]);
    expect((await admin("GET", at)).body.preview.documents[1]).toMatchObject(text);
  });

  test("is never carried over to another project, or beyond what its author may", async () => {
    const { project, ask, there } = await underSegment();
    const elsewhere = await underSegment();
    const { body } = await admin("GET", `/audit?project=${elsewhere.project}&action=flag.update`);
    const requests = `/projects/${project}/change-requests`;
    const revert = { operation: "revertAuditEntry", path: { entry: body.items[0].id } };
    expect(await outcome(author("POST", requests, { title: "Theirs", change: revert }))).toEqual([404, "not-found"]);
    const development = { operation: "turnFlagOff", path: production };
    const scoped = await newToken({ role: "editor", scope: { environments: [`${project}/development`] } });
    expect(await outcome(scoped("POST", requests, { title: "Theirs", change: development }))).toEqual([
      403,
      "forbidden",
    ]);
    const items = [{ flag: "pay", parts: ["fallthrough"] }];
    const promotion = { operation: "promoteChanges", body: { from: "production", to: "development", items } };
    expect(await outcome(scoped("POST", requests, { title: "Read", change: promotion }))).toEqual([403, "forbidden"]);

    const mover = await newToken({ role: "editor" });
    const { at, body: asked } = await ask({ change: promotion }, mover);
    expect(asked.environment).toBe("development");
    await admin("PATCH", `/tokens/${asked.author.id}`, { scope: { environments: [`${project}/development`] } });
    expect((await author("GET", at)).body.preview.obstacle.code).toBe("forbidden");
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([403, "forbidden"]);
    expect((await admin("GET", there)).body.on).toBe(true);
  });

  test("outlives its environments, and goes with its project, wholly", async () => {
    const { project, ask } = await underSegment();
    const { at, id } = await ask({ change: rename });
    for (const environment of ["production", "development"]) {
      expect((await admin("DELETE", `/projects/${project}/environments/${environment}`)).status).toBe(204);
    }
    expect((await author("GET", at)).body).toMatchObject({ environment: null, status: "open" });
    expect((await admin("DELETE", `/projects/${project}`)).status).toBe(204);
    const left = ["change_requests", "change_request_revisions", "change_request_events", "change_request_subjects"];
    for (const table of left) {
      const column = table === "change_requests" ? "id" : "change_request_id";
      const { results } = await env.DB.prepare(`SELECT * FROM ${table} WHERE ${column} = ?`).bind(id).all();
      expect([table, results]).toEqual([table, []]);
    }
  });

  test("is found by each flag and segment that it would change, by its last revision", async () => {
    const { project, ask } = await underSegment();
    await newFlag(admin, project, "search");
    const many = { operation: "changeFlags", body: { action: "addTags", keys: ["pay", "search"], tags: ["eu"] } };
    const both = await ask({ change: many });
    const path = { environment: "production", segment: "beta" };
    const rules = await ask({ change: { operation: "updateSegment", path, body: { rules: RULES } } });
    const found = async (query: string) => {
      const { body } = await author("GET", `/projects/${project}/change-requests?${query}`);
      return body.items?.map(({ id }: { id: string }) => id) ?? body.code;
    };
    expect([await found("flag=search"), await found("segment=beta"), await found("segment=pay")]).toEqual([
      [both.id],
      [rules.id],
      [],
    ]);
    expect(await found("flag=pay&segment=beta")).toBe("invalid-request");
    await author("PATCH", both.at, { change: { ...many, body: { ...many.body, keys: ["search"] } } });
    expect([await found("flag=pay"), await found("flag=search"), await found("environment=development")]).toEqual([
      [],
      [both.id],
      [both.id],
    ]);
  });
});
