/** The caller and request behind a Durable Object's decision, for the audit entry that it writes to D1. */
export type RequestOrigin = {
  actor: string;
  tokenId: string | null;
  project: string;
  environment: string;
  sourceIp: string | null;
  userAgent: string | null;
  correlationId: string;
};
