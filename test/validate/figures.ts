/** Figures of a run, and how they are printed. */

/** The value below which the share `q` of all lies (nearest rank); null where there are none. */
export function percentile(values: readonly number[], q: number): number | null {
  if (values.length === 0) return null;
  const sorted = [...values].sort((one, other) => one - other);
  return sorted[Math.max(0, Math.ceil(q * sorted.length) - 1)]!;
}

/** Requests of one kind in one phase. `failed` has what was not answered, or with an error, by status (0: no answer). */
export class Totals {
  readonly latenciesMs: number[] = [];
  readonly failed: Record<string, number> = {};
  ok = 0;
  /** Due when all senders of the kind were waiting for answers: never sent. */
  shed = 0;

  note(status: number, latencyMs: number): void {
    if (status >= 200 && status < 400) {
      this.ok += 1;
      this.latenciesMs.push(latencyMs);
    } else this.failed[status] = (this.failed[status] ?? 0) + 1;
  }

  get failures(): number {
    return Object.values(this.failed).reduce((sum, count) => sum + count, 0);
  }
}

/** A line of the table. Latencies in milliseconds, of what succeeded; the error rate is that of what was sent. */
export type Row = {
  phase: string;
  what: string;
  perSecond: number;
  p50: number | null;
  p95: number | null;
  p99: number | null;
  errorRate: number;
  note: string;
};

export function rowOf(phase: string, what: string, totals: Totals, seconds: number): Row {
  const sent = totals.ok + totals.failures;
  const notes = Object.entries(totals.failed).map(
    ([status, count]) => `${count} × ${status === "0" ? "lost" : status}`,
  );
  if (totals.shed > 0) notes.push(`${totals.shed} not sent`);
  const at = (q: number) => rounded(percentile(totals.latenciesMs, q));
  return {
    phase,
    what,
    perSecond: rounded(totals.ok / seconds)!,
    p50: at(0.5),
    p95: at(0.95),
    p99: at(0.99),
    errorRate: sent === 0 ? 0 : totals.failures / sent,
    note: notes.join(", "),
  };
}

export const rounded = (value: number | null): number | null =>
  value === null ? null : value < 100 ? Math.round(value * 10) / 10 : Math.round(value);

/** Markdown. */
export function table(rows: readonly Row[]): string {
  const number = (value: number | null) => (value === null ? "–" : value.toLocaleString("en"));
  const cells = rows.map(({ phase, what, perSecond, p50, p95, p99, errorRate, note }) => [
    phase,
    what,
    number(perSecond),
    number(p50),
    number(p95),
    number(p99),
    `${(errorRate * 100).toFixed(errorRate > 0 && errorRate < 0.001 ? 3 : 1)} %`,
    note,
  ]);
  const head = ["phase", "what", "a second", "p50, ms", "p95, ms", "p99, ms", "errors", ""];
  const line = (row: string[]) => `| ${row.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...cells.map(line)].join("\n");
}
