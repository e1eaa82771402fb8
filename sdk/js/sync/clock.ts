/** Time as the SDK sees it: a port, so that tests own it. */
export type Clock = {
  /** Epoch milliseconds: for what is shown and sent. */
  now(): number;
  /** Monotonic milliseconds: for durations, since a wall clock jumps. */
  elapsed(): number;
  /** Runs `fire` once after `ms`; the answer cancels it. Never keeps a process alive. */
  timer(ms: number, fire: () => void): () => void;
};

export const systemClock: Clock = {
  now: () => Date.now(),
  elapsed: () => performance.now(),
  timer(ms, fire) {
    const handle: unknown = setTimeout(fire, ms);
    // Node and Bun hand out an object; Workers, Deno and browsers a number, which holds nothing that outlives a page or request.
    if (typeof handle === "object" && handle !== null && "unref" in handle) (handle as { unref(): void }).unref();
    return () => clearTimeout(handle as number);
  },
};

export const pause = (clock: Clock, ms: number): Promise<void> =>
  new Promise((resolve) => {
    clock.timer(ms, resolve);
  });
