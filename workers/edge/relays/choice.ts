/** Which of its region's relays a client is sent to. Pure. */

/** Two different relays to try. Where the region has only one, the second is beyond its count. */
export function chooseTwo(count: number, random: () => number): [number, number] {
  const first = Math.floor(random() * count);
  if (count === 1) return [0, 1];
  return [first, (first + 1 + Math.floor(random() * (count - 1))) % count];
}

/**
 * A further relay to try after full ones: preferably one that was added since the count was `known`, which is empty,
 * else any of the `current` ones that was not tried. Null: there is none.
 */
export function chooseAnother(known: number, current: number, tried: number[], random: () => number): number | null {
  const from = Math.max(known, ...tried.map((n) => n + 1));
  if (from < current) return from + Math.floor(random() * (current - from));
  const left = Array.from({ length: current }, (_, n) => n).filter((n) => !tried.includes(n));
  return left[Math.floor(random() * left.length)] ?? null;
}
