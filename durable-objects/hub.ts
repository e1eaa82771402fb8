import { DurableObject } from "cloudflare:workers";
import type { Change } from "../workers/store/changes.ts";
import type { Env } from "../workers/env.ts";

/** What an edit or a kill became: `revision` is what every client will report as applied. */
export type Published = { revision: number; version: number };

/** Who asked, for the audit entry that the hub mirrors to D1. */
export type Origin = {
  actor: string;
  tokenId: string | null;
  project: string;
  environment: string;
  sourceIp: string | null;
  userAgent: string | null;
  correlationId: string;
};

export type KillRequest = {
  action: "kill" | "restore";
  flag: string;
  reason: string;
  idempotencyKey: string | null;
  origin: Origin;
};

export type KillState = { by: string; at: number; reason: string; seq: number };

/** `changed` is false where the flag already was as asked. `mirrored`: D1 has the row and the audit entry. */
export type KillOutcome =
  | { outcome: "done"; revision: number; changed: boolean; killed: KillState | null; mirrored: boolean }
  | { outcome: "unknown-flag" };

/** How many live clients have a revision. Counts sockets that were open when it was delivered. */
export type Receipt = {
  revision: number;
  publishedAt: number;
  connected: number;
  applied: number;
  delivered: number;
  gone: number;
  silent: number;
};

export class Hub extends DurableObject<Env> {
  async create(_environmentId: string): Promise<Published> {
    throw new Error("in progress");
  }
  async publish(_change: Change): Promise<Published> {
    throw new Error("in progress");
  }
  async setKilled(_request: KillRequest): Promise<KillOutcome> {
    throw new Error("in progress");
  }
  async receipt(_revision: number): Promise<Receipt | null> {
    throw new Error("in progress");
  }
}
