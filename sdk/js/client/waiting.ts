/** Callers that wait for values, each until its time is up. */

export type Waiting = Set<(came: boolean) => void>;

export function resolveAll(waiting: Iterable<(came: boolean) => void>, came: boolean): void {
  for (const resolve of waiting) resolve(came);
}

/** Resolves to what `resolveAll` passes, or to false when the time is up first. */
export const within = (timeoutMs: number, waiting: Waiting) =>
  new Promise<boolean>((resolve) => {
    const end = (came: boolean) => {
      clearTimeout(timer);
      waiting.delete(end);
      resolve(came);
    };
    const timer = setTimeout(end, Math.min(timeoutMs, 2 ** 31 - 1), false);
    waiting.add(end);
  });
