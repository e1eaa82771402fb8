/** Idempotency-Key: the first answer is committed with its write, and given again to whoever repeats the request. */

import { D1_MS, within } from "../../platform/deadline.ts";
import { ApiError, badRequest } from "../../platform/problem.ts";
import { sha256 } from "../../platform/sha256.ts";
import { completeAnswer, findAnswer } from "../../store/idempotency.ts";
import type { IdempotencyRecord } from "../../store/outbox/change.ts";
import type { AdminContext, Idempotency } from "./context.ts";

export const REPLAYED = "idempotency-replayed";

type Repeatable = { isWrite: boolean; withoutDatabase?: boolean; upload?: object };

/** `answer` makes the request's first answer. An upload keeps none; the hub itself remembers a kill's key. */
export async function answerOnce(
  c: AdminContext,
  { isWrite, withoutDatabase, upload }: Repeatable,
  text: string,
  answer: () => Promise<Response>,
): Promise<Response> {
  const key = idempotencyKey(c);
  if (key === null || !isWrite || c.var.dryRun || withoutDatabase === true || upload !== undefined) return answer();
  const tokenId = c.var.caller.id;
  const requestHash = await sha256(`${c.req.method} ${c.req.path} ${queryOf(c)}\n${text}`);
  const idempotency: Idempotency = { tokenId, key, requestHash, incomplete: false };
  c.set("idempotency", idempotency);
  const earlier = await within(findAnswer(c.var.db, tokenId, key), D1_MS, "reading");
  if (earlier !== undefined) return replay(earlier, idempotency);
  const answered = await answer();
  if (idempotency.incomplete)
    await completeAnswer(c.var.db, tokenId, key, await answered.clone().text()).catch(() => {});
  return answered;
}

/** `wait` changes when it is answered, and not what is done. */
function queryOf(c: AdminContext): string {
  const parameters = new URL(c.req.url).searchParams;
  parameters.delete("wait");
  parameters.sort();
  return parameters.toString();
}

export function idempotencyKey(c: AdminContext): string | null {
  const key = c.req.header("idempotency-key") ?? null;
  if (key !== null && !/^[\x21-\x7e]{1,255}$/.test(key)) {
    throw badRequest("An Idempotency-Key is 1 to 255 visible ASCII characters.");
  }
  return key;
}

export const keyReused = () =>
  new ApiError(422, "idempotency-key-reused", "This Idempotency-Key was used for another request.");

/** Two requests with one key at once: this one was second, and nothing of it was written. */
export async function answeredMeanwhile(c: AdminContext): Promise<Response> {
  const { idempotency } = c.var;
  const earlier = idempotency && (await findAnswer(c.var.db, idempotency.tokenId, idempotency.key));
  if (idempotency === undefined || earlier === undefined) throw new Error("AlreadyAnswered, and no answer is there");
  return replay(earlier, idempotency);
}

function replay(earlier: IdempotencyRecord, { requestHash }: Idempotency): Response {
  if (earlier.requestHash !== requestHash) {
    throw keyReused();
  }
  const headers = { ...earlier.headers, "content-type": "application/json", [REPLAYED]: "true" };
  return earlier.status === 204
    ? new Response(null, { status: 204, headers: { [REPLAYED]: "true" } })
    : new Response(earlier.body, { status: earlier.status, headers });
}
