/** Answers of many lines of JSON: however many there are, one page of them is held. */
import type { AdminContext } from "./context.ts";

const TYPE = "application/x-ndjson";

/**
 * The first page is read before the answer begins: what is wrong by then still has a status. Compressed here, because
 * Cloudflare compresses JSON and not lines of it.
 */
export async function answerLines(
  c: AdminContext,
  pages: AsyncGenerator<object[], undefined>,
  headers: Record<string, string> = {},
): Promise<Response> {
  const body = streamOf(await pages.next(), pages);
  const isGzip = /\bgzip\b(?!\s*;\s*q=0(\.0*)?(?![.\d]))/.test(acceptedEncodings(c));
  return c.body(body, 200, {
    "content-type": TYPE,
    vary: "accept-encoding",
    ...(isGzip && { "content-encoding": "gzip" }),
    ...headers,
  });
}

/** A page at a time, when the last one has been taken. */
function streamOf(
  first: IteratorResult<object[]>,
  pages: AsyncGenerator<object[], undefined>,
): ReadableStream<Uint8Array> {
  const encoder = new TextEncoder();
  let next: IteratorResult<object[]> | undefined = first;
  return new ReadableStream({
    async pull(controller) {
      const { value, done } = next ?? (await pages.next());
      next = undefined;
      if (done) return controller.close();
      controller.enqueue(encoder.encode(value.map((line) => `${JSON.stringify(line)}\n`).join("")));
    },
    cancel: () => void pages.return(undefined),
  });
}

/** The platform sends a Worker an Accept-Encoding of its own; the client's is in `cf`, where there is one. */
function acceptedEncodings(c: AdminContext): string {
  const { cf } = c.req.raw;
  if (cf !== undefined) return typeof cf.clientAcceptEncoding === "string" ? cf.clientAcceptEncoding : "";
  return c.req.header("accept-encoding") ?? "";
}
