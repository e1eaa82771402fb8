import { evictDurableObject, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";
import { expect, test, vi } from "vitest";
import type { SegmentState } from "../../../durable-objects/segment/state.ts";
import { newPlace } from "../../support/data-plane.ts";

const place = await newPlace();
const { api } = place;
const segments = `/projects/${place.project}/environments/production/segments`;
const NDJSON = { "content-type": "application/x-ndjson" };
const GZIP = { ...NDJSON, "content-encoding": "gzip" };

async function newSegment(key: string): Promise<string> {
  await api("POST", segments, { key });
  return `${segments}/${key}/members`;
}

const users = (count: number, from = 0) => Array.from({ length: count }, (_, index) => `user-${from + index}`);
const lines = (members: string[]) => members.map((member) => JSON.stringify(member)).join("\n");

async function gzip(text: string, times = 1): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new TextEncoder().encode(text);
  let left = times;
  const source = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (left-- > 0) controller.enqueue(bytes);
      else controller.close();
    },
  });
  return new Uint8Array(await new Response(source.pipeThrough(new CompressionStream("gzip"))).arrayBuffer());
}

const objectOf = (key: string) => env.BIG_SEGMENT.get(env.BIG_SEGMENT.idFromName(`${place.environmentId}/${key}`));

test("an upload may come as gzip", async () => {
  const members = await newSegment("packed");
  const sent = await api("POST", members, await gzip(lines(users(20_000))), GZIP);
  expect([sent.status, sent.body.count]).toEqual([202, 20_000]);
  expect((await api("GET", `${members}/user-19999`)).body.present).toBe(true);
  expect((await api("POST", members, "x", { ...NDJSON, "content-encoding": "br" })).status).toBe(415);
});

test("what is no gzip, or breaks off, is the sender's mistake, and replaces nobody", async () => {
  const members = await newSegment("unpackable");
  await api("POST", members, lines(users(3)), NDJSON);
  const whole = await gzip(lines(users(5_000, 100)));
  const flipped = whole.slice();
  flipped[whole.length - 6]! ^= 0xff;
  for (const body of ["plain", whole.subarray(0, 5), whole.subarray(0, whole.length / 2), flipped]) {
    const answer = await api("POST", `${members}?mode=replace`, body, GZIP);
    expect([answer.status, answer.body.code]).toEqual([400, "invalid-request"]);
    expect(answer.body.detail).toContain("gzip");
  }
  expect((await api("GET", `${members}/user-1`)).body.present).toBe(true);
});

test("a bomb is known as one after its first megabytes, whatever it says", async () => {
  const members = await newSegment("bombed");
  const bombs = [
    ["\n".repeat(1_000_000), "413 compressed-too-well"],
    ['"member"\n'.repeat(100_000), "413 compressed-too-well"],
    [" ".repeat(1_000_000), "400 invalid-request"],
  ] as const;
  for (const [block, refusal] of bombs) {
    const bomb = await gzip(block, 300);
    expect(bomb.byteLength).toBeLessThan(1_000_000);
    const { status, body } = await api("POST", members, bomb, GZIP);
    expect(`${status} ${body.code}`).toBe(refusal);
    const { upload } = (await api("GET", members)).body;
    expect(upload.state).toBe("abandoned");
    // Of its 30 million lines.
    expect(upload.received).toBeLessThan(150_000);
  }
});

/** As if it had so many: five million real ones take a minute to send. What is decided of the number is real. */
async function plantCount(key: string, count: number): Promise<void> {
  await runInDurableObject(objectOf(key), (_, { storage }) => {
    storage.kv.put("state", { ...(storage.kv.get("state") as SegmentState), count });
  });
  await evictDurableObject(objectOf(key));
}

test("beyond five million members an upload and a PATCH are refused, and may still remove", async () => {
  const members = await newSegment("full");
  await api("PATCH", members, { add: ["first"] });
  await plantCount("full", 4_999_999);
  expect((await api("POST", members, lines(["last"]), NDJSON)).body).toMatchObject({ count: 5_000_000 });
  const patched = await api("PATCH", members, { add: ["beyond"] });
  expect([patched.status, patched.body.code]).toEqual([413, "too-many-members"]);
  const sent = await api("POST", members, lines(["beyond", "further"]), NDJSON);
  expect([sent.status, sent.body.code]).toEqual([413, "too-many-members"]);
  // One for one is no growth, and what is too much already may shrink.
  expect((await api("PATCH", members, { add: ["instead"], remove: ["first"] })).status).toBe(200);
  expect((await api("PATCH", members, { add: ["one more"] })).status).toBe(413);
  expect((await api("POST", `${members}?mode=remove`, lines(["beyond", "further"]), NDJSON)).status).toBe(202);
  await vi.waitFor(async () => expect((await api("GET", members)).body.building).toBeNull());
});
