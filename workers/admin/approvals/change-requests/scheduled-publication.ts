/** A change request whose time has come: published like by hand, by its author, or it says why not. */

import type { Env } from "../../../env.ts";
import { errorText } from "../../../platform/error-text.ts";
import {
  type ChangeRequestThere,
  countPublishAttempt,
  findChangeRequest,
} from "../../../store/approvals/change-requests.ts";
import { openDatabase } from "../../../store/database.ts";
import { failureOf } from "../../planned/planned.ts";
import type { Plan } from "../../write/plan.ts";
import { type Author, writeAs } from "../../write/write.ts";
import { planPublication, planStep } from "./plan.ts";

/** Once, whoever calls it and however often. False where it has to be tried again, because something is down. */
export async function runChangeRequest(env: Env, now: () => number, id: string): Promise<boolean> {
  const db = openDatabase(env.DB);
  const due = await findDue(db, id, now());
  if (due === null) return true;
  const { authorId, author: name, title, publishAt, attempts } = due.row;
  const actor = { id: authorId, name };
  const place = { project: due.project.key, environment: due.environment?.environment ?? null };
  const origin = { actor: name, tokenId: authorId, sourceIp: null, userAgent: null, correlationId: id };
  const author: Author = { env, db, now, origin, place };
  // Somebody may have done something else with it meanwhile.
  const planned = (plan: (there: ChangeRequestThere, at: number) => Promise<Plan<unknown>>) => async (at: number) => {
    const there = await findDue(db, id, at);
    return there === null ? NOTHING : plan(there, at);
  };
  try {
    const publishing = planned((there, at) => planPublication({ env, db }, there, actor, at));
    await writeAs(author, publishing, `At its time: ${title}`);
    return true;
  } catch (error) {
    const failure = failureOf(error, { actor: name, tokenId: authorId, attempts }, now() - publishAt!);
    const message = failure === null ? "a change request has to wait" : "a change request failed";
    console.warn(JSON.stringify({ level: "warn", message, changeRequest: id, failure, error: errorText(error) }));
    if (failure === null) {
      await countPublishAttempt(db, id);
      return false;
    }
    const { code, detail } = failure;
    const failing = planned((there, at) => {
      const fields = { failure: { at, code, detail } };
      return planStep({ env, db }, there, actor, { kind: "fail", comment: detail, fields }, at);
    });
    await writeAs(author, failing);
    return true;
  }
}

async function findDue(db: ReturnType<typeof openDatabase>, id: string, now: number) {
  const there = await findChangeRequest(db, id);
  const { status, publishAt } = there?.row ?? {};
  return status === "open" && typeof publishAt === "number" && publishAt <= now ? there : null;
}

const NOTHING = { status: 200, body: null } as const;
