/** How often an address may send credentials that are not valid: kept by each isolate, and looked at before anything is read. */
import { type Bucket, type Limit, takeFrom } from "./token-bucket.ts";

const MAX_ADDRESSES = 10_000;
/** What may be guessed from one address. */
export const UNAUTHENTICATED: Limit = { perSecond: 5, burst: 100 };

export class AddressLimit {
  readonly #buckets = new Map<string, Bucket>();
  readonly #limit: Limit;

  constructor(limit: Limit) {
    this.#limit = limit;
  }

  /** Milliseconds until this address may send another; 0 where it may now. Counts nothing. */
  waitMs(address: string): number {
    const known = this.#buckets.get(address);
    if (known === undefined) return 0;
    const { allowed, retryAfterMs } = takeFrom(known, 1, this.#limit, Date.now());
    return allowed ? 0 : retryAfterMs;
  }

  count(address: string): void {
    if (this.#buckets.size >= MAX_ADDRESSES) this.#buckets.clear();
    this.#buckets.set(address, takeFrom(this.#buckets.get(address) ?? null, 1, this.#limit, Date.now()).bucket);
  }
}

/** Of IPv6 the network: whoever has one of its addresses has them all. */
export function addressOf({ headers }: Pick<Request, "headers">): string {
  const address = headers.get("cf-connecting-ip") ?? "";
  return address.includes(":") && !address.includes(".") ? networkOf(address) : address;
}

function networkOf(address: string): string {
  const [head = [], tail = []] = address.split("::").map((part) => part.split(":").filter((group) => group !== ""));
  const zeros = Array.from({ length: Math.max(0, 8 - head.length - tail.length) }, () => "0");
  return [...head, ...zeros, ...tail].slice(0, 4).join(":");
}
