/** Where a request to a Durable Object came from. */

/** Who asked, for the audit entry that goes to D1. */
export type Origin = {
  actor: string;
  tokenId: string | null;
  project: string;
  environment: string;
  sourceIp: string | null;
  userAgent: string | null;
  correlationId: string;
};
