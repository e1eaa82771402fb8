/** Every write that a policy holds up can be asked for, approved of and made (R10), by the plan of the write itself. */
import { describe, expect, test } from "vitest";
import { BOOLEAN, newFlag, newToken, openContract } from "../support/admin.ts";
import { admin, approver, author, outcome, PAYMENT, payer, underPolicies } from "../support/approvals.ts";

type Scene = Awaited<ReturnType<typeof scene>>;
type Change = { operation: string; path?: Record<string, string | number>; body?: object; query?: object };

const RULES = [{ conditions: [{ attribute: "plan", op: "in", values: ["pro"] }] }];

/** A flag on in production that a segment decides on, in a project where a policy now holds up all that touches it. */
async function scene() {
  const there = await underPolicies();
  const { project, policies } = there;
  const segments = `/projects/${project}/environments/production/segments`;
  await admin("POST", segments, { key: "beta", included: ["ada"] });
  const rule = { id: "beta", conditions: [{ segment: ["beta"] }], serve: { variation: "on" } };
  await admin("POST", `${there.there}/instructions`, { instructions: [{ kind: "addRule", rule }] });
  const protect = () => admin("POST", policies, PAYMENT);
  const approved = async (change: Change, fields: object = {}) => {
    const asked = await there.ask({ change, ...fields });
    expect(await outcome(payer("POST", `${asked.at}/approve`, { revision: 1 }))).toEqual([200, "open"]);
    return asked;
  };
  const segment = `${segments}/beta`;
  return { ...there, segments, segment, protect, approved };
}

/** The operation as a request of its own, by the document. */
const { document } = await openContract();
const routes = new Map(
  Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(
      ([method, { operationId }]) => [operationId, { method: method.toUpperCase(), path }] as const,
    ),
  ),
);
function directly({ operation, path = {}, body, query }: Change, project: string) {
  const { method, path: template } = routes.get(operation)!;
  const place = template.replace(/\{(\w+)\}/g, (_, name: string) => String(name === "project" ? project : path[name]));
  return author(method, `${place}?${new URLSearchParams(query as Record<string, string>)}`, body);
}

const production = { environment: "production", flag: "pay" };
const targeted = async ({ there }: Scene) => (await admin("GET", there)).body;
const flagged = async ({ flag }: Scene) => (await admin("GET", flag)).body;

/** What is asked for, made ready before the policy is there; what is seen afterwards; the action that the log tells. */
const cases: Record<
  string,
  [(scene: Scene) => Promise<Change> | Change, (scene: Scene) => Promise<unknown>, object, string]
> = {
  updateTargeting: [
    () => ({ operation: "updateTargeting", path: production, body: { fallthrough: { variation: "on" } } }),
    targeted,
    { version: 4, fallthrough: { variation: "on" } },
    "flag.update",
  ],
  replaceTargeting: [
    () => {
      const body = { on: true, offVariation: "off", fallthrough: { variation: "off" } };
      return { operation: "replaceTargeting", path: production, body };
    },
    targeted,
    { version: 4, rules: [], fallthrough: { variation: "off" } },
    "flag.update",
  ],
  editTargeting: [
    () => ({
      operation: "editTargeting",
      path: production,
      body: { instructions: [{ kind: "removeRule", rule: "beta" }] },
    }),
    targeted,
    { version: 4, rules: [] },
    "flag.update",
  ],
  turnFlagOn: [
    async ({ there }) => {
      await admin("POST", `${there}/off`);
      return { operation: "turnFlagOn", path: production };
    },
    targeted,
    { version: 5, on: true },
    "flag.update",
  ],
  turnFlagOff: [
    () => ({ operation: "turnFlagOff", path: production }),
    targeted,
    { version: 4, on: false },
    "flag.update",
  ],
  updateFlag: [
    () => ({ operation: "updateFlag", path: { flag: "pay" }, body: { tags: ["search"], clientSide: true } }),
    flagged,
    { tags: ["search"], clientSide: true },
    "flag.update",
  ],
  archiveFlag: [
    () => ({ operation: "archiveFlag", path: { flag: "pay" }, body: { reason: "Done" } }),
    flagged,
    { archivedAt: expect.any(Number) },
    "flag.archive",
  ],
  unarchiveFlag: [
    async ({ flag }) => {
      await admin("POST", `${flag}/archive`);
      return { operation: "unarchiveFlag", path: { flag: "pay" } };
    },
    flagged,
    { archivedAt: null },
    "flag.unarchive",
  ],
  changeFlags: [
    () => ({ operation: "changeFlags", body: { action: "removeTags", keys: ["pay"], tags: ["payment"] } }),
    flagged,
    { tags: [] },
    "flag.update",
  ],
  updateSegment: [
    () => ({
      operation: "updateSegment",
      path: { environment: "production", segment: "beta" },
      body: { rules: RULES },
    }),
    async ({ segment }) => (await admin("GET", segment)).body,
    { version: 2, included: ["ada"], rules: RULES },
    "segment.update",
  ],
  promoteChanges: [
    async ({ flag }) => {
      await admin("PATCH", `${flag}/environments/development`, { on: true, fallthrough: { variation: "on" } });
      const items = [{ flag: "pay", parts: ["fallthrough"] }];
      return { operation: "promoteChanges", body: { from: "development", to: "production", items } };
    },
    targeted,
    { version: 4, fallthrough: { variation: "on" }, rules: [{ id: "beta" }] },
    "flag.promote",
  ],
  revertAuditEntry: [
    async ({ project }) => {
      const { body } = await admin("GET", `/audit?project=${project}&action=flag.update`);
      return { operation: "revertAuditEntry", path: { id: body.items[0].id }, query: { force: "true" } };
    },
    targeted,
    { version: 4, rules: [] },
    "flag.revert",
  ],
  createRamp: [
    () => {
      const steps = [{ weight: 20_000, forMs: 60_000 }, { weight: 100_000 }];
      return { operation: "createRamp", body: { ...production, variation: "on", steps } };
    },
    targeted,
    { version: 4, fallthrough: { split: { weights: { on: 20_000 } } } },
    "ramp.create, flag.update",
  ],
};

describe("what a policy holds up, each by itself", () => {
  test.each(Object.entries(cases))(
    "%s is refused, asked for, approved of and made, once",
    async (_, [change, seen, after, actions]) => {
      const there = await scene();
      const { project, requests } = there;
      const asked = await change(there);
      await there.protect();
      const before = await seen(there);
      expect(await outcome(directly(asked, project))).toEqual([403, "approval-required"]);
      const { at, id, body } = await there.ask({ change: asked });
      expect(body).toMatchObject({ operation: asked.operation, outlook: { policies: [{ key: "payment", given: 0 }] } });
      expect(body.outlook.conflicts).toEqual([]);
      expect(await outcome(author("POST", `${at}/publish`))).toEqual([403, "approval-required"]);
      expect(await seen(there)).toEqual(before);
      const waiting = (await payer("GET", `${requests}?waitingForMe=true`)).body.items;
      expect(waiting.map((one: { id: string }) => one.id)).toEqual([id]);
      await payer("POST", `${at}/approve`, { revision: 1 });
      expect((await author("GET", at)).body.outlook.publishable).toBe(true);
      const answers = await Promise.all(Array.from({ length: 3 }, () => outcome(approver("POST", `${at}/publish`))));
      expect(answers).toEqual(Array(3).fill([200, "published"]));
      expect(await seen(there)).toMatchObject(after);

      const { body: log } = await admin("GET", `/audit?project=${project}`);
      const chain = log.items
        .filter((entry: { change_request: string | null }) => entry.change_request === id)
        .toReversed();
      expect(chain.map((entry: { action: string; actor: string }) => [entry.action, entry.actor])).toEqual([
        ["change-request.open", "Ed"],
        ["change-request.approve", "Pay"],
        ...actions.split(", ").map((action) => [action, "Ed"]),
        ["change-request.publish", "Ann"],
      ]);
      expect(chain.at(-1).changes.approvedBy).toEqual({ to: [{ id: expect.any(String), name: "Pay" }] });
      expect(chain[2].token).toBe(body.author.id);
    },
  );

  test("is all that the document says may need approval; what is planned for a time asks by itself", async () => {
    const held = Object.values(document.paths)
      .flatMap((item) => Object.values(item))
      .filter(({ responses }) => JSON.stringify(responses["403"]).includes("approval-required"))
      .map(({ operationId }) => operationId);
    const byThemselves = ["publishChangeRequest", "createSchedule", "updateSchedule", "jumpRamp"];
    expect(new Set(held)).toEqual(new Set([...Object.keys(cases), ...byThemselves]));
  });

  test("takes in its path and body what the operation of that name takes", () => {
    const { Change } = document.components.schemas as Record<string, { oneOf: Shape[] }>;
    type Shape = { properties: Record<string, { const?: string; enum?: string[]; properties?: object }> };
    const names = Change!.oneOf.map(({ properties }) => properties.operation!.const ?? properties.operation!.enum![0]!);
    expect(new Set(names)).toEqual(new Set([...Object.keys(cases), "deleteFlag"]));
    for (const [index, name] of names.entries()) {
      const named = [...routes.get(name)!.path.matchAll(/\{(\w+)\}/g)]
        .map(([, one]) => one)
        .filter((one) => one !== "project");
      expect([name, Object.keys(Change!.oneOf[index]!.properties.path?.properties ?? {})]).toEqual([name, named]);
    }
  });

  test("an archived flag is deleted without approval, and can be asked for as well", async () => {
    const there = await scene();
    await admin("POST", `${there.flag}/archive`);
    await there.protect();
    const { at } = await there.ask({ change: { operation: "deleteFlag", path: { flag: "pay" } } });
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([200, "published"]);
    expect((await admin("GET", there.flag)).status).toBe(404);
  });
});

describe("what has changed since it was asked for", () => {
  const conflicts = async (at: string) =>
    (await author("GET", at)).body.outlook.conflicts.map((one: Record<string, unknown>) => {
      return [one.environment, one.kind, one.key, one.path].join(" ");
    });

  test("is in the way of a segment's rules, and not of who is listed in it", async () => {
    const there = await scene();
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
    const { ask, there, flag } = await scene();
    const { at } = await ask({ change: { operation: "archiveFlag", path: { flag: "pay" } } });
    expect(await conflicts(at)).toEqual([]);
    await admin("PATCH", there, { trackExposures: true });
    expect(await conflicts(at)).toEqual(["production flag pay version"]);
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([409, "change-request-conflicts"]);
    expect((await admin("GET", flag)).body.archivedAt).toBe(null);
  });

  test("is in the way of a flag's tags and variations, and not of its targeting", async () => {
    const { ask, there, flag } = await scene();
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
    const { approved, flag, there, protect } = await scene();
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

  test("to what was asked for is no conflict, and nothing is left to do", async () => {
    const { ask, flag } = await scene();
    const { at } = await ask({
      change: { operation: "updateFlag", path: { flag: "pay" }, body: { owner: "payments" } },
    });
    await admin("PATCH", flag, { owner: "payments" });
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([200, "published"]);
    expect((await admin("GET", flag)).body.version).toBe(2);
  });

  test("keeps one thing done to many from being done in part", async () => {
    const { ask, project, flag } = await scene();
    await newFlag(admin, project, "gate");
    const change = { operation: "changeFlags", body: { action: "setOwner", keys: ["pay", "gate"], owner: "payments" } };
    const { at, body } = await ask({ change });
    expect(Object.keys(body.outlook.changes).sort()).toEqual(["flags.gate.owner", "flags.pay.owner"]);
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
    const { project, ask, protect } = await scene();
    await protect();
    const part = await newToken({
      ...{ name: "Part", role: "approver", groups: ["payments"] },
      scope: { environments: [`${project}/production`] },
    });
    const requests = `/projects/${project}/change-requests`;
    expect(await outcome(part("POST", requests, { title: "Mine", change: rename }))).toEqual([403, "forbidden"]);
    const { at, id, body } = await ask({ change: rename });
    expect([body.environment, body.outlook.documents.length]).toEqual([null, 2]);
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

  test("is never carried over to another project, or beyond what its author may", async () => {
    const { project, ask, there } = await scene();
    const elsewhere = await scene();
    const { body } = await admin("GET", `/audit?project=${elsewhere.project}&action=flag.update`);
    const requests = `/projects/${project}/change-requests`;
    const revert = { operation: "revertAuditEntry", path: { id: body.items[0].id } };
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
    expect((await author("GET", at)).body.outlook.obstacle.code).toBe("forbidden");
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([403, "forbidden"]);
    expect((await admin("GET", there)).body.on).toBe(true);
  });

  test("is found by each flag and segment that it would change, by its last revision", async () => {
    const { project, ask } = await scene();
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
