/** What brings messages to a client, whichever way they travel: a port, which `transports/` has implementations of. */
import type { End, Incoming, Patch, Put } from "./state.ts";

/** `since`: the revision held; `atLeast`: one that is known to exist. */
export type Resume = { since: number | null; atLeast: number | null };

export type Sink<P extends Put = Put, D extends Patch = Patch> = {
  message(message: Incoming<P, D>): void;
  closed(end: End): void;
};

/**
 * One connection at a time. `closed` comes exactly once after `open`, and last; after `close()` nothing comes at all.
 * A poll is a stream of one message.
 */
export interface Transport<P extends Put = Put, D extends Patch = Patch> {
  open(resume: Resume, sink: Sink<P, D>): void;
  send?(text: string): void;
  close(): void;
}
