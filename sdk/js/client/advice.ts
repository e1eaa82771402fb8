import type { ErrorCode } from "@bunting/core";

/** What a developer can do about a decision that is an error: a whole sentence, for logs and OpenFeature's error messages. */
export function adviceOn(error: ErrorCode, key: string, type: string): string {
  switch (error) {
    case "FLAG_NOT_FOUND":
      return `flag "${key}" does not exist in this environment: create it, or check its spelling`;
    case "MALFORMED_FLAG":
      return `flag "${key}" is malformed: save it again in Bunting, which reports what is wrong`;
    case "TYPE_MISMATCH":
      return `flag "${key}" has no ${type} value: ask for the type that it has`;
    case "TARGETING_KEY_MISSING":
      return `flag "${key}" is split by a key that the context does not have: pass a targetingKey in the evaluation context`;
  }
}

/** What a client reports of itself. */
export type Trouble = "REFUSED" | "UNREACHABLE" | "INVALID_RESPONSE" | "EVENTS";

/** Log messages: what is wrong, its effect and what to do. The reason alone says neither effect nor remedy. */
export const adviceOnTrouble: Record<Trouble, (reason: string) => string> = {
  REFUSED: (reason) => `${reason}; give this process a valid key`,
  UNREACHABLE: (reason) =>
    `the server cannot be reached (${reason}); flags stay as they were and it is tried again: check url and the network`,
  INVALID_RESPONSE: (reason) => `${reason}; flags stay as they were: check that url is a Bunting Worker`,
  EVENTS: (reason) => reason,
};
