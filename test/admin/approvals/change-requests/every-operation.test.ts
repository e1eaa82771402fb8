/** Every write that a policy holds up can be asked for, approved of and made (R10), by the plan of the write itself. */
import { describe, expect, test } from "vitest";
import { openContract } from "../../../support/admin.ts";
import { admin, approver, author, outcome, payer, underSegment } from "../../../support/approvals.ts";

type Scene = Awaited<ReturnType<typeof underSegment>>;
type Change = { operation: string; path?: Record<string, string | number>; body?: object; query?: object };

const RULES = [{ conditions: [{ attribute: "plan", op: "in", values: ["pro"] }] }];

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
      return { operation: "revertAuditEntry", path: { entry: body.items[0].id }, query: { force: "true" } };
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
      const there = await underSegment();
      const { project, requests } = there;
      const asked = await change(there);
      await there.protect();
      const before = await seen(there);
      expect(await outcome(directly(asked, project))).toEqual([403, "approval-required"]);
      const { at, id, body } = await there.ask({ change: asked });
      expect(body).toMatchObject({ operation: asked.operation, preview: { policies: [{ key: "payment", given: 0 }] } });
      expect(body.preview.conflicts).toEqual([]);
      expect(await outcome(author("POST", `${at}/publish`))).toEqual([403, "approval-required"]);
      expect(await seen(there)).toEqual(before);
      const waiting = (await payer("GET", `${requests}?waitingForMe=true`)).body.items;
      expect(waiting.map((one: { id: string }) => one.id)).toEqual([id]);
      await payer("POST", `${at}/approve`, { revision: 1 });
      expect((await author("GET", at)).body.preview.publishable).toBe(true);
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
    const there = await underSegment();
    await admin("POST", `${there.flag}/archive`);
    await there.protect();
    const { at } = await there.ask({ change: { operation: "deleteFlag", path: { flag: "pay" } } });
    expect(await outcome(author("POST", `${at}/publish`))).toEqual([200, "published"]);
    expect((await admin("GET", there.flag)).status).toBe(404);
  });
});
