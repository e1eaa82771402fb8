/** Tests that every client with a client key passes, whether it runs in Node, a page or a Worker. */
import { expect, test, vi } from "vitest";
import type { Server } from "./server.ts";
import type { RemoteVisitor, VisitorOptions } from "./visitor.ts";

/** Waits long enough for a slow machine. */
export const eventually = <T>(check: () => Promise<T>): Promise<T> =>
  vi.waitFor(check, { timeout: 20_000, interval: 50 });

/** A server with an environment and a client key. */
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

  /** Creates a string flag that serves "b" to the user "ben" and "a" to others. Returns the path of its targeting. */
  async flag(key: string, targeting: object = {}): Promise<string> {
    const variations = ["a", "b"].map((value) => ({ key: value, value }));
    await this.server.ask("POST", this.#flags, { key, type: "string", variations, clientSide: true });
    const path = `${this.#flags}/${key}/environments/production`;
    await this.server.ask("PATCH", path, { on: true, targets: [{ variation: "b", values: ["ben"] }], ...targeting });
    // A poll may be answered from a ruleset that is a second old.
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
  /** Of the keys of flags: clients that share a place have different flags. */
  prefix: string;
  place(): ClientPlace;
  /** The visitor of the current test. */
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
  const emitted = async (name: string) => (await visitor().emitted()).filter((one) => one.name === name);
  const connected = (times = 1) => eventually(async () => expect(await emitted("connected")).toHaveLength(times));

  test.each(["websocket", "sse"] as const)("a kill arrives over %s without a request (R7, R14)", async (name) => {
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
    expect((await emitted("change")).at(-1)?.detail).toMatchObject({ flags: [key] });
    expect(await visitor().status()).toMatchObject({ transport: name, connected: true, stale: false, ready: true });
  });

  test("a new context brings its own values, and no default in between (R14)", async () => {
    await place().flag(`${prefix}-contextual`);
    await open();
    await visitor().ready();
    await connected();
    expect(await visitor().setContext({ targetingKey: "ben" }, `${prefix}-contextual`)).toEqual(["a", "b"]);
    expect(await visitor().setContext({ targetingKey: "ada" }, `${prefix}-contextual`)).toEqual(["b", "a"]);
    await eventually(async () => expect(await visitor().status()).toMatchObject({ transport: "websocket" }));
  });

  test("of contexts that are set in quick succession the last one wins", async () => {
    await place().flag(`${prefix}-hasty`);
    await open();
    await eventually(async () => expect(await value(`${prefix}-hasty`)).toBe("a"));
    const all = ["ben", "ada", "ben"].map((targetingKey) => visitor().setContext({ targetingKey }, `${prefix}-hasty`));
    await Promise.all(all);
    expect(await value(`${prefix}-hasty`)).toBe("b");
    expect(await visitor().context()).toMatchObject({ targetingKey: "ben" });
  });

  test("a change right after a new context is evaluated for that context", async () => {
    const targeting = await place().flag(`${prefix}-later`);
    await open({ context: { targetingKey: "ben" } });
    await visitor().ready();
    await connected();
    await visitor().setContext({ targetingKey: "ada" }, `${prefix}-later`);
    await connected(2);
    await place().server.ask("PATCH", targeting, { fallthrough: { variation: "b" }, targets: [] });
    await eventually(async () => expect(await value(`${prefix}-later`)).toBe("b"));
  });

  test("the last values of a context are served at once while the server is down, and to no other context (R15, Q7)", async () => {
    await place().flag(`${prefix}-kept`);
    await open();
    await eventually(async () => expect(await value(`${prefix}-kept`)).toBe("a"));
    await visitor().setContext({ targetingKey: "ben" }, `${prefix}-kept`);
    await place().server.kill();
    try {
      await open();
      expect(await value(`${prefix}-kept`)).toBe("a");
      expect(await visitor().status()).toMatchObject({ ready: false, connected: false });
      // The values that were last served to this context are better than those of the previous one.
      expect(await visitor().setContext({ targetingKey: "ben" }, `${prefix}-kept`)).toEqual(["a", "b"]);
      await open({ context: { targetingKey: "eve" } });
      expect(await value(`${prefix}-kept`)).toBe("default");
    } finally {
      await place().server.resume();
    }
    await eventually(async () => expect(await value(`${prefix}-kept`)).toBe("a"));
  });

  test("a bootstrap is served before the first request, and is replaced by the server's values (R15)", async () => {
    const key = `${prefix}-brought`;
    await place().flag(key);
    const brought = { value: "from the page", variation: "x", reason: "STATIC" as const, version: 1 };
    const first = await open({ bootstrap: { revision: 1e9, flags: { [key]: brought } } });
    expect(first[key]).toEqual(brought);
    await eventually(async () => expect(await value(key)).toBe("a"));
  });

  test("a visitor has an anonymous id, and keeps it with a targeting key and after it", async () => {
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

  test("a client whose key is refused emits an error and serves defaults", async () => {
    await open({ clientKey: `${place().clientKey}x` });
    expect(await visitor().ready()).toBe(false);
    expect((await emitted("error"))[0]?.detail).toMatchObject({ code: "REFUSED" });
    expect(await value("anything")).toBe("default");
    expect(await visitor().status()).toMatchObject({ refused: true });
  });
}
