/**
 * What must hold whatever fails, checked over what clients saw and what writers were answered. Each flag has one writer,
 * whose n-th write makes a rule that carries the number n: so a flag's version and that number move together, by one.
 */

/** A flag as a client evaluated it. `sequence` is its writer's number, 0 before the first; null while killed, when no rule is asked. */
export type Seen = { flag: string; version: number; sequence: number | null; killed: boolean };

/** `seen` are the flags that the change named, evaluated right after it. `patched`: it came as one published change. */
export type Change = { revision: number; previous: number | null; patched: boolean; seen: Seen[] };

export type Ended = { client: string; revision: number; flags: Seen[] };

export type Remembered = Seen & { revision: number };

/** Both in the order in which they were answered with 2xx. A write's revision is null where its delivery was still pending. */
export type Acknowledged = {
  writes: { flag: string; sequence: number; version: number; revision: number | null }[];
  kills: { flag: string; killed: boolean; revision: number }[];
};

/** More of the same says nothing new. */
const MAX_VIOLATIONS = 50;

/** One client, change by change: nothing skipped, nothing twice, nothing back. */
export class Watch {
  readonly client: string;
  readonly violations: string[] = [];
  revision: number;
  readonly #flags = new Map<string, Seen>();

  constructor({ client, revision, flags }: Ended) {
    this.client = client;
    this.revision = revision;
    for (const seen of flags) this.#flags.set(seen.flag, seen);
  }

  saw({ revision, previous, patched, seen }: Change): void {
    if (revision <= this.revision) this.#violated(`went from revision ${this.revision} to ${revision}`);
    if (previous !== this.revision) this.#violated(`had ${this.revision} and was given what follows ${previous}`);
    this.revision = revision;
    for (const now of seen) this.#flag(now, patched);
  }

  #flag(now: Seen, patched: boolean): void {
    const before = this.#flags.get(now.flag);
    this.#flags.set(now.flag, now);
    if (before === undefined) return;
    const step = now.version - before.version;
    const at = `revision ${this.revision}: ${now.flag} version ${now.version}`;
    if (step < 0) this.#violated(`${at} came after ${before.version}`);
    if (patched && step > 1) this.#violated(`${at} came after ${before.version}: a change was skipped`);
    if (step === 0 && now.killed === before.killed) this.#violated(`${at} was applied twice`);
  }

  #violated(message: string): void {
    if (this.violations.length < MAX_VIOLATIONS) this.violations.push(`${this.client}: ${message}`);
  }
}

/** What published changes said, the same to everybody: a second client may add nothing that contradicts the first. */
export class History {
  readonly violations: string[] = [];
  readonly #entries = new Map<string, Remembered>();

  add(entry: Remembered): void {
    const key = `${entry.revision} ${entry.flag}`;
    const known = this.#entries.get(key);
    if (known === undefined) this.#entries.set(key, entry);
    else if (known.version !== entry.version || known.sequence !== entry.sequence || known.killed !== entry.killed)
      this.violations.push(`revision ${entry.revision} said two things of ${entry.flag}`);
  }

  entries(): Remembered[] {
    return [...this.#entries.values()].sort((one, other) => one.revision - other.revision);
  }
}

/** `first` are the flags' versions before the first write. Called when everything is back and nothing is under way. */
export function judge(
  first: Record<string, number>,
  { writes, kills }: Acknowledged,
  history: readonly Remembered[],
  ended: readonly Ended[],
): string[] {
  const violations: string[] = [];
  const revisions = new Set(ended.map(({ revision }) => revision));
  if (revisions.size > 1) violations.push(`clients ended at different revisions: ${[...revisions].join(", ")}`);
  for (const [flag, version] of Object.entries(first)) {
    const ofFlag = <T extends { flag: string }>(all: readonly T[]) => all.filter((one) => one.flag === flag);
    const written = ofFlag(writes);
    const decided = ofFlag(kills);
    violations.push(
      ...numbered(version, written),
      ...passedOn(version, written, ofFlag(history)),
      ...killedBetween(decided, ofFlag(history)),
      ...arrived(flag, version + written.length, written.length, decided.at(-1)?.killed ?? false, ended),
    );
  }
  return violations.slice(0, MAX_VIOLATIONS);
}

/** The n-th write made the n-th version: none was lost in the database, none was made twice. */
function numbered(first: number, written: Acknowledged["writes"]): string[] {
  return written
    .filter(({ sequence, version }, index) => sequence !== index + 1 || version !== first + sequence)
    .map(({ flag, sequence, version }) => `${flag}: write ${sequence} was answered as version ${version}`);
}

/** Every version said what its write said, and whoever was sent a revision finds the write in all that came after. */
function passedOn(first: number, written: Acknowledged["writes"], seen: readonly Remembered[]): string[] {
  const wrong = seen
    .filter(({ sequence, version }) => sequence !== null && sequence !== version - first)
    .map(({ flag, version, sequence }) => `${flag}: version ${version} carried write ${sequence}`);
  let newest = first;
  let next = 0;
  const published = written.filter((write): write is typeof write & { revision: number } => write.revision !== null);
  const late = seen.filter(({ revision, version }) => {
    for (; next < published.length && published[next]!.revision < revision; next++)
      newest = Math.max(newest, published[next]!.version);
    return version < newest;
  });
  return [
    ...wrong,
    ...late.map(({ flag, version, revision }) => `${flag}: revision ${revision} still had version ${version}`),
  ];
}

/** From its revision to that of the next decision, a kill holds in everything that is said of the flag. */
function killedBetween(decided: Acknowledged["kills"], seen: readonly Remembered[]): string[] {
  return seen
    .filter(({ revision, killed }) => killed !== (decided.findLast((one) => one.revision <= revision)?.killed ?? false))
    .map(({ flag, revision, killed }) => `${flag}: at revision ${revision} it was ${killed ? "" : "not "}killed`);
}

function arrived(flag: string, version: number, sequence: number, killed: boolean, ended: readonly Ended[]): string[] {
  return ended.flatMap(({ client, flags }) => {
    const held = flags.find((seen) => seen.flag === flag);
    const right =
      held?.version === version &&
      held.killed === killed &&
      (killed ? held.sequence === null : held.sequence === sequence);
    const wanted = `version ${version}, write ${sequence}${killed ? ", killed" : ""}`;
    return right ? [] : [`${client}: ended without ${wanted} of ${flag}, with ${JSON.stringify(held ?? null)}`];
  });
}
