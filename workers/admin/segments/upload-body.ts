/** The body of an upload of members, unpacked. gzip is for those behind a proxy that limits bodies, as Cloudflare does at 100 MB. */
import { createGunzip, type Gunzip } from "node:zlib";
import { ApiError, badRequest } from "../../platform/problem.ts";

/**
 * Members differ from each other, so that gzip makes a tenth of them, a hundredth of lines with much beside them that is alike.
 * What unpacks to more than so many times its size is a bomb, and known as one after the first megabyte.
 */
const MAX_RATIO = 200;
const UNSUSPICIOUS_BYTES = 1_048_576;

/** @throws ApiError, also while it is read. */
export function uploadBody({ body, headers }: Request): AsyncIterable<Uint8Array> {
  if (body === null) throw badRequest("The body is empty: send one member a line.");
  const encoding = headers.get("content-encoding") ?? "identity";
  if (encoding === "identity") return body;
  if (encoding !== "gzip") throw new ApiError(415, "unsupported-media-type", "Content-Encoding is gzip or nothing.");
  return unpacked(body);
}

async function* unpacked(packed: ReadableStream<Uint8Array>): AsyncGenerator<Uint8Array> {
  // Not a DecompressionStream, which unpacks all that it is given before anybody has read of it.
  const gunzip = createGunzip();
  void feed(packed, gunzip);
  const chunks = gunzip[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  let bytes = 0;
  try {
    for (;;) {
      const { done, value } = await chunks.next().catch(() => {
        throw badRequest("The body is not the gzip that its Content-Encoding says, or it breaks off.");
      });
      if (done) return;
      bytes += value.byteLength;
      if (bytes > UNSUSPICIOUS_BYTES && bytes > MAX_RATIO * gunzip.bytesWritten) {
        throw new ApiError(
          413,
          "compressed-too-well",
          `The upload unpacks to more than ${MAX_RATIO} times its compressed size: send it in parts, or uncompressed.`,
        );
      }
      yield value;
    }
  } finally {
    gunzip.destroy();
  }
}

/** Each chunk once the one before it is unpacked and read. Ends by an error where nobody reads on. */
async function feed(packed: ReadableStream<Uint8Array>, gunzip: Gunzip): Promise<void> {
  try {
    for await (const chunk of packed) {
      await new Promise<void>((resolve, reject) => {
        gunzip.write(chunk, (error) => (error ? reject(error) : resolve()));
      });
    }
    gunzip.end();
  } catch (error) {
    gunzip.destroy(error as Error);
  }
}
