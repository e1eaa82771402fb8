import { BlockList } from "node:net";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { parseInstant } from "./dates.ts";
import { inNetworks, parseNetwork } from "./networks.ts";
import { compareVersion, parseVersion } from "./semver.ts";
import { lowerCase } from "./strings.ts";

describe("EV-16: dates", () => {
  it("are the instants that JavaScript reads, wherever both read them", () => {
    const dates = fc.date({
      min: new Date("0000-01-01T00:00:00Z"),
      max: new Date("9999-12-31T23:59:59.999Z"),
      noInvalidDate: true,
    });
    fc.assert(
      fc.property(dates, fc.integer({ min: -1_439, max: 1_439 }), (date, offset) => {
        const sign = offset < 0 ? "-" : "+";
        const part = (number: number) => String(number).padStart(2, "0");
        const zone = `${sign}${part(Math.floor(Math.abs(offset) / 60))}:${part(Math.abs(offset) % 60)}`;
        expect(parseInstant(date.toISOString())).toBe(date.getTime());
        expect(parseInstant(date.toISOString().replace("Z", zone))).toBe(date.getTime() - offset * 60_000);
      }),
      { numRuns: 5_000 },
    );
  });

  it("never throw, whatever the text", () => {
    fc.assert(fc.property(fc.string({ unit: "binary" }), (text) => typeof parseInstant(text) === "number"));
  });
});

describe("EV-17: versions", () => {
  const identifier = fc.constantFrom("0", "1", "10", "2", "99999999999999999999", "a", "A", "rc", "-", "1a", "a-1");
  const number = fc.constantFrom("0", "1", "9", "10", "18446744073709551616");
  const versions = fc
    .tuple(fc.array(number, { minLength: 1, maxLength: 3 }), fc.array(identifier, { maxLength: 3 }), fc.boolean())
    .map(([core, pre, build]) => `${core.join(".")}${pre.length > 0 ? `-${pre.join(".")}` : ""}${build ? "+b.1" : ""}`);
  const order = (a: string, b: string) => Math.sign(compareVersion(a, parseVersion(b)!));

  it("have one total order", () => {
    fc.assert(
      fc.property(versions, versions, versions, (a, b, c) => {
        expect(order(a, a)).toBe(0);
        expect(order(a, b) + order(b, a)).toBe(0);
        const [low, middle, high] = [a, b, c].sort(order);
        expect(order(low!, middle!)).toBeLessThanOrEqual(0);
        expect(order(low!, high!)).toBeLessThanOrEqual(0);
      }),
      { numRuns: 5_000 },
    );
  });
});

describe("EV-18: networks", () => {
  it("hold the addresses that Node's BlockList says they hold", () => {
    fc.assert(
      fc.property(fc.ipV4(), fc.ipV4(), fc.integer({ min: 0, max: 32 }), (network, address, bits) => {
        const list = new BlockList();
        list.addSubnet(network, bits, "ipv4");
        const parsed = parseNetwork(`${network}/${bits}`)!;
        for (const one of [network, address]) expect(inNetworks(one, [parsed])).toBe(list.check(one, "ipv4"));
      }),
      { numRuns: 2_000 },
    );
    fc.assert(
      fc.property(fc.ipV6(), fc.ipV6(), fc.integer({ min: 1, max: 128 }), (network, address, bits) => {
        const list = new BlockList();
        list.addSubnet(network, bits, "ipv6");
        const parsed = parseNetwork(`${network}/${bits}`)!;
        for (const one of [network, address]) expect(inNetworks(one, [parsed])).toBe(list.check(one, "ipv6"));
      }),
      { numRuns: 2_000 },
    );
  });

  it("never throw, whatever the text", () => {
    const network = parseNetwork("::/0")!;
    fc.assert(
      fc.property(fc.array(fc.constantFrom(..."0123456789abcdef:./%"), { maxLength: 50 }), (parts) => {
        expect(typeof inNetworks(parts.join(""), [network])).toBe("boolean");
        parseNetwork(parts.join(""));
      }),
      { numRuns: 5_000 },
    );
  });
});

describe("EV-14: lower case", () => {
  it("is each code point's own, whatever stands beside it", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary" }), (text) => {
        const apart = Array.from(text, (point) => (point === "\u0130" ? "i" : point.toLowerCase())).join("");
        expect(lowerCase(text)).toBe(apart);
      }),
      { numRuns: 5_000 },
    );
    expect(lowerCase("ΟΔΟΣ ΑΣ")).toBe("οδοσ ασ");
  });
});
