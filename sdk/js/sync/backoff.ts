/** How long to wait before the next attempt. */

export const BACKOFF_MIN_MS = 1_000;
export const BACKOFF_MAX_MS = 60_000;
/** Most first failures are a dropped connection: one quick attempt before any back-off. */
export const FIRST_RETRY_MS = 250;

export const backoffCap = (failures: number): number => Math.min(BACKOFF_MAX_MS, BACKOFF_MIN_MS * 2 ** (failures - 1));

/** Full jitter: anywhere below a cap that doubles from 1 s to 60 s. */
export const backoffMs = (failures: number, random: () => number): number => random() * backoffCap(failures);
