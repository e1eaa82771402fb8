import type { Ruleset } from "@bunting/core";
import type { AppliedMessage, MemberChange, PatchMessage } from "@bunting/core/wire";
import { areDocuments, type Fields, isObject, isRevision, parse, readMessage, windowMs } from "./messages.ts";
import type { Endpoint, Post, Protocol, Socket } from "./protocol.ts";

/** An environment's ruleset, with a server key: how it is requested and read. */

export type RulesetMessage = { type: "put"; revision: number; ruleset: Ruleset };
export type RulesetProtocol = Protocol<RulesetMessage, PatchMessage>;

export type OpenSocket = (url: string, headers: Record<string, string>) => Socket | Promise<Socket>;

export function rulesetProtocol(endpoint: Endpoint, openSocket?: OpenSocket): RulesetProtocol {
  const at = (path: string, name: string, revision: number | null) =>
    `${endpoint.url}/sdk/v1/${path}${revision === null ? "" : `?${name}=${revision}`}`;
  return {
    fetch: endpoint.fetch,
    poll: (atLeast) => ({
      url: at("ruleset", "revision", atLeast),
      headers: { ...endpoint.headers(), "Cache-Control": "max-age=0" },
    }),
    stream: (since) => ({ url: at("stream", "since", since), headers: { ...endpoint.headers() } }),
    socket: (since) => openSocket!(at("socket", "since", since).replace(/^http/, "ws"), endpoint.headers()),
    readWhole: readRuleset,
    readMessage: (text, eventName) => readMessage<RulesetMessage, PatchMessage>(text, eventName, readPatch),
    explain(status) {
      if (status === 401 || status === 403)
        return `the server refused the server key (${status}): it may be revoked, or belong to another deployment`;
      if (status === 404)
        return "no Bunting answers at this url (404): check url, and that the environment still exists";
      return undefined;
    },
  };
}

export const acknowledgement = (applied: number, waitedMs: number): string =>
  JSON.stringify({ applied, waitedMs } satisfies AppliedMessage);

export const postEvents =
  (endpoint: Endpoint): Post =>
  (body, signal) =>
    endpoint.fetch(`${endpoint.url}/sdk/v1/events`, {
      method: "POST",
      headers: { ...endpoint.headers(), "Content-Type": "application/json" },
      body,
      signal,
    });

function readPatch(body: Fields & { type: string; revision: number }): PatchMessage | undefined {
  const { type, revision, previous, publishedAt, ackWithinMs, flags = {}, segments = {}, members } = body;
  if (type !== "patch" || !isRevision(previous)) return undefined;
  if (!areDocuments(flags, true) || !areDocuments(segments, true) || !areMemberChanges(members)) return undefined;
  return {
    type,
    revision,
    previous,
    publishedAt: typeof publishedAt === "number" ? publishedAt : 0,
    ackWithinMs: windowMs(ackWithinMs),
    flags: flags as PatchMessage["flags"],
    segments: segments as PatchMessage["segments"],
    ...(members !== undefined && { members }),
  };
}

function areMemberChanges(value: unknown): value is Record<string, MemberChange> | undefined {
  if (value === undefined) return true;
  const areTexts = (list: unknown) => Array.isArray(list) && list.every((member) => typeof member === "string");
  return (
    areDocuments(value, false) &&
    Object.values(value as Record<string, Fields>).every(({ added, removed }) => areTexts(added) && areTexts(removed))
  );
}

/** A whole ruleset, or why it is none. A document inside it that is malformed is the evaluator's matter (EV-8). */
export function readRuleset(text: string): RulesetMessage | string {
  const body = parse(text);
  if (body === undefined) return "the ruleset was cut off or is not JSON";
  if (!isObject(body) || !isRevision(body.revision)) return "the answer is not a ruleset";
  const { schema, revision, flags = {}, segments = {} } = body;
  if (schema !== 1) return `the ruleset has schema ${String(schema)}: this SDK reads 1; update it`;
  if (!areDocuments(flags, false) || !areDocuments(segments, false))
    return "the ruleset's flags or segments are not objects";
  const events = isObject(body.events) ? body.events : {};
  const rate = events.exposureSampleRate;
  const ruleset: Ruleset = {
    schema: 1,
    environment: String(body.environment ?? ""),
    revision,
    events: {
      exposureSampleRate: typeof rate === "number" && rate >= 0 && rate <= 1 ? rate : 1,
      summarySeconds: typeof events.summarySeconds === "number" ? events.summarySeconds : 30,
    },
    flags: flags as Ruleset["flags"],
    segments: segments as Ruleset["segments"],
  };
  return { type: "put", revision, ruleset };
}
