/** A revision that does not fit a message is sent as a resync. */
import { expect, test } from "vitest";
import { flag } from "../../test/support/environment.ts";
import { encodeDelivery } from "./delivery.ts";

const values = Array.from({ length: 10_000 }, (_, index) => `user-${index}`);
const large = flag("a", { targets: [{ variation: "on", values }] });
const patch = { revision: 2, previous: 1, publishedAt: 0, flags: { a: large }, segments: {} };

test.each([
  [10_000, false, 20_000],
  [10_000, true, 500],
  [10_000_000, true, 500],
  [1_000, true, 0],
])(
  "of %i clients (a kill: %s) each fetches it within %i ms: a kill is not spread over minutes (R14)",
  (clients, urgent, withinMs) => {
    const { delivery } = encodeDelivery(patch, {}, clients, urgent);
    expect(JSON.parse(delivery.message)).toEqual({ type: "resync", revision: 2, withinMs });
  },
);
