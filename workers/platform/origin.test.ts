import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { isAllowedOrigin, readOrigin } from "./origin.ts";

describe("an origin is kept as browsers send it", () => {
  test.each([
    ["https://app.example.com", "https://app.example.com"],
    ["https://Shop.Example", "https://shop.example"],
    ["HTTPS://shop.example/", "https://shop.example"],
    ["https://shop.example:443", "https://shop.example"],
    ["http://shop.example:80", "http://shop.example"],
    ["http://localhost:5173", "http://localhost:5173"],
    ["https://münchen.example", "https://xn--mnchen-3ya.example"],
    ["http://[::1]:3000", "http://[::1]:3000"],
    ["http://127.1", "http://127.0.0.1"],
    ["https://*.Preview.Example:443", "https://*.preview.example"],
    ["https://*.preview.example:8443", "https://*.preview.example:8443"],
    ["capacitor://localhost", "capacitor://localhost"],
    ["ionic://localhost", "ionic://localhost"],
    ["tauri://localhost", "tauri://localhost"],
    ["chrome-extension://ABCDEFGHIJKLMNOPABCDEFGHIJKLMNOP", "chrome-extension://abcdefghijklmnopabcdefghijklmnop"],
  ])("%s as %s", (given, origin) => expect(readOrigin(given)).toEqual({ origin }));

  test.each([
    ["null", /cannot be allowed/],
    ["*", /empty/],
    ["shop.example", /scheme/],
    ["ftp://shop.example", /No page is at ftp/],
    ["file:///index.html", /No page is at file/],
    ["https://shop.example/path", /no path: send https:\/\/shop\.example\./],
    ["https://shop.example?x", /no path/],
    ["https://ada:secret@shop.example", /user name/],
    ["https://", /no address/],
    ["https://shop .example", /no address/],
    ["https://*", /two labels|no address|first label/],
    ["https://*.com", /two labels/],
    ["https://a.*.example", /first label/],
    ["https://*.*.example", /first label/],
    ["https://shop-*.example", /first label/],
    ["https://*.0.0.1", /two labels|no address/],
  ])("and %s is refused with the reason", (given, problem) =>
    expect(readOrigin(given)).toEqual({ problem: expect.stringMatching(problem) }),
  );

  test("whatever is written, what is kept is what some page sends, and keeping it again changes nothing", () => {
    const host = fc.oneof(fc.domain(), fc.constant("localhost"), fc.ipV4(), fc.string({ maxLength: 12 }));
    const scheme = fc.constantFrom("http", "https", "HTTPS", "tauri", "ws", "");
    const port = fc.oneof(
      fc.constant(""),
      fc.nat(70_000).map((number) => `:${number}`),
    );
    fc.assert(
      fc.property(scheme, fc.constantFrom("", "*."), host, port, fc.constantFrom("", "/"), (...parts) => {
        const [name, star, domain, number, end] = parts;
        const read = readOrigin(`${name}://${star}${domain}${number}${end}`);
        if ("problem" in read) {
          expect(read.problem).toMatch(/\.$/);
          return;
        }
        expect(readOrigin(read.origin)).toEqual(read);
        const sent = read.origin.replace("*", "pr-1");
        if (sent.startsWith("http")) expect(new URL(sent).origin).toBe(sent);
        expect(isAllowedOrigin([read.origin], sent)).toBe(true);
      }),
    );
  });
});

test("a pattern takes exactly one label, of its own scheme and port", () => {
  const allowed = ["https://*.preview.example", "https://shop.example"];
  for (const origin of ["https://pr-1.preview.example", "https://shop.example"])
    expect([origin, isAllowedOrigin(allowed, origin)]).toEqual([origin, true]);
  for (const origin of [
    "https://preview.example",
    "https://a.b.preview.example",
    "http://pr-1.preview.example",
    "https://pr-1.preview.example:8443",
    "https://pr-1.preview.example.evil.example",
    "https://evilpreview.example",
    "https://.preview.example",
    "https://*.preview.example.evil",
    "null",
    "",
  ])
    expect([origin, isAllowedOrigin(allowed, origin)]).toEqual([origin, false]);
});
