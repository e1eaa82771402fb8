/** A write as it is asked for: by a request, or by the change request that carries it. Its plan knows no difference. */
import type { Env } from "../../env.ts";
import type { Database } from "../../store/database.ts";
import type { Scope } from "../../store/schema/index.ts";
import type { AdminContext } from "../http/context.ts";
import type { Origin } from "./plan.ts";
import { etagMismatch, isMatch, origin } from "./write.ts";

export type Asked<Path = unknown, Body = unknown, Query = unknown> = {
  env: Env;
  db: Database;
  /** Of whoever asks. */
  scope: Scope;
  by: Pick<Origin, "actor" | "tokenId">;
  /** What carries it: for what goes on by itself, with the approvals that it was begun with. */
  changeRequest?: string;
  path: Path;
  body: Body;
  query: Query;
  /** Whether an ETag is the one that it was asked of, as If-Match sends it. */
  matches: (etag: string) => boolean;
};

/** Who asks, and where everything is. */
export type Asking = Pick<Asked, "env" | "db" | "scope" | "by" | "changeRequest">;

export const askedOf = <Path, Body = unknown, Query = unknown>(
  c: AdminContext,
  path: Path,
  body: Body,
  query?: Query,
): Asked<Path, Body, Query> => ({
  env: c.env,
  db: c.var.db,
  scope: c.var.caller.scope,
  by: origin(c),
  path,
  body,
  query: query as Query,
  matches: (etag) => isMatch(c.req.header("if-match"), etag),
});

export function requireAsked({ matches }: Asked, etag: string): void {
  if (!matches(etag)) throw etagMismatch(etag);
}
