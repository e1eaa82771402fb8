/** A write as it is requested: by whoever sends it, or by the change request that carries it. Its plan sees no difference. */
import type { Env } from "../../env.ts";
import type { Database } from "../../store/database.ts";
import type { Role, Scope } from "../../store/schema/index.ts";
import type { AdminContext } from "../http/context.ts";
import { isMatch } from "../http/if-match.ts";
import type { Origin } from "./plan.ts";
import { origin } from "./write.ts";

export type Requested<Path = unknown, Body = unknown, Query = unknown> = {
  env: Env;
  db: Database;
  /** Of the token that requests it. */
  scope: Scope;
  by: Pick<Origin, "actor" | "tokenId">;
  /** Of that token, as it is now. Left out where nobody requests it any more. */
  role?: Role;
  /** What carries it: for what goes on by itself, with the approvals that it was begun with. */
  changeRequest?: string;
  /** Why, for the audit log. */
  reason?: string | undefined;
  path: Path;
  body: Body;
  query: Query;
  /** Whether an ETag is the one that If-Match names. Without the header any is. */
  matches: (etag: string) => boolean;
};

/** Who requests something, and where everything is. */
export type Requester = Pick<Requested, "env" | "db" | "scope" | "by" | "changeRequest">;

export const requestOf = (c: AdminContext, path: unknown, body: unknown, query: unknown): Requested => ({
  env: c.env,
  db: c.var.db,
  scope: c.var.caller.scope,
  by: origin(c),
  role: c.var.caller.role,
  reason: c.var.reason,
  path,
  body,
  query,
  matches: (etag) => isMatch(c.req.header("if-match"), etag),
});
