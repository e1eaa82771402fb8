/**
 * The runtime is killed at each step of every kind of write: it is wholly there (rows, audit, outbox, and in the end delivered) or not
 * at all, and whoever repeats the request with its key has changed it once (Q8). One of each kind hangs at the step; one kill ends all.
 */
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { bundle, Server } from "../support/server.ts";

const ENTRY = "test/support/faulty-worker.ts";
const BOOLEAN = [true, false].map((value) => ({ key: value ? "on" : "off", value }));
const RULES = [{ id: "r", conditions: [{ attribute: "plan", op: "in", values: ["pro"] }] }];

type Ruleset = {
  flags: Record<string, { on: boolean; offVariation: string; variations: { key: string }[] }>;
  segments: Record<string, { rules: object[] }>;
};

/** A write in a project of its own, with the flag `there`, which is off, and the segment `some`. */
type Kind = {
  method: string;
  /** Below the project, unless it begins with a slash. */
  path: string;
  body?: object;
  /** Makes what the write needs; answers its path, where that is not known before. */
  before?: (project: string) => Promise<unknown>;
  /** Entries of the audit log that it leaves. */
  entries?: number;
  /** Whether clients see it done. */
  served: (ruleset: Ruleset) => boolean;
};

const TARGETING = "flags/there/environments/production";
const ask = <T>(method: string, project: string, path: string, body?: object) =>
  server.ask<T>(method, `/projects/${project}/${path}`, body);

const kinds: Record<string, Kind> = {
  "a new flag": {
    method: "POST",
    path: "flags",
    body: { key: "new", type: "boolean", variations: BOOLEAN },
    served: ({ flags }) => flags.new !== undefined,
  },
  "another variation": {
    method: "PATCH",
    path: "flags/there",
    body: { variations: [...BOOLEAN, { key: "third", value: true }] },
    served: ({ flags }) => flags.there!.variations.length === 3,
  },
  "an edit of targeting": {
    method: "PATCH",
    path: TARGETING,
    body: { on: true },
    served: ({ flags }) => flags.there!.on,
  },
  "a revert": {
    method: "POST",
    path: "",
    body: {},
    async before(project) {
      await ask("PATCH", project, TARGETING, { offVariation: "on" });
      const query = `/audit?project=${project}&key=there&action=flag.update&limit=1`;
      const { items } = await server.ask<{ items: { id: number }[] }>("GET", query);
      return `/audit/${items[0]?.id}/revert`;
    },
    served: ({ flags }) => flags.there!.offVariation === "off",
  },
  "a promotion": {
    method: "POST",
    path: "promote",
    body: { from: "staging", to: "production", items: [{ flag: "there" }, { segment: "only-staging" }] },
    async before(project) {
      await ask("POST", project, "environments", { key: "staging" });
      await ask("POST", project, "environments/staging/segments", { key: "only-staging", rules: RULES });
      await ask("PATCH", project, "flags/there/environments/staging", { on: true });
    },
    served: ({ flags, segments }) => {
      const [flag, segment] = [flags.there!.on, segments["only-staging"] !== undefined];
      expect(flag).toBe(segment);
      return flag;
    },
  },
  "many flags archived": {
    method: "POST",
    path: "flags/bulk",
    body: { action: "archive", keys: ["there", "beside"] },
    entries: 2,
    served: ({ flags }) => {
      expect(flags.there === undefined).toBe(flags.beside === undefined);
      return flags.there === undefined;
    },
  },
  "a segment's rules": {
    method: "PATCH",
    path: "environments/production/segments/some",
    body: { rules: RULES },
    served: ({ segments }) => segments.some!.rules.length === 1,
  },
  "a change request published": {
    method: "POST",
    path: "",
    body: {},
    // Of the flag, and of the request.
    entries: 2,
    async before(project) {
      const path = { flag: "there", environment: "production" };
      const change = { operation: "editTargeting", path, body: { instructions: [{ kind: "turnOn" }] } };
      const asked = { title: "On", change };
      const { id } = await ask<{ id: string }>("POST", project, "change-requests", asked);
      return `/projects/${project}/change-requests/${id}/publish`;
    },
    served: ({ flags }) => flags.there!.on,
  },
  "a flag deleted": {
    method: "DELETE",
    path: "flags/beside",
    before: (project) => ask("POST", project, "flags/beside/archive", {}),
    served: () => true,
  },
};

let server: Server;
beforeAll(async () => {
  server = await Server.start(ENTRY, bundle(ENTRY));
});
afterAll(() => server.dispose());

/** One write, about to be made. */
class Attempt {
  readonly kind: Kind;
  readonly #project: string;
  #path = "";
  #serverKey = "";
  #before = 0;

  constructor(project: string, kind: Kind) {
    this.#project = project;
    this.kind = kind;
  }

  async prepare(): Promise<void> {
    const project = this.#project;
    ({ serverKey: this.#serverKey } = await server.environment(project));
    for (const key of ["there", "beside"])
      await ask("POST", project, "flags", { key, type: "boolean", variations: BOOLEAN });
    await ask("POST", project, "environments/production/segments", { key: "some" });
    const path = await this.kind.before?.(project);
    this.#path = typeof path === "string" ? path : `/projects/${project}/${this.kind.path}`;
    this.#before = await this.#logged();
  }

  make(): Promise<Response> {
    const headers = { "idempotency-key": this.#project };
    return server.api(this.kind.method, this.#path, this.kind.body, headers);
  }

  /** How many entries of the log it has left. */
  async entries(): Promise<number> {
    return (await this.#logged()) - this.#before;
  }

  async isServed(): Promise<boolean> {
    const headers = { authorization: `Bearer ${this.#serverKey}` };
    const response = await fetch(`${server.url}/sdk/v1/ruleset`, { headers });
    return this.kind.served((await response.json()) as Ruleset);
  }

  async #logged(): Promise<number> {
    const path = `/audit?project=${this.#project}&limit=100`;
    return (await server.ask<{ items: unknown[] }>("GET", path)).items.length;
  }
}

const COMMIT = 'batch [^]*insert into "audit"';

test.each([
  ["before D1 has it", "DB", COMMIT, "before", false],
  ["after D1 has committed it, before the Worker hears of that", "DB", COMMIT, "after", true],
  ["before the hub hears of it", "HUB", "^publish", "before", true],
  ["after the hub has published it, before the Worker hears of that", "HUB", "^publish", "after", true],
  ["before its whole answer is kept", "DB", 'update "idempotency"', "before", true],
] as const)("killed %s", async (step, part, at, when, isCommitted) => {
  const attempts = new Map(
    Object.entries(kinds).map(([name, kind], index) => [name, new Attempt(`p-${step.length}-${index}`, kind)]),
  );
  for (const attempt of attempts.values()) await attempt.prepare();
  // What is not delivered, or is answered without a body, has no such step.
  const reaching = [...attempts.values()].filter(({ kind }) => at === COMMIT || kind.method !== "DELETE");
  await server.setFaults({ [part]: { mode: "hang", at, when, times: reaching.length } });
  const made = reaching.map((attempt) => attempt.make().catch(() => null));
  await server.hung(reaching.length);
  await server.kill();
  await Promise.all(made);
  await server.resume();

  for (const [name, attempt] of attempts) {
    if (!reaching.includes(attempt)) continue;
    const { entries = 1 } = attempt.kind;
    expect([name, await attempt.entries()]).toEqual([name, isCommitted ? entries : 0]);
  }
  await server.sweep();
  for (const [name, attempt] of attempts) {
    if (!reaching.includes(attempt)) continue;
    const { entries = 1, method } = attempt.kind;
    if (method !== "DELETE") await served(name, attempt, isCommitted);
    for (const isReplayed of [isCommitted, true]) {
      const again = await attempt.make();
      const result = [again.status < 300, again.headers.get("idempotency-replayed")];
      expect([name, ...result]).toEqual([name, true, isReplayed ? "true" : null]);
    }
    expect([name, await attempt.entries()]).toEqual([name, entries]);
    await served(name, attempt, true);
  }
});

/** A ruleset is as new as a second. */
const served = (name: string, attempt: Attempt, wanted: boolean) =>
  vi.waitFor(async () => expect([name, await attempt.isServed()]).toEqual([name, wanted]), 20_000);
