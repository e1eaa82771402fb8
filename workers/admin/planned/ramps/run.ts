/** A ramp's clock: the step that is due, once; or what stopped it, recorded. */
import type { Env } from "../../../env.ts";
import { countRampAttempt, findRamp } from "../../../store/planned/ramps.ts";
import { writeAs } from "../../write/write.ts";
import { failureOf, NOBODY, plannedBy, requireAuthor } from "../planned.ts";
import type { RampEvent } from "./state.ts";
import { planRamp } from "./write.ts";

/** False where it has to be tried again, because something is down. */
export async function runRamp(env: Env, now: () => number, id: string): Promise<boolean> {
  const { db } = plannedBy(env, now, NOBODY);
  const found = await findRamp(db, id);
  if (found === undefined) return true;
  const author = plannedBy(env, now, found.row, found.environment);
  const happens = (eventAt: (at: number) => RampEvent) =>
    writeAs(
      author,
      async (at) => {
        const ramp = await findRamp(db, id);
        if (ramp === undefined) return { status: 200, body: null };
        const event = eventAt(at);
        if (event.kind === "tick") await requireAuthor(db, ramp.row.tokenId, ramp.environment, at);
        return planRamp(author, ramp, event, at);
      },
      found.row.reason ?? undefined,
    );
  try {
    await happens(() => ({ kind: "tick" }));
    return true;
  } catch (error) {
    const failure = failureOf(error, found.row, now() - (found.row.nextAt ?? now()));
    const message = failure === null ? "a ramp has to wait" : "a ramp cannot go on";
    console.warn(JSON.stringify({ level: "warn", message, ramp: id, failure, error: String(error) }));
    if (failure === null) {
      await countRampAttempt(db, id);
      return false;
    }
    await happens((at) => ({ kind: "hold", pause: { ...failure, by: null, at } }));
    return true;
  }
}
