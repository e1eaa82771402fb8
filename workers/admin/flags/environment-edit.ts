/** One change of several documents of an environment: validated together, landing together, audited as one. */
import { type Flag, type Ruleset, references, type Segment } from "@bunting/core";
import { ApiError, conflict, notFound, type ValidationError } from "../../platform/problem.ts";
import type { EnvironmentName } from "../../store/credentials.ts";
import type { Database, Statement } from "../../store/database.ts";
import {
  type Closure,
  closure,
  dependencyStatements,
  dependentsOf,
  type References,
  type SegmentRow,
  segmentDocument,
} from "../../store/documents.ts";
import type { UndoOf } from "../../store/outbox/change.ts";
import { LostRace } from "../../store/outbox/commit.ts";
import type { FieldChange } from "../../store/schema/index.ts";
import { deleteSegment, insertSegment, updateSegment } from "../../store/segments.ts";
import { type Changes, difference, isEmpty } from "../documents/diff.ts";
import { type Moved, movedBetween } from "../documents/moved.ts";
import { type SegmentFields, segmentFields, segmentUndo } from "../documents/segment-fields.ts";
import { fullSinceAfter } from "../documents/serves-one-variation.ts";
import { withWeights } from "../documents/targeting.ts";
import { inUse, validityOf } from "../documents/validity.ts";
import { MAX_CHANGE_BYTES, MAX_VALIDATION_ERRORS } from "../limits.ts";
import type { Plan } from "../write/plan.ts";
import { type Held, heldRamps } from "./held-ramps.ts";
import { flagThere, targetingStatements, targetingUndo } from "./targeting-edit.ts";

/** From what is there when it lands. Null is a segment that is not there. */
export type DocumentEdit =
  | { kind: "flag"; key: string; edit: (flag: Flag) => Flag }
  | { kind: "segment"; key: string; edit: (segment: SegmentRow | null) => SegmentFields | null };

/** `version` is null where it is gone. `moved` is of flags. */
export type Edited = {
  kind: "flag" | "segment";
  key: string;
  version: number | null;
  changes: Record<string, FieldChange>;
  moved: Moved[];
};

/** What an edit does to one document, made on what was read. */
type Step = Edited & {
  undo: UndoOf;
  statements: Statement[];
  flag?: Flag;
  segment?: Segment | null;
  held?: Held;
};

/** `verb`: what the audit log calls it, after the kind of document, or `environment` for several. */
export type EnvironmentEdit = { edits: DocumentEdit[]; verb: string; reverts?: number };

/** @throws ApiError 404, 409 where it would not work or is in use, 413, and whatever an edit throws. */
export async function planDocuments(
  db: Database,
  environment: EnvironmentName,
  { edits, verb, reverts }: EnvironmentEdit,
  now: number,
): Promise<Plan<{ documents: Edited[]; warnings: ValidationError[] }>> {
  const { found, steps } = await made(db, environment, edits, now);
  const changed = steps.filter(({ changes }) => !isEmpty(changes));
  const documents = steps.map(({ kind, key, version, changes, moved }) => ({ kind, key, version, changes, moved }));
  if (changed.length === 0) return { status: 200, body: { documents, warnings: [] } };
  const warnings = requireAllValid(changed, found.ruleset);
  await requireUnused(db, environment, changed);
  const flags = Object.fromEntries(changed.flatMap(({ key, flag }) => (flag ? [[key, flag]] : [])));
  const segments = Object.fromEntries(
    changed.flatMap(({ key, segment }) => (segment === undefined ? [] : [[key, segment]])),
  );
  requireSize({ flags, segments });
  const [only] = changed;
  const one = changed.length === 1 && only !== undefined ? only : null;
  const type = one?.kind ?? "environment";
  return {
    status: 200,
    body: { documents, warnings },
    write: {
      statements: changed.flatMap(({ statements, held }) => [...statements, ...(held?.statements ?? [])]),
      alsoAudited: changed.flatMap(({ held }) => held?.audits ?? []),
      edits: [{ name: environment, head: found.head, documents: { flags, segments } }],
      audit: {
        action: `${type}.${verb}`,
        type,
        project: environment.project,
        environment: environment.environment,
        key: one?.key ?? environment.environment,
        changes: one?.changes ?? changesOfAll(changed),
        undo: changed.map(({ undo }) => undo),
        ...(reverts !== undefined && { reverts }),
      },
    },
  };
}

/** What the new documents refer to may be nothing that the old ones do: then once more, with that. */
async function made(db: Database, environment: EnvironmentName, edits: DocumentEdit[], now: number) {
  const keysOf = (kind: DocumentEdit["kind"]) => edits.filter((one) => one.kind === kind).map(({ key }) => key);
  const read: References = { flags: keysOf("flag"), segments: keysOf("segment") };
  for (;;) {
    const found = await closure(db, environment.id, read);
    if (found === null) throw notFound(`The environment ${environment.project}/${environment.environment}`);
    const steps: Step[] = [];
    for (const one of edits) {
      steps.push(
        one.kind === "flag"
          ? await flagStep(db, environment, found, one, now)
          : segmentStep(db, environment, found, one, now),
      );
    }
    const named = steps.flatMap(({ flag = null, segment = null }) => {
      const document = flag ?? segment;
      return document === null ? [] : [references(document)];
    });
    const unread = {
      flags: named.flatMap(({ flags }) => flags).filter((key) => !read.flags.includes(key)),
      segments: named.flatMap(({ segments }) => segments).filter((key) => !read.segments.includes(key)),
    };
    const isUnread = (kind: "flags" | "segments") =>
      unread[kind].some((key) => !Object.hasOwn(found.ruleset[kind], key));
    if (!isUnread("flags") && !isUnread("segments")) return { found, steps };
    read.flags.push(...unread.flags);
    read.segments.push(...unread.segments);
  }
}

async function flagStep(
  db: Database,
  environment: EnvironmentName,
  found: Closure,
  { kind, key, edit }: Extract<DocumentEdit, { kind: "flag" }>,
  now: number,
): Promise<Step> {
  const row = found.flags.find(({ flag }) => flag.key === key);
  const before = found.ruleset.flags[key];
  if (row === undefined || before === undefined) {
    const { flag } = await flagThere(db, environment, key);
    if (flag.archivedAt === null) throw new LostRace();
    throw conflict("archived", `The flag ${key} is archived.`);
  }
  const edited = edit(before);
  const changes = difference(withWeights(before), withWeights(edited));
  const next = { ...edited, version: before.version + (isEmpty(changes) ? 0 : 1) };
  const held = await heldRamps(db, environment, row.flag.id, next, now);
  return {
    kind,
    key,
    version: next.version,
    changes,
    moved: movedBetween(before, next),
    undo: targetingUndo(environment, before, next),
    statements: targetingStatements(db, environment, row.flag.id, next, {
      updatedAt: now,
      fullSince: fullSinceAfter(before, next, row.configuration.fullSince, now),
    }),
    held,
    flag: next,
  };
}

function segmentStep(
  db: Database,
  environment: EnvironmentName,
  found: Closure,
  { kind, key, edit }: Extract<DocumentEdit, { kind: "segment" }>,
  now: number,
): Step {
  const before = found.segments.find((row) => row.key === key) ?? null;
  const fields = edit(before);
  const undo = segmentUndo(environment, key, before, fields);
  const changes = difference(before === null ? {} : segmentFields(before), fields ?? {});
  const step = { kind, key, changes, moved: [], undo };
  if (fields === null) {
    if (before !== null && before.big !== null) {
      throw conflict("has-members", `The segment ${key} has members that were uploaded: delete it by itself.`);
    }
    const statements = [
      deleteSegment(db, environment.id, key),
      ...dependencyStatements(db, environment.id, kind, key, { flags: [], segments: [] }),
    ];
    return { ...step, version: null, statements, segment: null };
  }
  const isChanged = !isEmpty(changes);
  const times = { createdAt: before?.createdAt ?? now, updatedAt: now };
  const version = (before?.version ?? 0) + (isChanged ? 1 : 0);
  const row: SegmentRow = {
    environmentId: environment.id,
    key,
    big: before?.big ?? null,
    ...fields,
    version,
    ...times,
  };
  const document = segmentDocument(row);
  return {
    ...step,
    version,
    statements: [
      before === null
        ? insertSegment(db, row)
        : updateSegment(db, environment.id, key, { ...fields, version, updatedAt: now }),
      ...dependencyStatements(db, environment.id, kind, key, references(document)),
    ],
    segment: document,
  };
}

/** Each document among the others as they will all be. */
function requireAllValid(steps: Step[], { flags, segments, ...rest }: Ruleset): ValidationError[] {
  const next: Ruleset = { ...rest, flags: { ...flags }, segments: { ...segments } };
  for (const { key, flag, segment } of steps) {
    if (flag !== undefined) next.flags[key] = flag;
    else if (segment) next.segments[key] = segment;
    else delete next.segments[key];
  }
  const each = steps.flatMap(({ kind, key, flag, segment }) => {
    const document = flag ?? segment;
    if (!document) return [];
    const one = { kind, document } as Parameters<typeof validityOf>[0];
    const { errors, warnings } = validityOf(one, next);
    const placed = (all: ValidationError[]) =>
      all.map((error) => ({ ...error, pointer: `/${kind}s/${key}${error.pointer}` }));
    return [{ errors: placed(errors), warnings: placed(warnings) }];
  });
  const errors = each.flatMap((one) => one.errors);
  if (errors.length > 0) {
    const detail = "It would not work as things are now; each error is listed.";
    throw conflict("would-not-work", detail, { errors: errors.slice(0, MAX_VALIDATION_ERRORS) });
  }
  const ofRamps = steps.flatMap(({ kind, key, held }) =>
    (held?.warnings ?? []).map((one) => ({ ...one, pointer: `/${kind}s/${key}${one.pointer}` })),
  );
  return [...each.flatMap((one) => one.warnings), ...ofRamps];
}

async function requireUnused(db: Database, { id, environment }: EnvironmentName, steps: Step[]): Promise<void> {
  for (const { key } of steps.filter(({ segment }) => segment === null)) {
    const uses = await dependentsOf(db, [id], "segment", key);
    // Of those that change as well it is known already.
    const others = uses.filter((use) => !steps.some((step) => step.kind === use.kind && step.key === use.key));
    if (others.length > 0) {
      throw inUse(
        `The segment ${key}`,
        others.map((use) => ({ environment, kind: use.kind, key: use.key })),
      );
    }
  }
}

/** One change is one row of the outbox. */
export function requireSize(documents: object): void {
  const bytes = new TextEncoder().encode(JSON.stringify(documents)).byteLength;
  if (bytes <= MAX_CHANGE_BYTES) return;
  const detail = `The documents come to more than ${MAX_CHANGE_BYTES / 1_000} KB: change fewer at once.`;
  throw new ApiError(413, "change-too-large", detail);
}

const changesOfAll = (steps: Step[]): Changes =>
  Object.fromEntries(
    steps.flatMap(({ kind, key, changes }) =>
      Object.entries(changes).map(([path, change]) => [`${kind}s.${key}.${path}`, change]),
    ),
  );
