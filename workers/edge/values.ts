/** What a client key is told: values for one context, of flags that are for clients, and nothing else of the ruleset. */

import { type Decision, exposureOf } from "@bunting/core";
import type { EvaluatedFlag, PutMessage, ValuesMessage } from "@bunting/core/wire";
import type { KeyKind } from "../store/schema/index.ts";
import type { IsolateRuleset } from "./ruleset/isolate-ruleset.ts";
import { isForClients } from "./ruleset/visibility.ts";

type Held = Pick<IsolateRuleset, "evaluator" | "history">;

/**
 * How far a stream has come: `seen` is the revision up to which it was looked at, `sent` the last that was sent. `since` is
 * a client's that comes back: it is answered whatever was touched, and so knows that it has everything.
 */
export type Position = { seen: number; sent: number } | { since: number };

export function valuesFor({ evaluator }: Held, context: object): Record<string, EvaluatedFlag> {
  const decisions = evaluator.all(context, { clientSide: true });
  return Object.fromEntries(
    Object.entries(decisions).map(([key, decision]) => [key, evaluated(evaluator, key, decision, context)]),
  );
}

/** Only what a client may know: which rule or prerequisite decided is private. The unit of an exposure is from its context. */
function evaluated({ ruleset }: Held["evaluator"], key: string, decision: Decision, context: object): EvaluatedFlag {
  const { value, variation, reason, flagVersion, errorCode } = decision;
  const evaluatedFlag: EvaluatedFlag = { value, variation, reason, version: flagVersion };
  if (errorCode !== undefined) evaluatedFlag.errorCode = errorCode;
  const exposure = exposureOf(ruleset.flags[key]!, decision, context, ruleset.events.exposureSampleRate);
  if (exposure !== null) evaluatedFlag.exposure = exposure;
  return evaluatedFlag;
}

/**
 * What to send to a stream that has come to `position`, null for one that was told nothing yet, and where that takes it.
 * Nothing is sent where no flag that it can see was touched.
 */
export function nextValues(
  held: Held,
  context: object,
  position: Position | null,
): { message: PutMessage | ValuesMessage | null; position: Position } {
  const { evaluator, history } = held;
  const { revision, ruleset } = evaluator;
  const from = position === null ? null : "since" in position ? position.since : position.seen;
  if (from === revision) return { message: null, position: { seen: revision, sent: lastSent(position, revision) } };
  const touched = from === null ? null : history.touchedSince(from, ruleset);
  if (position === null || touched === null) {
    const message: PutMessage = { type: "put", revision, flags: valuesFor(held, context) };
    return { message, position: { seen: revision, sent: revision } };
  }
  const flags: [string, EvaluatedFlag | null][] = touched.withdrawn.map((key) => [key, null]);
  for (const key of touched.flags) {
    if (isForClients(ruleset.flags[key]))
      flags.push([key, evaluated(evaluator, key, evaluator.evaluate(key, context, null), context)]);
  }
  const sent = lastSent(position, revision);
  if (flags.length === 0 && !("since" in position)) return { message: null, position: { seen: revision, sent } };
  const message: ValuesMessage = { type: "patch", revision, previous: sent, flags: Object.fromEntries(flags) };
  return { message, position: { seen: revision, sent: revision } };
}

/** Whether a client that had everything at `from` may be answered otherwise now. */
export function hasNews({ evaluator, history }: Held, from: number, kind: KeyKind): boolean {
  const { revision, ruleset } = evaluator;
  if (from === revision) return false;
  const touched = history.touchedSince(from, ruleset);
  if (touched === null || kind === "server") return touched === null || touched.flags.length > 0;
  return touched.withdrawn.length > 0 || touched.flags.some((key) => isForClients(ruleset.flags[key]));
}

function lastSent(position: Position | null, otherwise: number): number {
  if (position === null) return otherwise;
  return "since" in position ? position.since : position.sent;
}
