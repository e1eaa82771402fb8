/** All that was planned and whose time has come. Whoever calls it, and however many at once: each is done once. */

import type { Env } from "../env.ts";
import { errorText } from "../platform/error-text.ts";
import { dueChangeRequests, nextChangeRequest } from "../store/approvals/change-requests.ts";
import { openDatabase } from "../store/database.ts";
import { dueRamps, nextRamp } from "../store/planned/ramps.ts";
import { dueSchedules, nextSchedule } from "../store/planned/schedules.ts";
import { runChangeRequest } from "./approvals/change-requests/scheduled-publication.ts";
import { runRamp } from "./planned/ramps/run.ts";
import { runSchedule } from "./planned/schedules/run.ts";

/** Of each kind, and each some ten subrequests; the others follow at once. */
const AT_ONCE = 100;

/**
 * Late rather than lost: after an outage all that is due is done, in the order of its times within each environment. What has to
 * wait, because something is down, holds up what comes after it there, for a minute. Answers when to be called next, null for
 * nothing to wait for.
 */
export async function runDue(env: Env, now: () => number): Promise<number | null> {
  const db = openDatabase(env.DB);
  const at = now();
  const [requests, schedules, ramps] = await Promise.all([
    dueChangeRequests(db, at, AT_ONCE),
    dueSchedules(db, at, AT_ONCE),
    dueRamps(db, at, AT_ONCE),
  ]);
  const due = [
    ...requests.map((one) => ({ ...one, run: runChangeRequest })),
    ...schedules.map((one) => ({ ...one, run: runSchedule })),
    ...ramps.map((one) => ({ ...one, run: runRamp })),
  ].sort((one, other) => one.due - other.due);
  const lines = [...Map.groupBy(due, ({ environmentId }) => environmentId).values()];
  const done = await Promise.all(
    lines.map(async (line) => {
      for (const { id, run } of line) {
        if (!(await run(env, now, id).catch((error: unknown) => failed(id, error)))) return false;
      }
      return true;
    }),
  );
  if (due.length > 0) console.log(JSON.stringify({ level: "info", due: due.length, waiting: done.includes(false) }));
  const isMore = [requests, schedules, ramps].some(({ length }) => length === AT_ONCE);
  if (isMore && !done.includes(false)) return now();
  const next = await Promise.all([nextChangeRequest(db, at), nextSchedule(db, at), nextRamp(db, at)]);
  return next.reduce((one, other) => (one === null || (other !== null && other < one) ? other : one));
}

function failed(id: string, error: unknown): false {
  console.warn(JSON.stringify({ level: "warn", message: "not done", planned: id, error: errorText(error) }));
  return false;
}
