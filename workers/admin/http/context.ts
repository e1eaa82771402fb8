/** What a request of the management plane carries on its way through middleware to its handler. */

import type { Context } from "hono";
import type { Env } from "../../env.ts";
import type { Database } from "../../store/database.ts";
import type { Role, Scope } from "../../store/schema/index.ts";

export type Caller = { id: string; name: string; role: Role; scope: Scope; groups: string[]; bootstrap: boolean };

export type Idempotency = {
  tokenId: string;
  key: string;
  requestHash: string;
  /** Committed as known then: what the hub or a receipt adds is written in afterwards. */
  incomplete: boolean;
};

export type AdminEnv = {
  Bindings: Env;
  Variables: {
    correlationId: string;
    now: () => number;
    db: Database;
    caller: Caller;
    dryRun: boolean;
    /** Why, for the audit log: of the body or of the header `X-Bunting-Reason`. */
    reason?: string | undefined;
    idempotency?: Idempotency;
  };
};

export type AdminContext = Context<AdminEnv>;
