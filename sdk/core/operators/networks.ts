// IPv4 and IPv6 literals and networks (EV-18).

/** A network: its address as one or four unsigned 32-bit words, and the length of its prefix. */
export type Network = { readonly words: readonly number[]; readonly bits: number };

// parseAddress writes here, so that looking up an address allocates nothing.
const scratch = [0, 0, 0, 0];

/** `10.0.0.0/8`, `2001:db8::/32`. Bits below the prefix are ignored. `undefined` where it is no network. */
export function parseNetwork(text: string): Network | undefined {
  const slash = text.indexOf("/");
  if (slash < 0) return undefined;
  const count = parseAddress(text.slice(0, slash));
  const prefix = text.slice(slash + 1);
  if (count === 0 || !/^(?:0|[1-9]\d{0,2})$/.test(prefix) || Number(prefix) > count * 32) return undefined;
  return { words: scratch.slice(0, count), bits: Number(prefix) };
}

/** Whether `text` is a literal address inside any of the networks. An IPv4-mapped IPv6 address is an IPv6 address. */
export function inNetworks(text: string, networks: readonly Network[]): boolean {
  const count = parseAddress(text);
  if (count === 0) return false;
  for (const network of networks) if (network.words.length === count && holdsScratch(network)) return true;
  return false;
}

function holdsScratch(network: Network): boolean {
  for (let i = 0, bits = network.bits; bits > 0; i++, bits -= 32) {
    const mask = bits >= 32 ? -1 : -1 << (32 - bits);
    if (((scratch[i]! ^ network.words[i]!) & mask) !== 0) return false;
  }
  return true;
}

/** Fills `scratch`; answers the number of words: 1 for IPv4, 4 for IPv6, 0 for anything else. */
function parseAddress(text: string): number {
  if (text.length > 45) return 0;
  if (!text.includes(":")) {
    scratch[0] = parseIPv4(text, 0);
    return scratch[0] < 0 ? 0 : 1;
  }
  return parseIPv6(text) ? 4 : 0;
}

/** The address from `at` to the end of the text, or -1. Octets have no leading zeros: some parsers read those as octal. */
function parseIPv4(text: string, at: number): number {
  let address = 0;
  for (let octet = 0; octet < 4; octet++) {
    if (octet > 0 && text.charCodeAt(at++) !== 46) return -1;
    const start = at;
    let value = 0;
    for (; at < text.length && at - start < 4; at++) {
      const unit = text.charCodeAt(at);
      if (unit < 48 || unit > 57) break;
      value = value * 10 + unit - 48;
    }
    if (at === start || value > 255 || (at - start > 1 && text.charCodeAt(start) === 48)) return -1;
    address = address * 256 + value;
  }
  return at === text.length ? address : -1;
}

/** RFC 4291 section 2.2: eight groups, one run of zeros as `::`, the last two as dotted decimal. No zone. */
function parseIPv6(text: string): boolean {
  let count = 0;
  let gap = -1;
  let at = 0;
  if (text.startsWith("::")) {
    gap = 0;
    at = 2;
  }
  scratch.fill(0);
  while (at < text.length) {
    let end = at;
    let value = 0;
    for (; end < text.length; end++) {
      const digit = hexDigit(text.charCodeAt(end));
      if (digit < 0) break;
      value = value * 16 + digit;
    }
    if (text[end] === ".") {
      const quad = parseIPv4(text, at);
      if (quad < 0 || count > 6) return false;
      put(count, quad >>> 16);
      put(count + 1, quad & 0xffff);
      count += 2;
      break;
    }
    if (end === at || end - at > 4 || count > 7) return false;
    put(count++, value);
    if (end === text.length) break;
    if (text[end] !== ":") return false;
    at = end + 1;
    if (text[at] === ":") {
      if (gap >= 0) return false;
      gap = count;
      at++;
    } else if (at === text.length) {
      return false;
    }
  }
  if (gap < 0) return count === 8;
  if (count > 7) return false;
  for (let i = count - 1; i >= gap; i--) {
    put(i + 8 - count, group(i));
    put(i, 0);
  }
  return true;
}

function hexDigit(unit: number): number {
  if (unit >= 48 && unit <= 57) return unit - 48;
  const lower = unit | 0x20;
  return lower >= 97 && lower <= 102 ? lower - 87 : -1;
}

function group(index: number): number {
  const word = scratch[index >> 1]!;
  return index % 2 === 0 ? word >>> 16 : word & 0xffff;
}

function put(index: number, value: number): void {
  const word = scratch[index >> 1]!;
  scratch[index >> 1] = (index % 2 === 0 ? (word & 0xffff) | (value << 16) : (word & 0xffff0000) | value) >>> 0;
}
