/** What holds for a client of a client key, wherever it runs. */
import { expect, test, vi } from "vitest";
import type { Server } from "./server.ts";
import type { RemoteVisitor, VisitorOptions } from "./visitor.ts";

/** However slow the machine is: what never happens is what fails. */
export const eventually = <T>(check: () => Promise<T>): Promise<T> =>
  vi.waitFor(check, { timeout: 20_000, interval: 50 });

/** One server with an environment for these. */
export class ClientPlace {
  readonly server: Server;
  readonly clientKey: string;
  readonly #flags: string;
  readonly #keys: string;

  private constructor(server: Server, flags: string, keys: string, clientKey: string) {
    this.server = server;
    this.#flags = flags;
    this.#keys = keys;
    this.clientKey = clientKey;
  }

  static async on(server: Server): Promise<ClientPlace> {
    const { flags, path } = await server.environment();
    const { key } = await server.ask<{ key: string }>("POST", `${path}/keys`, { kind: "client" });
    return new ClientPlace(server, flags, `${path}/keys`, key);
  }

  /** A string flag, "b" for the user "ben" and else "a"; answers where its targeting is. */
  async flag(key: string, targeting: object = {}): Promise<string> {
    const variations = ["a", "b"].map((value) => ({ key: value, value }));
    await this.server.ask("POST", this.#flags, { key, type: "string", variations, clientSide: true });
    const path = `${this.#flags}/${key}/environments/production`;
    await this.server.ask("PATCH", path, { on: true, targets: [{ variation: "b", values: ["ben"] }], ...targeting });
    // Polls are a second behind at most; these sentences are about something else.
    await eventually(async () => expect(await this.#reasonOf(key)).toBe("FALLTHROUGH"));
    return path;
  }

  async #reasonOf(key: string): Promise<string | undefined> {
    const body = '{"context":{"targetingKey":"ada"}}';
    const response = await fetch(`${this.server.url}/client/v1/flags?key=${this.clientKey}`, { method: "POST", body });
    return ((await response.json()) as { flags: Record<string, { reason: string }> }).flags[key]?.reason;
  }

  async key(fields: object): Promise<string> {
    return (await this.server.ask<{ key: string }>("POST", this.#keys, { kind: "client", ...fields })).key;
  }

  kill = (targeting: string) => this.server.ask("POST", `${targeting}/kill`, { reason: "test" });
}

type Sentences = {
  /** What flags begin with here, since two of these share a place. */
  prefix: string;
  place(): ClientPlace;
  /** The visitor of the test that runs. */
  visitor(): RemoteVisitor;
};

export function clientSentences({ prefix, place, visitor }: Sentences): void {
  const open = (options: Partial<VisitorOptions> = {}) =>
    visitor().open({
      clientKey: place().clientKey,
      url: place().server.url,
      context: { targetingKey: "ada" },
      events: false,
      ...options,
    });
  const value = async (key: string) => (await visitor().details(key, "default")).value;
  const heard = async (name: string) => (await visitor().heard()).filter((one) => one.name === name);
  const connected = (times = 1) => eventually(async () => expect(await heard("connected")).toHaveLength(times));

  test.each(["websocket", "sse"] as const)(
    "a kill arrives over %s, without anybody asking for it (R7, R14)",
    async (name) => {
      const key = `${prefix}-killed-over-${name}`;
      const targeting = await place().flag(key);
      await open({ streams: [name] });
      expect(await visitor().ready()).toBe(true);
      await connected();
      expect(await visitor().details(key, "")).toMatchObject({ value: "a", reason: "FALLTHROUGH" });
      await place().kill(targeting);
      await eventually(async () =>
        expect(await visitor().details(key, "")).toMatchObject({ value: "b", reason: "KILLED" }),
      );
      expect((await heard("change")).at(-1)?.detail).toMatchObject({ flags: [key] });
      expect(await visitor().status()).toMatchObject({ transport: name, connected: true, stale: false, ready: true });
    },
  );

  test("another context brings its own values, and no default in between (R14)", async () => {
    await place().flag(`${prefix}-contextual`);
    await open();
    await visitor().ready();
    await connected();
    expect(await visitor().setContext({ targetingKey: "ben" }, `${prefix}-contextual`)).toEqual(["a", "b"]);
    expect(await visitor().setContext({ targetingKey: "ada" }, `${prefix}-contextual`)).toEqual(["b", "a"]);
    await eventually(async () => expect(await visitor().status()).toMatchObject({ transport: "websocket" }));
  });

  test("of contexts that follow each other closely the last one counts", async () => {
    await place().flag(`${prefix}-hasty`);
    await open();
    await eventually(async () => expect(await value(`${prefix}-hasty`)).toBe("a"));
    const all = ["ben", "ada", "ben"].map((targetingKey) => visitor().setContext({ targetingKey }, `${prefix}-hasty`));
    await Promise.all(all);
    expect(await value(`${prefix}-hasty`)).toBe("b");
    expect(await visitor().context()).toMatchObject({ targetingKey: "ben" });
  });

  test("a change while a context is new is one of that context", async () => {
    const targeting = await place().flag(`${prefix}-later`);
    await open({ context: { targetingKey: "ben" } });
    await visitor().ready();
    await connected();
    await visitor().setContext({ targetingKey: "ada" }, `${prefix}-later`);
    await connected(2);
    await place().server.ask("PATCH", targeting, { fallthrough: { variation: "b" }, targets: [] });
    await eventually(async () => expect(await value(`${prefix}-later`)).toBe("b"));
  });

  test("what it was served last is there at once while nobody answers, for the context it was for (R15, Q7)", async () => {
    await place().flag(`${prefix}-kept`);
    await open();
    await eventually(async () => expect(await value(`${prefix}-kept`)).toBe("a"));
    await visitor().setContext({ targetingKey: "ben" }, `${prefix}-kept`);
    await place().server.kill();
    try {
      await open();
      expect(await value(`${prefix}-kept`)).toBe("a");
      expect(await visitor().status()).toMatchObject({ ready: false, connected: false });
      // Nobody can say what is right for this one: what it was served last is nearer than another's values.
      expect(await visitor().setContext({ targetingKey: "ben" }, `${prefix}-kept`)).toEqual(["a", "b"]);
      await open({ context: { targetingKey: "stranger" } });
      expect(await value(`${prefix}-kept`)).toBe("default");
    } finally {
      await place().server.resume();
    }
    await eventually(async () => expect(await value(`${prefix}-kept`)).toBe("a"));
  });

  test("a page that brings its values has them before anything was asked, and takes the server's (R15)", async () => {
    const key = `${prefix}-brought`;
    await place().flag(key);
    const brought = { value: "from the page", variation: "x", reason: "STATIC" as const, version: 1 };
    const first = await open({ bootstrap: { revision: 1e9, flags: { [key]: brought } } });
    expect(first[key]).toEqual(brought);
    await eventually(async () => expect(await value(key)).toBe("a"));
  });

  test("a visitor has an id until somebody says who it is, and keeps it then and afterwards", async () => {
    await place().flag(`${prefix}-anonymous`);
    await open({ context: {} });
    const { anonymousId } = await visitor().context();
    expect(await visitor().context()).toEqual({ targetingKey: anonymousId, anonymousId });
    await visitor().ready();
    await visitor().setContext({ targetingKey: "ben" }, `${prefix}-anonymous`);
    expect(await visitor().context()).toEqual({ targetingKey: "ben", anonymousId });
    await open({ context: { plan: "pro" } });
    expect(await visitor().context()).toEqual({ targetingKey: anonymousId, anonymousId, plan: "pro" });
  });

  test("a key that is refused says so, and defaults are served", async () => {
    await open({ clientKey: `${place().clientKey}x` });
    expect(await visitor().ready()).toBe(false);
    expect((await heard("error"))[0]?.detail).toMatchObject({ code: "REFUSED" });
    expect(await value("anything")).toBe("default");
    expect(await visitor().status()).toMatchObject({ refused: true });
  });
}
