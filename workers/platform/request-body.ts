/** Bodies from strangers: bounded while they are read, UTF-8, JSON, not too deep. */
import { ApiError, badRequest, tooLarge } from "./problem.ts";

/** Deeper than any document of ours, far from where recursion would hurt. */
const MAX_DEPTH = 64;

/**
 * JSON as it was sent, for `parseJson`: what is to be recognised need not be parsed. `fromPages` also takes text/plain,
 * with which a page elsewhere may ask without a preflight.
 */
export async function readJsonText(request: Request, maxBytes: number, fromPages = false): Promise<string> {
  const type = request.headers.get("content-type") ?? "application/json";
  const isJson = type === "application/json" || /^application\/([\w.+-]+\+)?json\s*(;|$)/i.test(type);
  if (!isJson && !(fromPages && /^text\/plain\s*(;|$)/i.test(type))) {
    throw new ApiError(415, "unsupported-media-type", "Send JSON, with Content-Type: application/json.");
  }
  const contentLength = request.headers.get("content-length");
  if (contentLength !== null && Number(contentLength) <= maxBytes) return readWhole(request, Number(contentLength));
  return readText(request.body, maxBytes, contentLength);
}

/**
 * As text at once: bytes to be decoded cost a poll a tenth more. What is no UTF-8 comes as U+FFFD, which is longer than what
 * it stands for, and a byte order mark is dropped, so that the length tells; but for a character that lacks the last of its
 * four bytes, which is then U+FFFD in a context and as good as any text.
 */
async function readWhole(request: Request, bytes: number): Promise<string> {
  const text = await request.text();
  if (utf8Length(text) === bytes) return text;
  throw badRequest("The body is not valid UTF-8, or not as long as its Content-Length.");
}

function utf8Length(text: string): number {
  let bytes = text.length;
  for (let index = 0; index < text.length; index++) {
    const unit = text.charCodeAt(index);
    // Two units of two bytes each are a character of four.
    if (unit > 0x7f) bytes += unit < 0x800 || (unit & 0xf800) === 0xd800 ? 1 : 2;
  }
  return bytes;
}

/** Stops reading at the limit, so that a body that lies about its length costs no more than one that does not. */
export async function readText(
  body: ReadableStream<Uint8Array> | null,
  maxBytes: number,
  contentLength: string | null = null,
): Promise<string> {
  const limit = maxBytes % 1_048_576 === 0 ? `${maxBytes / 1_048_576} MB` : `${maxBytes / 1_024} KB`;
  if (contentLength !== null && Number(contentLength) > maxBytes) throw tooLarge(limit);
  if (body === null) return "";
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  let text = "";
  let read = 0;
  try {
    for await (const chunk of body) {
      read += chunk.byteLength;
      if (read > maxBytes) throw tooLarge(limit);
      text += decoder.decode(chunk, { stream: true });
    }
    return text + decoder.decode();
  } catch (error) {
    if (error instanceof ApiError) throw error;
    throw badRequest("The body is not valid UTF-8.");
  }
}

export function parseJson(text: string): unknown {
  if (text.trim() === "") throw badRequest("The body is empty. Send a JSON object.");
  if (tooDeep(text)) throw badRequest(`The body is nested deeper than ${MAX_DEPTH} levels.`);
  try {
    return JSON.parse(text);
  } catch (error) {
    throw badRequest(`The body is not JSON: ${(error as Error).message.slice(0, 200)}`);
  }
}

/** Counted before parsing, on the text: brackets inside strings do not count. */
function tooDeep(text: string): boolean {
  let depth = 0;
  let inString = false;
  for (let index = 0; index < text.length; index++) {
    const character = text.charCodeAt(index);
    if (inString) {
      if (character === 0x5c) index++;
      else if (character === 0x22) inString = false;
    } else if (character === 0x22) inString = true;
    else if (character === 0x7b || character === 0x5b) {
      if (++depth > MAX_DEPTH) return true;
    } else if (character === 0x7d || character === 0x5d) depth--;
  }
  return false;
}
