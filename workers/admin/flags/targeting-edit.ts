/** One edit of one flag in one environment, put on top of whatever is there when it lands. */

import { type Flag, references, type Serve } from "@bunting/core";
import { ApiError, conflict, notFound } from "../../platform/problem.ts";
import type { EnvironmentName } from "../../store/credentials.ts";
import type { Database, Statement } from "../../store/database.ts";
import { closure, dependencyStatements } from "../../store/documents.ts";
import { flagIn, updateConfiguration } from "../../store/flags/flags.ts";
import type { UndoOf } from "../../store/outbox/change.ts";
import { LostRace } from "../../store/outbox/commit.ts";
import type { FieldChange } from "../../store/schema/index.ts";
import { difference, isEmpty } from "../documents/diff.ts";
import { follow, type Instruction } from "../documents/instructions.ts";
import type { TargetingInput } from "../documents/schema.ts";
import { fullSinceAfter } from "../documents/serves-one-variation.ts";
import { rulesOf, serveOf, splitErrors } from "../documents/splits.ts";
import { serveAt, targetingOf, withWeights } from "../documents/targeting.ts";
import { undoOf } from "../documents/undo.ts";
import { requireValid } from "../documents/validity.ts";
import { etagMismatch, etagOf } from "../http/if-match.ts";
import { invalid } from "../http/validation-errors.ts";
import type { Plan } from "../write/plan.ts";
import { heldRamps } from "./held-ramps.ts";
import { shownTargeting } from "./representation.ts";

/** What a rule, or for null the fallthrough, serves: to the bucket. */
type Placed = { rule: string | null; serve: Serve };

/** Fields that are laid over what is there, instructions that are followed on it, or one split exactly as it is to be. */
export type TargetingEdit = { fields: Partial<TargetingInput> } | { instructions: Instruction[] } | { placed: Placed };

/** What an edit would change: what an audit entry would say, and the whole flag. */
export type Preview = { changes: Record<string, FieldChange>; before: Flag; next: Flag };

/** @throws ApiError 404, 409 where it is archived or an instruction has lost its object, 412, 400 for what would not work. */
export async function planTargeting(
  db: Database,
  environment: EnvironmentName,
  key: string,
  edit: TargetingEdit,
  now: number,
  /** The ETag that it must have, as If-Match sends it. */
  matches: (etag: string) => boolean = () => true,
): Promise<Plan<ReturnType<typeof shownTargeting> & { warnings?: ReturnType<typeof requireValid> }> & Preview> {
  const named = namedIn(edit);
  // All that the new document can depend on: what the old one does, and what the edit names.
  const found = await closure(db, environment.id, { flags: [key, ...named.flags], segments: named.segments });
  // After the head that the edit is put on top of: a flag deleted and made again since then makes it lose its race.
  const { flag: row, configuration, kill } = await flagThere(db, environment, key);
  if (row.archivedAt !== null) throw conflict("archived", `The flag ${key} is archived.`);
  const before = found?.ruleset.flags[key];
  if (found === null || before === undefined) throw new LostRace();
  const etag = etagOf(before.version);
  if (!matches(etag)) {
    // Both versions, so that whoever made the edit can see what it would do now.
    const current = shownTargeting(environment, before, kill);
    const proposed = shownTargeting(environment, appliedIfPossible(before, edit), kill);
    throw etagMismatch(etag, { current, proposed });
  }
  const next = applied(before, edit);
  const changes = difference(withWeights(before), withWeights(next));
  if (isEmpty(changes)) {
    return { status: 200, body: shownTargeting(environment, before, kill), etag, changes, before, next: before };
  }
  next.version = before.version + 1;
  // A ramp's own step takes no split away from it.
  const held = "placed" in edit ? null : await heldRamps(db, environment, row.id, next, now);
  const warnings = [...requireValid({ kind: "flag", document: next }, found.ruleset), ...(held?.warnings ?? [])];
  return {
    status: 200,
    body: { ...shownTargeting(environment, next, kill), ...(warnings.length > 0 && { warnings }) },
    etag: etagOf(next.version),
    changes,
    before,
    next,
    write: {
      statements: [
        ...targetingStatements(db, environment, row.id, next, {
          updatedAt: now,
          fullSince: fullSinceAfter(before, next, configuration.fullSince, now),
        }),
        ...(held?.statements ?? []),
      ],
      ...(held && { alsoAudited: held.audits }),
      edits: [{ name: environment, head: found.head, documents: { flags: { [row.key]: next } } }],
      audit: {
        action: "flag.update",
        type: "flag",
        project: environment.project,
        environment: environment.environment,
        key: row.key,
        changes,
        undo: [targetingUndo(environment, before, next)],
      },
    },
  };
}

/** The row of a flag's document, and what it depends on. */
export function targetingStatements(
  db: Database,
  environment: EnvironmentName,
  flagId: string,
  next: Flag,
  times: { updatedAt: number; fullSince: number | null },
): Statement[] {
  return [
    updateConfiguration(db, environment.id, flagId, { ...targetingOf(next), version: next.version, ...times }),
    ...dependencyStatements(db, environment.id, "flag", next.key, references(next)),
  ];
}

export function targetingUndo({ environment }: EnvironmentName, before: Flag, next: Flag): UndoOf {
  const undo = undoOf(targetingOf(before), targetingOf(next));
  return { kind: "flag", key: next.key, environment, undo };
}

export async function flagThere(db: Database, environment: EnvironmentName, key: string) {
  const found = await flagIn(db, environment.projectId, environment.id, key);
  if (found === null) throw notFound(`The flag ${key}`);
  return found;
}

/** The flags and segments that an edit names. */
function namedIn(edit: TargetingEdit) {
  if ("placed" in edit) return { flags: [], segments: [] };
  const { prerequisites = [], rules = [] } = "fields" in edit ? edit.fields : namedByInstructions(edit.instructions);
  return references({ prerequisites, rules } as Parameters<typeof references>[0]);
}

function namedByInstructions(all: readonly Instruction[]) {
  return {
    prerequisites: all.flatMap((one) => (one.kind === "addPrerequisite" ? [one.prerequisite] : [])),
    rules: all.flatMap((one) => {
      if (one.kind === "addRule") return [one.rule];
      return one.kind === "updateRule" && one.conditions ? [{ conditions: one.conditions }] : [];
    }),
  };
}

function applied(before: Flag, edit: TargetingEdit): Flag {
  if ("instructions" in edit) return follow(edit.instructions, before);
  if ("placed" in edit) return withServe(before, edit.placed);
  requireWeights(before, edit.fields);
  const { rules, fallthrough, ...plain } = edit.fields;
  return {
    ...before,
    ...(plain as Partial<Flag>),
    ...(rules && { rules: rulesOf(rules, before) }),
    ...(fallthrough && { fallthrough: serveOf(fallthrough, before.fallthrough, before) }),
  };
}

/** For what was decided on a version that was read before: it is decided again on any other. */
export const asSeen = (version: number | undefined) => (etag: string) => {
  if (version === undefined || etag !== etagOf(version)) throw new LostRace();
  return true;
};

function withServe(before: Flag, { rule, serve }: Placed): Flag {
  if (rule === null) return { ...before, fallthrough: serve };
  if (serveAt(before, rule) === null) throw ruleGone(rule);
  return { ...before, rules: before.rules.map((one) => (one.id === rule ? { ...one, serve } : one)) };
}

export const ruleGone = (rule: string) => conflict("rule-gone", `There is no rule ${rule}: somebody has removed it.`);

/** What cannot be done any more changes nothing. */
function appliedIfPossible(before: Flag, edit: TargetingEdit): Flag {
  try {
    return applied(before, edit);
  } catch (error) {
    if (error instanceof ApiError) return before;
    throw error;
  }
}

function requireWeights(flag: Flag, { rules = [], fallthrough }: Partial<TargetingInput>): void {
  const errors = [
    ...rules.flatMap((rule, index) => splitErrors(rule.serve, ["rules", index, "serve"], flag.variations)),
    ...(fallthrough === undefined ? [] : splitErrors(fallthrough, ["fallthrough"], flag.variations)),
  ];
  if (errors.length > 0) throw invalid("The weights do not fit the flag; each error is listed.", errors);
}
