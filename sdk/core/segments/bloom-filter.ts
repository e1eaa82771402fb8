/**
 * Bloom filters of big segments (EV-20): no false negatives, and false positives at a stated rate. A filter is its bits alone,
 * least significant bit of each byte first; how many there are, and how many are set for a member, is in the segment's document.
 */
import { xxh32 } from "../bucketing/bucket.ts";

export type FilterSize = { readonly bits: number; readonly hashes: number };

/** One key in a million that is not a member is a false positive. */
const FALSE_POSITIVE_RATE = 1e-6;

/** A filter that keeps the rate with so many members: 29.5 bits each from 31,000 on. */
export function filterSize(members: number, falsePositiveRate = FALSE_POSITIVE_RATE): FilterSize {
  const count = Math.max(members, 1);
  const bitsPerMember = -Math.log(falsePositiveRate * 0.7) / Math.LN2 ** 2;
  // The rest of the rate is for false positives whose two hashes run along a member's, modulo the bits: measured,
  // 8 × members ÷ bits². With few bits they would be a thousand in a million.
  const apart = Math.sqrt((8 * count) / (falsePositiveRate * 0.3));
  const bits = Math.ceil(Math.max(count * bitsPerMember, apart));
  return { bits, hashes: Math.max(1, Math.round(bitsPerMember * Math.LN2)) };
}

export const emptyFilter = ({ bits }: FilterSize): Uint8Array => new Uint8Array(Math.ceil(bits / 8));

/** The two hashes that place a member: all that has to be known of it to set its bits. */
export function placeOf(member: string): [a: number, b: number] {
  const a = xxh32(member, 0);
  return [a, (xxh32(member, a) | 1) >>> 0];
}

// Bit i is (a + i·b) mod bits. Reduced first and added up, all of it stays within exact integers and needs no division.

export function setBits(filter: Uint8Array, { bits, hashes }: FilterSize, a: number, b: number): void {
  let bit = a % bits;
  const stride = b % bits;
  for (let i = 0; i < hashes; i++) {
    filter[bit >>> 3] = filter[bit >>> 3]! | (1 << (bit & 7));
    bit += stride;
    if (bit >= bits) bit -= bits;
  }
}

export function mayContain(filter: Uint8Array, { bits, hashes }: FilterSize, member: string): boolean {
  const [a, b] = placeOf(member);
  let bit = a % bits;
  const stride = b % bits;
  for (let i = 0; i < hashes; i++) {
    if ((filter[bit >>> 3]! & (1 << (bit & 7))) === 0) return false;
    bit += stride;
    if (bit >= bits) bit -= bits;
  }
  return true;
}
