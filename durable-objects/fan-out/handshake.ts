/** What a Worker sends with a client's socket to a relay, and the codes with which a relay closes it. */

/**
 * What a socket carries through hibernation, at most 16 KB. `applied` is the revision that the client has acknowledged.
 */
export type Attachment = {
  /** The hash of its SDK key. */
  keyHash: string;
  transport: "socket" | "sse";
  instance: string;
  name: string;
  sdk: string;
  connectedAt: number;
  /** The relay's revision when the socket connected: it was sent every later one. */
  connectedWith: number;
  applied: number;
};

/** `keyValidAt` is the revision at which the Worker found the key valid: its ruleset may be a second behind. */
export type SocketHandshake = Omit<Attachment, "connectedAt" | "connectedWith" | "applied"> & { keyValidAt: number };

/** The header that holds the `SocketHandshake`. */
export const ATTACHMENT_HEADER = "x-bunting-attachment";

/** The header with which a full relay says how many relays its region has. */
export const RELAYS_HEADER = "x-bunting-relays";

/** Bunting's close codes, from the range for private use. */
export const KEY_REVOKED = 4401;
export const SILENT = 4408;
export const TOO_SLOW = 4413;
export const TOO_MUCH = 4429;
