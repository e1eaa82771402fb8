/** How a Worker introduces a client's socket to a relay, and with which codes a relay closes it. */

/** At most 16 KB. `applied` is what the client has acknowledged. */
export type Attachment = {
  /** Of the SDK key that it came with. */
  keyHash: string;
  transport: "socket" | "sse";
  instance: string;
  name: string;
  sdk: string;
  connectedAt: number;
  /** Where the relay was then: whatever came after it, this socket was sent. */
  connectedWith: number;
  applied: number;
};

/** What the Worker tells of a socket: also the revision at which it found the key good, for it may be a second behind. */
export type Introduction = Omit<Attachment, "connectedAt" | "connectedWith" | "applied"> & { keyValidAt: number };

/** How the Worker introduces a socket, in the header of that name. */
export const ATTACHMENT_HEADER = "x-bunting-attachment";

/** How a relay that is full tells how many its region has. */
export const RELAYS_HEADER = "x-bunting-relays";

/** Close codes of ours, beside the standard ones. */
export const KEY_REVOKED = 4401;
export const SILENT = 4408;
export const TOO_SLOW = 4413;
export const TOO_MUCH = 4429;
