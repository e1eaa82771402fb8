/** Change requests whose time has come. Late rather than never, and never twice: they are published like by hand. */
import type { Env } from "../env.ts";
import { ApiError } from "../problem.ts";
import { dueChangeRequests, findChangeRequest } from "../store/change-requests.ts";
import { openDatabase } from "../store/database.ts";
import { planPublication, planStep } from "./change-request.ts";
import { requireAuthor } from "./planned.ts";
import { type Author, writeAs } from "./write.ts";

/** The rest are still due a minute later. */
const AT_ONCE = 50;

/** What cannot be published, for want of approvals or for conflicts, fails visibly; what cannot be reached waits a minute. */
export async function publishDue(env: Env, now: () => number): Promise<void> {
  const db = openDatabase(env.DB);
  for (const id of await dueChangeRequests(db, now(), AT_ONCE)) {
    const due = await findChangeRequest(db, id);
    if (due === null) continue;
    const actor = { id: due.row.authorId, name: due.row.author };
    const origin = { actor: actor.name, tokenId: actor.id, sourceIp: null, userAgent: null, correlationId: id };
    const author: Author = { env, db, now, origin };
    const reason = `At its time: ${due.row.title}`;
    const isDue = ({ row }: typeof due) => row.status === "open" && row.publishAt !== null && row.publishAt <= now();
    const there = async () => {
      const found = await findChangeRequest(db, id);
      // Somebody has done something else with it meanwhile.
      return found !== null && isDue(found) ? found : null;
    };
    const nothing = { status: 200 as const, body: null };
    try {
      await writeAs<unknown>(
        author,
        async (at) => {
          const found = await there();
          if (found === null) return nothing;
          await requireAuthor(db, found.row.authorId, found.environment);
          return planPublication(db, found, actor, at);
        },
        reason,
      );
    } catch (error) {
      if (!(error instanceof ApiError) || error.status >= 500) {
        console.error(
          JSON.stringify({ level: "error", message: "not published yet", changeRequest: id, error: String(error) }),
        );
        continue;
      }
      const { code, message: detail } = error;
      const failed = writeAs<unknown>(author, async (at) => {
        const found = await there();
        const fields = { failure: { at, code, detail } };
        return found === null ? nothing : planStep(db, found, actor, { kind: "fail", comment: detail, fields }, at);
      });
      await failed.catch((cause: unknown) => {
        console.error(
          JSON.stringify({ level: "error", message: "not failed yet", changeRequest: id, error: String(cause) }),
        );
      });
    }
  }
}
