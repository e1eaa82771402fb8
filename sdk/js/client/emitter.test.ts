import fc from "fast-check";
import { describe, expect, test, vi } from "vitest";
import { createClient as createBrowserClient } from "../browser.ts";
import { createClient as createNodeClient } from "../node.ts";
import { createTestBrowserClient, createTestClient } from "../testing.ts";
import { createClient as createWorkersClient } from "../workers.ts";
import { emitter } from "./emitter.ts";

type Events = { change: number; ready: string };

test("whatever is subscribed, ended and emitted, each subscription hears what was emitted while it lasted", () => {
  const action = fc.oneof(
    fc.record({ type: fc.constant("on" as const), listener: fc.nat(2), once: fc.boolean() }),
    fc.record({ type: fc.constant("end" as const), index: fc.nat(9) }),
    fc.record({ type: fc.constant("emit" as const) }),
  );
  fc.assert(
    fc.property(fc.array(action, { maxLength: 40 }), (actions) => {
      const events = emitter<Events>(() => {});
      const calls = [0, 0, 0];
      const listeners = calls.map((_, index) => () => void calls[index]!++);
      const lasting: { listener: number; once: boolean; end: () => void }[] = [];
      const expected = [0, 0, 0];
      for (const one of actions) {
        if (one.type === "on") {
          const subscribe = one.once ? events.once : events.on;
          lasting.push({ ...one, end: subscribe("change", listeners[one.listener]!) });
        } else if (one.type === "end") {
          const [ended] = lasting.splice(one.index, 1);
          ended?.end();
          ended?.end();
        } else {
          events.emit("change", 1);
          for (const { listener } of lasting) expected[listener]!++;
          const over = lasting.filter(({ once }) => once);
          for (const ended of over) lasting.splice(lasting.indexOf(ended), 1);
        }
      }
      expect(calls).toEqual(expected);
      expect(events.names()).toEqual(lasting.length > 0 ? ["change"] : []);
    }),
  );
});

test("a listener that throws is reported, and the others are called", () => {
  const failed = vi.fn();
  const events = emitter<Events>(failed);
  const other = vi.fn();
  events.on("ready", () => {
    throw new Error("of the application");
  });
  events.on("ready", other);
  events.emit("ready", "now");
  expect(other).toHaveBeenCalledWith("now");
  expect(failed).toHaveBeenCalledWith("ready", expect.objectContaining({ message: "of the application" }));
});

test("a listener that another one has ended meanwhile is not called", () => {
  const events = emitter<Events>(() => {});
  const second = vi.fn();
  events.on("ready", () => end());
  const end = events.on("ready", second);
  events.emit("ready", "now");
  expect(second).not.toHaveBeenCalled();
});

describe("two subscriptions of one listener are two, in", () => {
  const refuse = async () => new Response(null, { status: 401 });
  const shared = { url: "http://flags.test", streams: [], logger: { warn() {}, error() {} }, fetch: refuse };
  const serverKey = "bnt_srv_e_x";
  type Subscribing = {
    client: {
      on(name: string, listener: () => void): () => void;
      once: Subscribing["client"]["on"];
      close(): Promise<void>;
    };
    name: "error" | "change";
    happen?: () => unknown;
  };
  const cases: Record<string, () => Subscribing> = {
    "/node": () => ({ client: createNodeClient({ ...shared, serverKey }) as never, name: "error" }),
    "/browser": () => {
      const client = createBrowserClient({ ...shared, clientKey: "bnt_cli_e_x", cache: false });
      return { client: client as never, name: "error" };
    },
    "/workers": () => {
      const workers = createWorkersClient({ ...shared, serverKey, binding: { fetch: refuse } });
      const happen = () => workers.refresh({ waitUntil() {} });
      return { client: workers.client as never, name: "error", happen };
    },
    "/testing": () => {
      const client = createTestClient<{ theme: string }>();
      return { client: client as never, name: "change", happen: () => client.set("theme", "dark") };
    },
    "/testing, for pages": () => {
      const client = createTestBrowserClient<{ theme: string }>();
      return { client: client as never, name: "change", happen: () => client.set("theme", "dark") };
    },
  };
  test.each(Object.entries(cases))("%s", async (_, make) => {
    const { client, name, happen } = make();
    const listener = vi.fn();
    const ended = client.on(name, listener);
    client.on(name, listener);
    client.once(name, listener);
    ended();
    ended();
    void happen?.();
    await vi.waitFor(() => expect(listener).toHaveBeenCalledTimes(2));
    await client.close();
  });
});
