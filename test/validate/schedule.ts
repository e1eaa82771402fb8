/** What is asked for when, decided purely. Open loop: what is due does not wait for what is slow. */

/** How often each kind of request comes, as whole numbers that are relative to each other. */
export type Mix<Kind extends string> = Record<Kind, number>;

/** One round of the mix, each kind spread as evenly as it goes: the same order every time. */
export function interleave<Kind extends string>(mix: Mix<Kind>): Kind[] {
  const kinds = (Object.keys(mix) as Kind[]).filter((kind) => mix[kind] > 0);
  const credit = new Map(kinds.map((kind) => [kind, 0]));
  const total = kinds.reduce((sum, kind) => sum + mix[kind], 0);
  return Array.from({ length: total }, () => {
    for (const kind of kinds) credit.set(kind, credit.get(kind)! + mix[kind]);
    const next = kinds.reduce((best, kind) => (credit.get(kind)! > credit.get(best)! ? kind : best));
    credit.set(next, credit.get(next)! - total);
    return next;
  });
}

/** Requests numbered from 0 that are due `elapsedMs` after the start. */
export const dueBy = (perSecond: number, elapsedMs: number): number => Math.floor((perSecond * elapsedMs) / 1_000) + 1;

/** When the request of a number is due, in milliseconds after the start. */
export const dueAt = (perSecond: number, number: number): number => (number * 1_000) / perSecond;

export type Step = { offered: number; answered: number; failed: number; shed: number };

/** A step that the machine keeps up with: nearly all that was offered was answered, and hardly any of it with an error. */
export const isSustained = ({ offered, answered, failed, shed }: Step): boolean =>
  answered >= offered * 0.97 && failed + shed <= offered * 0.01;
