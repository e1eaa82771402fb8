/** Members as they are uploaded: a line each, however many, in bounded memory. */
import { ApiError, badRequest } from "../../platform/problem.ts";
import { MAX_TEXT } from "../limits.ts";

export type LineFormat = "ndjson" | "csv";

/** A member in JSON with every character escaped, and what may stand beside it. UTF-16 units. */
const MAX_LINE = 16 * MAX_TEXT;
/** Twice as many as a segment has members: a list with each of them twice, or with a blank line after each. */
const MAX_LINES = 10_000_000;
/** Of every system: of one that ends lines by CR alone, a whole file would be one member. */
const LINE_END = /\r\n|\n|\r/;
/** One call of the segment's object: about 50 ms of its time, far below the 32 MB of an RPC. */
const BATCH_MEMBERS = 5_000;
const BATCH_UNITS = 500_000;

/** By Content-Type; `header=present` (RFC 4180) says that the first line of a CSV names the columns. */
export function lineFormat(contentType: string | undefined): { format: LineFormat; header: boolean } {
  const type = (contentType ?? "").toLowerCase();
  if (/^application\/(x-ndjson|ndjson|jsonl)\s*(;|$)/.test(type)) return { format: "ndjson", header: false };
  if (/^text\/csv\s*(;|$)/.test(type)) return { format: "csv", header: /;\s*header="?present"?/.test(type) };
  throw new ApiError(
    415,
    "unsupported-media-type",
    "Send one member a line: application/x-ndjson, or text/csv with the members in the first column.",
  );
}

/** Batches of members. An invalid line ends the upload, and the error names it. */
export async function* memberBatches(
  body: AsyncIterable<Uint8Array>,
  { format, header }: ReturnType<typeof lineFormat>,
): AsyncGenerator<string[]> {
  let batch: string[] = [];
  let units = 0;
  let number = 0;
  for await (const lines of linesOf(body)) {
    for (const line of lines) {
      number += 1;
      if (number > MAX_LINES) throw new ApiError(413, "too-many-lines", "An upload has at most 10,000,000 lines.");
      if (line.trim() === "" || (header && number === 1)) continue;
      const member = format === "csv" ? firstColumn(line, number) : fromJson(line, number);
      checkMember(member, number);
      batch.push(member);
      units += member.length;
      if (batch.length < BATCH_MEMBERS && units < BATCH_UNITS) continue;
      yield batch;
      batch = [];
      units = 0;
    }
  }
  if (batch.length > 0) yield batch;
}

async function* linesOf(body: AsyncIterable<Uint8Array>): AsyncGenerator<string[]> {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: false });
  let rest = "";
  let number = 0;
  const decoded = (chunk?: Uint8Array): string => {
    try {
      return chunk === undefined ? decoder.decode() : decoder.decode(chunk, { stream: true });
    } catch {
      throw invalidLine(number + 1, "not-utf-8", "at or after this line the body is not valid UTF-8");
    }
  };
  for await (const chunk of body) {
    const text = rest + decoded(chunk);
    // A line feed may follow with the next chunk.
    const isOpen = text.endsWith("\r");
    const lines = (isOpen ? text.slice(0, -1) : text).split(LINE_END);
    rest = `${lines.pop()}${isOpen ? "\r" : ""}`;
    number += lines.length;
    if (rest.length > MAX_LINE)
      throw invalidLine(number + 1, "line-too-long", `a line has at most ${MAX_LINE} characters`);
    if (lines.length > 0) yield lines;
  }
  rest += decoded();
  if (rest !== "") yield rest.split(LINE_END);
}

/** A string, or an object that has it as `key`. */
function fromJson(line: string, number: number): string {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    throw invalidLine(number, "not-json", 'this is not JSON: send "user-1" or {"key": "user-1"} on a line of its own');
  }
  const member = typeof value === "object" && value !== null ? (value as { key?: unknown }).key : value;
  if (typeof member === "string") return member;
  throw invalidLine(number, "not-a-string", 'a member is a string, or an object whose "key" is one');
}

/** RFC 4180, but that a field has no line breaks: no member has any. */
function firstColumn(line: string, number: number): string {
  if (!line.startsWith('"')) {
    const end = line.indexOf(",");
    return end === -1 ? line : line.slice(0, end);
  }
  const quoted = /^"((?:[^"]|"")*)"(?:,|$)/.exec(line)?.[1];
  if (quoted === undefined)
    throw invalidLine(number, "quote-open", "its first column begins with a quote that does not end");
  return quoted.replaceAll('""', '"');
}

function checkMember(member: string, number: number): void {
  if (member === "") throw invalidLine(number, "member-empty", "a member is not empty");
  if (member.length > MAX_TEXT) {
    throw invalidLine(
      number,
      "member-too-long",
      `a member has at most ${MAX_TEXT} characters, this one ${member.length}`,
    );
  }
  if (member.includes("\0"))
    throw invalidLine(number, "nul", "a member has no NUL: the file may be UTF-16, which has one beside each letter");
  if (!member.isWellFormed()) throw invalidLine(number, "lone-surrogate", "half of a character: not valid Unicode");
}

function invalidLine(line: number, code: string, message: string): ApiError {
  const detail = `Line ${line}: ${message}. An upload that replaces has changed nobody; of another one the lines before it may have been taken, and sending them again changes nothing.`;
  return badRequest(detail, [{ pointer: `line:${line}`, code, message }]);
}
