/** A write's place in the lines of its project's environments, kept by one WriteLine object for each project. */
import type { Env } from "../../env.ts";
import { Circuit, LINE_ENTER_MS, LINE_TURN_MS, WRITE_LINE_BREAKING, within } from "../../platform/deadline.ts";
import { type ApiError, tooMany } from "../../platform/problem.ts";

/** Keys. `environment` is null for what belongs to the project as a whole. */
export type WritePlace = { project: string; environment: string | null };

/** Of this isolate, around all of them: they live and die together. */
const lines = new Circuit("the write line", WRITE_LINE_BREAKING);
/** How often a write enters the line again whose place was lost with the object. */
const MAX_LOST = 3;
const LOST_PAUSE_MS = 500;

/**
 * Runs `work` when its turn has come. Without an answer from the line it runs at once: of two writes that then meet, the outbox's
 * key lets one land, and the other is validated again.
 * @throws ApiError 429 where the line is too long, or does not move
 */
export async function inTurn<T>(
  env: Pick<Env, "WRITE_LINE">,
  place: WritePlace | null,
  work: () => Promise<T>,
): Promise<T> {
  if (place === null) return work();
  using _turn = await takeTurn(env, place);
  return await work();
}

async function takeTurn(env: Pick<Env, "WRITE_LINE">, place: WritePlace): Promise<Disposable | null> {
  const environments = place.environment === null ? null : [place.environment];
  for (let lost = 0; lost < MAX_LOST; lost++) {
    const entered = await enterLine(env, place.project, environments);
    if (entered === null || entered.isTurn) return entered;
    if (entered.place === null) throw lineTooLong(place, entered.ahead, entered.waitMs);
    try {
      if (await hasTurn(entered.place.turn())) return entered;
    } catch {
      // The object was lost, and its line with it. The pause is random so that those who waited do not return in step.
      await new Promise((resolve) => setTimeout(resolve, Math.random() * LOST_PAUSE_MS));
      continue;
    }
    entered[Symbol.dispose]();
    throw lineTooLong(place, entered.ahead, LINE_TURN_MS);
  }
  return null;
}

/** Null where the line does not answer. A place that it gives too late is left again. */
async function enterLine({ WRITE_LINE }: Pick<Env, "WRITE_LINE">, project: string, environments: string[] | null) {
  const line = WRITE_LINE.get(WRITE_LINE.idFromName(project));
  let isLate = false;
  try {
    return await lines.through(() => {
      const entering = line.enter(environments);
      void entering.then(
        (entered) => isLate && entered[Symbol.dispose](),
        () => {},
      );
      return within(entering, LINE_ENTER_MS, "the write line");
    });
  } catch (error) {
    isLate = true;
    console.warn(
      JSON.stringify({ level: "warn", message: "the write line does not answer", project, error: String(error) }),
    );
    return null;
  }
}

/** False where the line does not move. */
async function hasTurn(turn: Promise<void>): Promise<boolean> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const tooLate = new Promise<false>((resolve) => {
    timer = setTimeout(resolve, LINE_TURN_MS, false);
  });
  try {
    return await Promise.race([turn.then(() => true), tooLate]);
  } finally {
    clearTimeout(timer);
  }
}

function lineTooLong({ project, environment }: WritePlace, ahead: number, waitMs: number): ApiError {
  const retryAfter = Math.max(1, Math.ceil(waitMs / 1_000));
  const where = environment === null ? project : `${project}/${environment}`;
  return tooMany(
    retryAfter,
    `${ahead} writes to ${where} are waiting. Nothing was changed. Repeat the request in ${retryAfter} s.`,
    { waiting: ahead },
  );
}
