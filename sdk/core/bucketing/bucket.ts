// xxHash-32 (github.com/Cyan4973/xxHash, doc/xxhash_spec.md) over a string's UTF-8, without allocating (EV-30).

/** Buckets are thousandths of a percent. */
export const BUCKETS = 100_000;

const PRIME1 = 0x9e3779b1 | 0;
const PRIME2 = 0x85ebca77 | 0;
const PRIME3 = 0xc2b2ae3d | 0;
const PRIME4 = 0x27d4eb2f | 0;
const PRIME5 = 0x165667b1 | 0;

// Grows to the longest non-ASCII string seen; a string of n UTF-16 units needs at most 3n bytes.
let scratch = new Uint8Array(768);

/** An unsigned 32-bit hash of the string's UTF-8, a lone surrogate read as U+FFFD. */
export function xxh32(text: string, seed: number): number {
  return signedHash(text, seed) >>> 0;
}

/** The same bits as a signed number, which V8 passes on without a box: an evaluation allocates its Decision and nothing else. */
function signedHash(text: string, seed: number): number {
  const length = text.length;
  let seen = 0;
  let at = 0;
  let hash: number;
  if (length >= 16) {
    let a = (seed + PRIME1 + PRIME2) | 0;
    let b = (seed + PRIME2) | 0;
    let c = seed | 0;
    let d = (seed - PRIME1) | 0;
    for (; at + 16 <= length; at += 16) {
      const w0 = ascii4(text, at);
      const w1 = ascii4(text, at + 4);
      const w2 = ascii4(text, at + 8);
      const w3 = ascii4(text, at + 12);
      // -1 is no word of four ASCII bytes: their top bits are 0.
      if ((w0 | w1 | w2 | w3) < 0) return hashBytes(encode(text), seed);
      a = round(a, w0);
      b = round(b, w1);
      c = round(c, w2);
      d = round(d, w3);
    }
    hash = (rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18)) | 0;
  } else {
    hash = (seed + PRIME5) | 0;
  }
  hash = (hash + length) | 0;
  for (; at + 4 <= length; at += 4) {
    const word = ascii4(text, at);
    if (word < 0) return hashBytes(encode(text), seed);
    hash = Math.imul(rotate((hash + Math.imul(word, PRIME3)) | 0, 17), PRIME4);
  }
  for (; at < length; at++) {
    const unit = text.charCodeAt(at);
    seen |= unit;
    hash = Math.imul(rotate((hash + Math.imul(unit, PRIME5)) | 0, 11), PRIME1);
  }
  return seen > 0x7f ? hashBytes(encode(text), seed) : avalanche(hash);
}

/** Where a value falls: an integer in [0, 100000). `seedHash` is `xxh32(seed, 0)`, computed once per split. */
export function bucketOf(seedHash: number, value: string): number {
  return Math.floor(((signedHash(value, seedHash) >>> 0) * BUCKETS) / 0x1_0000_0000);
}

/** The same from the seed's text. */
export function bucket(seed: string, value: string): number {
  return bucketOf(xxh32(seed, 0), value);
}

/** What is hashed for an attribute's value: a string, or an integer's digits; `undefined` where it has no bucket. */
export function bucketable(value: unknown): string | undefined {
  if (typeof value === "string") return value;
  // String(-0) is "0".
  return typeof value === "number" && Number.isSafeInteger(value) ? String(value) : undefined;
}

function ascii4(text: string, at: number): number {
  const a = text.charCodeAt(at);
  const b = text.charCodeAt(at + 1);
  const c = text.charCodeAt(at + 2);
  const d = text.charCodeAt(at + 3);
  return (a | b | c | d) > 0x7f ? -1 : a | (b << 8) | (c << 16) | (d << 24);
}

function rotate(x: number, bits: number): number {
  return (x << bits) | (x >>> (32 - bits));
}

function round(lane: number, word: number): number {
  return Math.imul(rotate((lane + Math.imul(word, PRIME2)) | 0, 13), PRIME1);
}

function avalanche(hash: number): number {
  hash = Math.imul(hash ^ (hash >>> 15), PRIME2);
  hash = Math.imul(hash ^ (hash >>> 13), PRIME3);
  return hash ^ (hash >>> 16);
}

/** UTF-8 into `scratch`; returns the number of bytes. TextEncoder would do, but not every host of the core has one. */
function encode(text: string): number {
  if (scratch.length < text.length * 3) scratch = new Uint8Array(text.length * 3);
  let size = 0;
  for (let i = 0; i < text.length; i++) {
    // Not codePointAt: compiled by V8 13.6 (Node 24) it has now and then misread a lone surrogate here.
    let point = text.charCodeAt(i);
    if ((point & 0xf800) === 0xd800) {
      const low = point < 0xdc00 && i + 1 < text.length ? text.charCodeAt(i + 1) : 0;
      if ((low & 0xfc00) === 0xdc00) {
        point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
        i++;
      } else point = 0xfffd;
    }
    if (point < 0x80) {
      scratch[size++] = point;
    } else if (point < 0x800) {
      scratch[size++] = 0xc0 | (point >> 6);
      scratch[size++] = 0x80 | (point & 0x3f);
    } else {
      if (point < 0x10000) {
        scratch[size++] = 0xe0 | (point >> 12);
      } else {
        scratch[size++] = 0xf0 | (point >> 18);
        scratch[size++] = 0x80 | ((point >> 12) & 0x3f);
      }
      scratch[size++] = 0x80 | ((point >> 6) & 0x3f);
      scratch[size++] = 0x80 | (point & 0x3f);
    }
  }
  return size;
}

function word(at: number): number {
  return scratch[at]! | (scratch[at + 1]! << 8) | (scratch[at + 2]! << 16) | (scratch[at + 3]! << 24);
}

function hashBytes(size: number, seed: number): number {
  let at = 0;
  let hash: number;
  if (size >= 16) {
    let a = (seed + PRIME1 + PRIME2) | 0;
    let b = (seed + PRIME2) | 0;
    let c = seed | 0;
    let d = (seed - PRIME1) | 0;
    for (; at + 16 <= size; at += 16) {
      a = round(a, word(at));
      b = round(b, word(at + 4));
      c = round(c, word(at + 8));
      d = round(d, word(at + 12));
    }
    hash = (rotate(a, 1) + rotate(b, 7) + rotate(c, 12) + rotate(d, 18)) | 0;
  } else {
    hash = (seed + PRIME5) | 0;
  }
  hash = (hash + size) | 0;
  for (; at + 4 <= size; at += 4) hash = Math.imul(rotate((hash + Math.imul(word(at), PRIME3)) | 0, 17), PRIME4);
  for (; at < size; at++) hash = Math.imul(rotate((hash + Math.imul(scratch[at]!, PRIME5)) | 0, 11), PRIME1);
  return avalanche(hash);
}
