import type { KillRequest } from "../../durable-objects/hub/kills/kill.ts";

/** A request as the admin API sends it to a hub. */
export const killRequest = (
  flag: string,
  action: KillRequest["action"],
  idempotencyKey: string | null = null,
): KillRequest => ({
  action,
  flag,
  reason: "test",
  idempotencyKey,
  origin: {
    actor: "tester",
    tokenId: "tok_1",
    project: "p",
    environment: "e",
    sourceIp: null,
    userAgent: null,
    correlationId: "c",
  },
});
