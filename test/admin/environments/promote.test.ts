import { describe, expect, test } from "vitest";
import { newFlag, newProject, newToken } from "../../support/admin.ts";

const api = await newToken({ name: "Ada" });
const rule = (id: string, condition: object, serve: object = { variation: "on" }) => ({
  id,
  conditions: [condition],
  serve,
});
const plan = (value: string) => ({ attribute: "plan", op: "in", values: [value] });
const split = (on: number) => ({ split: { weights: { on, off: 100_000 - on } } });

/** A project of its own, whose development is promoted to production. */
async function started(flags: string[]) {
  const project = await newProject(api);
  for (const key of flags) await newFlag(api, project, key);
  const at = (environment: string) => `/projects/${project}/environments/${environment}`;
  const there = (key: string, environment: string) => `/projects/${project}/flags/${key}/environments/${environment}`;
  return {
    project,
    at,
    there,
    edit: async (key: string, environment: string, fields: object) =>
      expect((await api("PATCH", there(key, environment), fields)).status).toBe(200),
    now: async (key: string, environment = "production") => (await api("GET", there(key, environment))).body,
    compare: async (query = "", as = api) =>
      as("GET", `/projects/${project}/compare?from=development&to=production&${query}`),
    promote: async (items: object[], more: object = {}, headers = {}, as = api) =>
      as("POST", `/projects/${project}/promote`, { from: "development", to: "production", items, ...more }, headers),
    rehearse: async (items: object[], as = api) =>
      as("POST", `/projects/${project}/promote?dryRun=true`, { from: "development", to: "production", items }),
  };
}

describe("two environments are compared", () => {
  test("as a promotion would change the target", async () => {
    const { edit, compare } = await started(["same", "other"]);
    await edit("other", "development", { on: true, rules: [rule("r", plan("pro"))], fallthrough: split(20_000) });
    await edit("other", "production", { fallthrough: split(50_000) });
    const { body } = await compare();
    expect(body).toEqual({
      items: [
        {
          kind: "flag",
          key: "other",
          versions: { from: 2, to: 2 },
          parts: ["on", "rules", "fallthrough"],
          changes: {
            on: { from: false, to: true },
            "rules[0]": { to: rule("r", plan("pro")) },
            "fallthrough.split.weights.on": { from: 50_000, to: 20_000 },
            "fallthrough.split.weights.off": { from: 50_000, to: 80_000 },
          },
          moved: [
            { rule: "r", movements: [{ from: "off", to: "on", weight: 100_000 }] },
            { rule: null, movements: [{ from: "off", to: "on", weight: 20_000 }] },
          ],
          promotable: true,
        },
      ],
      nextCursor: null,
    });
    expect((await compare("flag=same")).body.items).toEqual([]);
    expect((await compare("flag=other")).body.items).toHaveLength(1);
  });

  test("and weights that are the same are no difference, whatever the seeds and ranges", async () => {
    const { edit, compare } = await started(["seeded"]);
    await edit("seeded", "development", { fallthrough: split(70_000) });
    await edit("seeded", "development", {
      fallthrough: { split: { weights: { on: 30_000, off: 70_000 }, reshuffle: true } },
    });
    await edit("seeded", "production", { fallthrough: split(30_000) });
    expect((await compare()).body.items).toEqual([]);
  });

  test("by the page: flags, then segments, each once", async () => {
    const keys = ["a", "b", "c", "d", "e"];
    const { edit, compare, at } = await started(keys);
    for (const key of keys) await edit(key, "development", { on: true });
    for (const key of ["s1", "s2", "s3"]) await api("POST", `${at("development")}/segments`, { key });
    await api("POST", `${at("production")}/segments`, { key: "s2", name: "Two" });
    await api("POST", `${at("production")}/segments`, { key: "s9" });
    for (const limit of [1, 2, 3, 5, 100]) {
      const seen: string[] = [];
      for (let cursor: string | null = ""; cursor !== null; ) {
        const { body } = await compare(`limit=${limit}&cursor=${cursor}`);
        expect(body.items.length).toBeLessThanOrEqual(limit);
        seen.push(...body.items.map(({ key }: { key: string }) => key));
        cursor = body.nextCursor;
      }
      expect([limit, seen]).toEqual([limit, [...keys, "s1", "s2", "s3", "s9"]]);
    }
    const { body } = await compare("segment=s9");
    expect(body.items).toMatchObject([{ promotable: false, versions: { from: null, to: 1 } }]);
    expect((await compare("segment=s1")).body.items).toMatchObject([
      { promotable: true, versions: { from: 1, to: null } },
    ]);
  });

  test("and what is asked wrongly is refused", async () => {
    const { compare, project } = await started([]);
    expect((await compare("cursor=x")).status).toBe(400);
    expect((await compare("limit=0")).status).toBe(400);
    const path = `/projects/${project}/compare`;
    expect((await api("GET", `${path}?from=production`)).status).toBe(400);
    expect((await api("GET", `${path}?from=production&to=production`)).status).toBe(400);
    expect((await api("GET", `${path}?from=production&to=none`)).status).toBe(404);
    const one = await newToken({ scope: { projects: [], environments: [`${project}/production`] } });
    expect((await compare("", one)).status).toBe(403);
  });
});

describe("a promotion", () => {
  test("is one change of many documents, audited as one, that leaves nothing to compare", async () => {
    const { project, at, edit, now, compare, promote } = await started(["base", "checkout"]);
    await api("POST", `${at("development")}/segments`, { key: "beta", included: ["u1"] });
    await edit("base", "development", { on: true });
    await edit("checkout", "development", {
      on: true,
      prerequisites: [{ flag: "base", variations: ["on"] }],
      rules: [rule("r", { segment: ["beta"] }, split(25_000))],
      targets: [{ variation: "on", values: ["u7"] }],
      offVariation: null,
      fallthrough: split(10_000),
      trackExposures: true,
    });
    const { status, body } = await promote([{ flag: "checkout" }, { flag: "base" }, { segment: "beta" }], {
      reason: "release 7",
    });
    expect(status).toBe(200);
    expect(body).toMatchObject({ from: "development", to: "production", revision: expect.any(Number) });
    expect(body.documents).toHaveLength(3);
    expect((await compare()).body.items).toEqual([]);
    const { body: log } = await api("GET", `/audit?project=${project}&limit=2`);
    expect(log.items[0]).toMatchObject({
      action: "environment.promote",
      resource: { type: "environment", environment: "production", key: "production" },
      reason: "release 7",
      changes: { "flags.base.on": { from: false, to: true }, "segments.beta.included": { to: ["u1"] } },
    });
    expect(log.items[1].action).toBe("flag.update");
    // In the history of each of them.
    expect((await api("GET", `/audit?project=${project}&key=checkout&limit=1`)).body.items[0].id).toBe(log.items[0].id);

    expect((await api("POST", `/audit/${log.items[0].id}/revert`)).status).toBe(200);
    expect(await now("checkout")).toMatchObject({ on: false, rules: [], prerequisites: [], targets: [] });
    expect((await api("GET", `${at("production")}/segments/beta`)).status).toBe(404);
  });

  test("is all of it or nothing: a segment that is not there is named with its place", async () => {
    const { at, edit, now, promote } = await started(["good", "bad"]);
    await api("POST", `${at("development")}/segments`, { key: "beta" });
    await edit("good", "development", { on: true });
    await edit("bad", "development", { rules: [rule("r", { segment: ["beta"] })] });
    const { status, body } = await promote([{ flag: "good" }, { flag: "bad" }]);
    expect([status, body.code]).toEqual([409, "would-not-work"]);
    expect(body.errors[0].pointer).toMatch(/^\/flags\/bad\/rules\/0\/conditions\/0\/segment/);
    expect((await now("good")).on).toBe(false);
  });

  test("takes the parts that are asked for and leaves the others", async () => {
    const { edit, now, promote } = await started(["f"]);
    await edit("f", "development", { on: true, rules: [rule("r", plan("pro"))], offVariation: "on" });
    const { body } = await promote([{ flag: "f", parts: ["rules"] }]);
    expect(Object.keys(body.documents[0].changes)).toEqual(["rules[0]"]);
    expect(await now("f")).toMatchObject({ on: false, offVariation: "off", rules: [{ id: "r" }] });
  });

  test("moves as few users as the weights make it: the target keeps its seed and its ranges", async () => {
    const { edit, now, promote } = await started(["f"]);
    const reshuffled = { split: { ...split(60_000).split, reshuffle: true } };
    const rules = (on: number) => [rule("r", plan("pro"), split(on))];
    await edit("f", "development", { on: true, fallthrough: reshuffled, rules: rules(40_000) });
    await edit("f", "production", { on: true, fallthrough: split(10_000), rules: rules(10_000) });
    await edit("f", "production", { fallthrough: split(50_000) });
    const before = await now("f");
    const { body } = await promote([{ flag: "f" }]);
    expect(body.documents[0].moved).toEqual([
      { rule: "r", movements: [{ from: "off", to: "on", weight: 30_000 }] },
      { rule: null, movements: [{ from: "off", to: "on", weight: 10_000 }] },
    ]);
    const after = await now("f");
    expect(after.fallthrough.split.seed).toBe(before.fallthrough.split.seed);
    expect(after.rules[0].serve.split.seed).toBe(before.rules[0].serve.split.seed);
  });

  test("never takes a kill along, and lifts none", async () => {
    const { there, edit, now, compare, promote } = await started(["killed-there", "killed-here"]);
    await edit("killed-there", "development", { on: true });
    await edit("killed-here", "development", { on: true });
    await api("POST", `${there("killed-there", "development")}/kill`, { reason: "fire" });
    await api("POST", `${there("killed-here", "production")}/kill`, { reason: "fire" });
    await promote([{ flag: "killed-there" }, { flag: "killed-here" }]);
    expect(await now("killed-there")).toMatchObject({ on: true, killed: null });
    expect(await now("killed-here")).toMatchObject({ on: true, killed: { reason: "fire" } });
    expect((await compare()).body.items).toEqual([]);
  });

  test("of what is another than was compared is refused with both versions", async () => {
    const { edit, now, compare, promote } = await started(["f"]);
    await edit("f", "development", { on: true });
    const [{ versions }] = (await compare()).body.items;
    await edit("f", "production", { offVariation: null });
    const refused = await promote([{ flag: "f", versions }]);
    expect([refused.status, refused.body.code]).toEqual([412, "changed-since"]);
    expect(refused.body).toMatchObject({
      kind: "flag",
      key: "f",
      versions: { from: 2, to: 2 },
      current: { on: false, offVariation: null },
      proposed: { on: true, offVariation: "off" },
    });
    await edit("f", "development", { trackExposures: true });
    expect((await promote([{ flag: "f", versions: { from: 2 } }])).status).toBe(412);
    expect((await now("f")).on).toBe(false);
    expect((await promote([{ flag: "f", versions: { from: 3, to: 2 } }])).status).toBe(200);
  });

  test("of a segment that was made there meanwhile is refused as well", async () => {
    const { at, promote } = await started([]);
    await api("POST", `${at("development")}/segments`, { key: "beta", included: ["u1"] });
    await api("POST", `${at("production")}/segments`, { key: "beta", included: ["u2"] });
    const refused = await promote([{ segment: "beta", versions: { to: null } }]);
    expect([refused.status, refused.body.current.included, refused.body.proposed.included]).toEqual([
      412,
      ["u2"],
      ["u1"],
    ]);
    expect((await promote([{ segment: "beta", versions: { from: 1, to: 1 } }])).status).toBe(200);
  });

  test("dry: it says what would change and whose approval it needs, and nothing is written", async () => {
    const { edit, now, rehearse } = await started(["f"]);
    await edit("f", "development", { on: true });
    const { status, body } = await rehearse([{ flag: "f" }]);
    const changes = { on: { from: false, to: true } };
    expect(status).toBe(200);
    expect(body).toMatchObject({ from: "development", documents: [{ changes }], preview: { policies: [] } });
    expect(await now("f")).toMatchObject({ on: false, version: 1 });
  });

  test("is done once for an Idempotency-Key, and what is the same already is not written", async () => {
    const { project, edit, promote } = await started(["f"]);
    await edit("f", "development", { on: true });
    const once = { "idempotency-key": `promote-${project}` };
    const first = await promote([{ flag: "f" }], {}, once);
    await edit("f", "production", { on: false });
    const again = await promote([{ flag: "f" }], {}, once);
    expect([again.headers.get("idempotency-replayed"), again.body]).toEqual(["true", first.body]);
    await promote([{ flag: "f" }]);
    const same = await promote([{ flag: "f" }]);
    expect(same.body.documents).toEqual([{ kind: "flag", key: "f", version: 4, changes: {}, moved: [] }]);
    expect((await api("GET", `/audit?project=${project}&action=flag.promote`)).body.items).toHaveLength(2);
  });

  test("while ten others edit the same flag: nothing of theirs is lost", async () => {
    const { there, edit, now, promote } = await started(["f"]);
    await edit("f", "development", { on: true, fallthrough: split(30_000) });
    const answers = await Promise.all([
      promote([{ flag: "f", parts: ["on", "fallthrough"] }]),
      ...Array.from({ length: 10 }, (_, index) =>
        api("POST", `${there("f", "production")}/instructions`, {
          instructions: [{ kind: "addTargets", variation: "on", values: [`user-${index}`] }],
        }),
      ),
    ]);
    expect(answers.map(({ status }) => status)).toEqual(Array(11).fill(200));
    const { on, targets, version, fallthrough } = await now("f");
    expect([on, targets[0].values.length, version]).toEqual([true, 10, 12]);
    expect(fallthrough.split.weights.on).toBe(30_000);
  });

  test("of more than a change can carry is refused, and in parts it is not", async () => {
    const { at, promote } = await started([]);
    const included = Array.from({ length: 1_000 }, (_, index) => `${index}`.padEnd(800, "x"));
    for (const key of ["s1", "s2"]) await api("POST", `${at("development")}/segments`, { key, included });
    const refused = await promote([{ segment: "s1" }, { segment: "s2" }]);
    expect([refused.status, refused.body.code]).toEqual([413, "change-too-large"]);
    expect((await api("GET", `${at("production")}/segments`)).body.items).toEqual([]);
    for (const segment of ["s1", "s2"]) expect((await promote([{ segment }])).status).toBe(200);
  });

  test("that is asked wrongly is refused, each mistake with its place", async () => {
    const { project, promote } = await started(["f"]);
    const pointers = async (items: object[], more: object = {}) => {
      const { status, body } = await promote(items, more);
      return [status, ...(body.errors ?? []).map((one: { pointer: string }) => one.pointer)];
    };
    expect(await pointers([])).toEqual([400, "/items"]);
    expect(await pointers([{}])).toEqual([400, "/items/0"]);
    expect(await pointers([{ flag: "f", parts: ["killed"] }])).toEqual([400, "/items/0/parts/0"]);
    expect(await pointers([{ flag: "f", parts: [] }])).toEqual([400, "/items/0/parts"]);
    expect(await pointers([{ flag: "f", killed: false }])).toEqual([400, "/items/0/killed"]);
    expect(await pointers([{ flag: "f" }, { segment: "f" }, { flag: "f" }])).toEqual([400, "/items/2"]);
    expect(await pointers(Array(101).fill({ flag: "f" }))).toEqual([400, "/items"]);
    expect(await pointers([{ flag: "f" }], { to: "development" })).toEqual([400]);
    expect(await pointers([{ flag: "none" }])).toEqual([404]);
    expect(await pointers([{ segment: "none" }])).toEqual([404]);
    await api("POST", `/projects/${project}/flags/f/archive`);
    expect((await promote([{ flag: "f" }])).body.code).toBe("archived");
  });

  test("needs an editor of the target who may read the source", async () => {
    const { project, promote } = await started(["f"]);
    const status = async (token: object) => (await promote([{ flag: "f" }], {}, {}, await newToken(token))).status;
    const only = (...keys: string[]) => ({ projects: [], environments: keys.map((key) => `${project}/${key}`) });
    expect(await status({ role: "viewer" })).toBe(403);
    expect(await status({ role: "editor", scope: only("production") })).toBe(403);
    expect(await status({ role: "editor", scope: only("development") })).toBe(403);
    expect(await status({ role: "editor", scope: only("development", "production") })).toBe(200);
  });

  test("asks for approval like any other write", async () => {
    const { project, edit, now, promote, rehearse } = await started(["f"]);
    await edit("f", "development", { on: true });
    const policy = {
      key: "four-eyes",
      name: "Four eyes",
      environments: ["production"],
      approvers: { role: "approver" },
      approvals: 1,
    };
    expect((await api("POST", `/projects/${project}/policies`, policy)).status).toBe(201);
    const editor = await newToken({ role: "editor" });
    const would = await rehearse([{ flag: "f" }], editor);
    expect([would.status, would.body.preview.policies]).toMatchObject([403, [{ key: "four-eyes", bypassed: false }]]);
    const refused = await promote([{ flag: "f" }], {}, {}, editor);
    expect([refused.status, refused.body.code]).toEqual([403, "approval-required"]);
    expect((await now("f")).on).toBe(false);
  });
});
