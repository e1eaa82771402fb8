import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseDuration, parseInstant, parsePercent } from "../../../workers/admin/http/quantities.ts";
import { newFlag, newProject, newToken } from "../../support/admin.ts";

const api = await newToken();
const project = await newProject(api);
const there = `${await newFlag(api, project, "shared")}/environments/production`;
const split = (weights: object) => ({ fallthrough: { split: { weights } } });

test("a percentage is read exactly, whatever zeros it ends in", () => {
  const written = (weight: number, digits: number) => {
    const decimals = String(weight % 1_000).padStart(3, "0");
    const shortest = decimals.replace(/0+$/, "");
    const shown = decimals.slice(0, Math.max(shortest.length, digits));
    return `${Math.floor(weight / 1_000)}${shown === "" ? "" : `.${shown}`}%`;
  };
  fc.assert(
    fc.property(fc.nat(100_000), fc.nat(3), (weight, digits) => {
      expect(parsePercent(written(weight, digits))).toBe(weight);
    }),
    { numRuns: 5_000 },
  );
});

test("what is not a percentage with at most three decimals is not read as one", () => {
  const odd = [
    "10",
    "%",
    ".5%",
    "5.%",
    "0.0001%",
    "-1%",
    "+1%",
    "1e1%",
    " 1%",
    "1 %",
    "1%%",
    "1,5%",
    "0x1%",
    "Infinity%",
  ];
  expect(odd.map(parsePercent)).toEqual(odd.map(() => null));
});

test("a time is read as what its offset makes of it", () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 4_000_000_000 }),
      fc.integer({ min: -14 * 60, max: 14 * 60 }),
      (seconds, offset) => {
        const local = new Date((seconds + offset * 60) * 1_000).toISOString().slice(0, 19);
        const two = (value: number) => String(value).padStart(2, "0");
        const minutes = Math.abs(offset);
        const zone = `${offset < 0 ? "-" : "+"}${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
        expect(parseInstant(local + zone)).toBe(seconds * 1_000);
      },
    ),
  );
  expect(parseInstant("2026-12-24T18:00:00")).toEqual({ message: expect.stringContaining("no offset") });
  for (const odd of ["2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z", "2026-12-24", "tomorrow", "1760000000000", ""]) {
    expect([odd, parseInstant(odd)]).toEqual([odd, { message: expect.any(String) }]);
  }
});

test("a duration is the sum of its parts", () => {
  const part = fc.nat(999);
  fc.assert(
    fc.property(part, part, part, part, (d, h, m, s) => {
      expect(parseDuration(`${d}d${h}h${m}m${s}s`)).toBe((((d * 24 + h) * 60 + m) * 60 + s) * 1_000);
    }),
  );
  expect(["1d", "90s", "2h30m"].map(parseDuration)).toEqual([86_400_000, 90_000, 9_000_000]);
  const odd = ["", "d", "1", "1.5h", "-1d", "30m2h", "1d ", "1w"];
  expect(odd.map(parseDuration)).toEqual(odd.map(() => null));
});

test("weights are taken in percent, and answered as numbers", async () => {
  const { status, body } = await api("PATCH", there, split({ on: "12.5%", off: "87.499%" }));
  expect([status, body.fallthrough.split.weights]).toEqual([200, { on: 12_500, off: 87_499 }]);
  expect((await api("GET", there)).body.fallthrough.split.weights).toEqual({ on: 12_500, off: 87_499 });
});

test.each(["0.0001%", "10", "101%", "ten%", -1])("the weight %j is a 400 with a pointer to it", async (weight) => {
  const { status, body } = await api("PATCH", there, split({ on: weight }));
  expect([status, body.errors.map((one: { pointer: string }) => one.pointer)]).toEqual([
    400,
    ["/fallthrough/split/weights/on"],
  ]);
});

test("a policy's share and a segment's sample are taken in percent", async () => {
  const policy = await api("POST", `/projects/${project}/policies`, {
    key: "large",
    environments: ["development"],
    share: "50.001%",
    approvers: { role: "approver" },
    approvals: 1,
  });
  expect([policy.status, policy.body.share]).toEqual([201, 50_001]);
  const segment = await api("POST", `/projects/${project}/environments/production/segments`, {
    key: "sampled",
    rules: [{ conditions: [], sample: { buckets: "0.001%" } }],
  });
  expect([segment.status, segment.body.rules[0].sample.buckets]).toEqual([201, 1]);
});

test("a ramp's steps and a schedule's time are taken as texts, and answered as numbers", async () => {
  const flag = await newFlag(api, project, "ramped");
  await api("PATCH", `${flag}/environments/production`, { on: true, fallthrough: { variation: "off" } });
  const ramp = await api("POST", `/projects/${project}/ramps`, {
    environment: "production",
    flag: "ramped",
    variation: "on",
    steps: [{ weight: "5%", forMs: "1d" }, { weight: "100%" }],
  });
  expect([ramp.status, ramp.body.steps?.[0]]).toEqual([201, { weight: 5_000, forMs: 86_400_000 }]);
  const schedule = { environment: "production", flag: "shared", instructions: [{ kind: "turnOn" }] };
  const soon = Math.floor(Date.now() / 1_000) * 1_000 + 86_400_000;
  const at = new Date(soon + 3_600_000).toISOString().replace(".000Z", "+01:00");
  const made = await api("POST", `/projects/${project}/schedules`, { ...schedule, at });
  expect([made.status, made.body.at]).toEqual([201, soon]);
  const local = await api("POST", `/projects/${project}/schedules`, { ...schedule, at: at.slice(0, 19) });
  expect([local.status, local.body.errors]).toEqual([
    400,
    [{ pointer: "/at", code: "custom", message: expect.stringContaining("no offset") }],
  ]);
});

test.each(["/tokens", `/projects/${project}/environments/production/keys`])(
  "the end of what is made at %s is taken as ISO 8601, also when it is changed",
  async (path) => {
    const fields = path === "/tokens" ? { role: "viewer" } : { kind: "server" };
    const made = await api("POST", path, { name: "short", ...fields, expiresAt: "2099-12-24T18:00:00+01:00" });
    expect([made.status, made.body.expiresAt]).toEqual([201, Date.parse("2099-12-24T17:00:00Z")]);
    const one = `${path}/${made.body.id}`;
    const sooner = await api("PATCH", one, { expiresAt: "2098-12-24T18:00:00Z" });
    expect([sooner.status, sooner.body.expiresAt]).toEqual([200, Date.parse("2098-12-24T18:00:00Z")]);
    expect((await api("GET", one)).body.expiresAt).toBe(Date.parse("2098-12-24T18:00:00Z"));
    const past = await api("PATCH", one, { expiresAt: "2020-01-01T00:00:00Z" });
    expect([past.status, past.body.errors]).toEqual([
      400,
      [{ pointer: "/expiresAt", code: "in-the-past", message: expect.stringContaining("ISO 8601") }],
    ]);
  },
);

test("PUT, instructions and rules take percentages, and answer numbers", async () => {
  const flag = `${await newFlag(api, project, "everywhere")}/environments/production`;
  const serve = { split: { weights: { on: "10%", off: "90%" } } };
  const { body } = await api("GET", flag);
  const { on, offVariation, prerequisites, targets, trackExposures } = body;
  const rules = [{ id: "beta", conditions: [{ attribute: "plan", op: "in", values: ["beta"] }], serve }];
  const whole = { on, offVariation, prerequisites, targets, trackExposures, rules, fallthrough: serve };
  const put = await api("PUT", flag, whole);
  expect(put.status).toBe(200);
  expect([put.body.fallthrough.split.weights, put.body.rules[0].serve.split.weights]).toEqual([
    { on: 10_000, off: 90_000 },
    { on: 10_000, off: 90_000 },
  ]);
  const instructions = [{ kind: "setServe", serve: { split: { weights: { on: "33.333%", off: "66.667%" } } } }];
  const edited = await api("POST", `${flag}/instructions`, { instructions });
  expect([edited.status, edited.body.fallthrough.split.weights]).toEqual([200, { on: 33_333, off: 66_667 }]);
});

test("a change request keeps a percentage as a number, and publishes it; its time is taken as ISO 8601", async () => {
  const flag = `${await newFlag(api, project, "requested")}/environments/production`;
  const soon = Math.floor(Date.now() / 1_000) * 1_000 + 86_400_000;
  const asked = await api("POST", `/projects/${project}/change-requests`, {
    title: "A tenth",
    change: {
      operation: "updateTargeting",
      path: { environment: "production", flag: "requested" },
      body: { fallthrough: { split: { weights: { on: "10%", off: "90%" } } } },
    },
    publishAt: new Date(soon).toISOString(),
  });
  const kept = { fallthrough: { split: { weights: { on: 10_000, off: 90_000 } } } };
  expect([asked.status, asked.body.change?.body, asked.body.publishAt]).toEqual([201, kept, soon]);
  const one = `/projects/${project}/change-requests/${asked.body.id}`;
  const later = new Date(soon + 3_600_000).toISOString().replace("Z", "+00:00");
  expect((await api("PATCH", one, { publishAt: later })).body.publishAt).toBe(soon + 3_600_000);
  expect((await api("PATCH", one, { publishAt: null })).body.publishAt).toBeNull();
  expect((await api("POST", `${one}/publish`)).status).toBe(200);
  expect((await api("GET", flag)).body).toMatchObject(kept);
});

test("a schedule's time and edit are changed in the same words", async () => {
  await newFlag(api, project, "scheduled");
  const soon = Math.floor(Date.now() / 1_000) * 1_000 + 86_400_000;
  const made = await api("POST", `/projects/${project}/schedules`, {
    environment: "production",
    flag: "scheduled",
    at: soon,
    fields: { fallthrough: { split: { weights: { on: "25%", off: "75%" } } } },
  });
  expect([made.status, made.body.fields?.fallthrough.split.weights]).toEqual([201, { on: 25_000, off: 75_000 }]);
  const moved = await api("PATCH", `/projects/${project}/schedules/${made.body.id}`, {
    at: new Date(soon + 60_000).toISOString(),
  });
  expect([moved.status, moved.body.at]).toEqual([200, soon + 60_000]);
});

describe("in a query", () => {
  test("the audit log is narrowed by ISO times as by epoch milliseconds, whether `+` is escaped or not", async () => {
    const { items } = (await api("GET", `/audit?project=${project}&limit=1`)).body;
    const at: number = items[0].timestamp;
    const local = (time: number) => new Date(time + 3_600_000).toISOString().replace("Z", "+01:00");
    const ids = async (query: string) => {
      const { status, body } = await api("GET", `/audit?project=${project}&limit=100&${query}`);
      return [status, body.items?.map(({ id }: { id: number }) => id)];
    };
    const from = (time: string) => ids(`from=${time}`);
    const since = await from(String(at));
    expect(since[1]).toContain(items[0].id);
    expect(await from(encodeURIComponent(local(at)))).toEqual(since);
    expect(await from(local(at))).toEqual(since);
    expect((await from(local(at + 1)))[1]).not.toContain(items[0].id);
    expect((await ids(`to=${local(at)}`))[1]).not.toContain(items[0].id);
    expect((await ids(`to=${local(at + 1)}`))[1]).toContain(items[0].id);
    const exported = await api("GET", `/audit/export?project=${project}&from=${local(at + 86_400_000)}`);
    expect([exported.status, exported.body]).toEqual([200, null]);
  });

  test("`wait` is a duration, bounded as a number is", async () => {
    const receipt = await api("PATCH", `${there}?wait=2s`, split({ on: "5%", off: "95%" }));
    expect([receipt.status, receipt.body.receipt]).toEqual([200, expect.objectContaining({ connected: 0 })]);
    for (const wait of ["11s", "10001", "-1"]) {
      const { status, body } = await api("PATCH", `${there}?wait=${wait}`, { on: true });
      expect([status, body.errors]).toEqual([
        400,
        [expect.objectContaining({ pointer: "query:/wait", message: expect.stringContaining("from 0 to 10s") })],
      ]);
    }
  });
});
