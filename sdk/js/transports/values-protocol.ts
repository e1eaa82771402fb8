import type { EvaluatedFlag, PutMessage, ValuesMessage } from "@bunting/core/wire";
import { areDocuments, isObject, isRevision, parse, readMessage } from "./messages.ts";
import type { Fetch, Protocol, Socket } from "./protocol.ts";

/** The values of one context, with a client key: how they are requested and read. */

export type Values = Record<string, EvaluatedFlag>;
export type ValuesProtocol = Protocol<PutMessage, ValuesMessage> & { eventsUrl: string };

/** `context` answers the body, which is the first message of a socket too. The context itself never stands in a URL. */
export function valuesProtocol(
  url: string,
  clientKey: string,
  client: string,
  fetch: Fetch,
  context: () => string,
): ValuesProtocol {
  const at = (path: string, name = "", value: number | null = null) =>
    `${url}/client/v1/${path}?key=${encodeURIComponent(clientKey)}&client=${encodeURIComponent(client)}` +
    (value === null ? "" : `&${name}=${value}`);
  // As text/plain, which is what a string is: a page on another origin then needs no preflight.
  const post = (path: string, name: string, value: number | null) => ({
    url: at(path, name, value),
    method: "POST",
    headers: {},
    body: context(),
  });
  return {
    fetch,
    eventsUrl: at("events"),
    poll: (atLeast) => post("flags", "revision", atLeast),
    stream: (since) => post("stream", "since", since),
    socket: (since) => new WebSocket(at("socket", "since", since).replace("http", "ws")) as unknown as Socket,
    greeting: context,
    readWhole: (text) => readValues(parse(text)) ?? "the answer could not be read",
    readMessage: (text, eventName) =>
      readMessage<PutMessage, ValuesMessage>(text, eventName, (body) =>
        body.type === "put" ? readValues(body) : readPatch(body),
      ),
  };
}

/** Whether this flag has a value of the type that the default has; an object's takes any. */
export const isServed = (flag: EvaluatedFlag | undefined, type: string): flag is EvaluatedFlag =>
  flag !== undefined && flag.variation !== null && (type === "object" || typeof flag.value === type);

export function readValues(body: unknown): PutMessage | undefined {
  if (!isObject(body)) return undefined;
  const { revision, flags } = body;
  return isRevision(revision) && areDocuments(flags, false)
    ? { type: "put", revision, flags: flags as Values }
    : undefined;
}

const readPatch = (body: object & { previous?: unknown; flags?: unknown }): ValuesMessage | undefined =>
  isRevision(body.previous) && areDocuments(body.flags, true) ? (body as ValuesMessage) : undefined;
