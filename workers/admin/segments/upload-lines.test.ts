import fc from "fast-check";
import { expect, test } from "vitest";
import { lineFormat, memberBatches } from "./upload-lines.ts";

async function membersOf(bytes: Uint8Array, type: string, chunkBytes = 7): Promise<string[]> {
  async function* body() {
    for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.slice(at, at + chunkBytes);
  }
  const all: string[] = [];
  for await (const batch of memberBatches(body(), lineFormat(type))) all.push(...batch);
  return all;
}
const bytesOf = (text: string) => new TextEncoder().encode(text);

test("lines end by LF, CRLF or CR, mixed and wherever the body is cut", async () => {
  const member = fc.stringMatching(/^[a-z0-9 äß店]{1,6}$/).filter((text) => text.trim() !== "");
  const line = fc.tuple(member, fc.constantFrom("\n", "\r\n", "\r", "\r\r\n"));
  await fc.assert(
    fc.asyncProperty(fc.array(line, { maxLength: 20 }), fc.nat(9), fc.boolean(), async (lines, cut, isCsv) => {
      const written = lines.map(([name, end]) => `${isCsv ? name : JSON.stringify(name)}${end}`).join("");
      const read = membersOf(bytesOf(written), isCsv ? "text/csv" : "application/x-ndjson", cut + 1);
      expect(await read).toEqual(lines.map(([name]) => name));
    }),
  );
});

test("a byte order mark is no part of the first member", async () => {
  expect(await membersOf(bytesOf("\uFEFFada\rben"), "text/csv")).toEqual(["ada", "ben"]);
});

test.each([
  [
    "UTF-16 without a mark",
    Uint8Array.from([97, 0, 100, 0, 97, 0]),
    /Line 1: a member has no NUL: the file may be UTF-16/,
  ],
  ["UTF-16 with its mark", Uint8Array.from([0xff, 0xfe, 97, 0]), /Line 1: .*not valid UTF-8/],
  ["a NUL in JSON", bytesOf('"a"\r"b\\u0000"'), /Line 2: a member has no NUL/],
])("%s is refused, with its line", async (_, bytes, message) => {
  const type = bytes[0] === 0x22 ? "application/x-ndjson" : "text/csv";
  await expect(membersOf(bytes, type)).rejects.toThrow(message);
});
