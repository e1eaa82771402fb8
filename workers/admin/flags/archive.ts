/** The end of a flag's life: archived, which takes it out of every environment; back again; deleted for good. */

import { references } from "@bunting/core";
import { conflict } from "../../platform/problem.ts";
import { newId } from "../../platform/random-id.ts";
import type { Database } from "../../store/database.ts";
import {
  type ConfigurationRow,
  closure,
  dependencyStatements,
  dependentsOf,
  type FlagRow,
  flagDocument,
} from "../../store/documents.ts";
import { defaultBytes, insertDefaultsOf } from "../../store/environments.ts";
import {
  configurationsOf,
  deleteFlag,
  insertFlag,
  touchConfigurations,
  updateConfiguration,
  updateFlag,
} from "../../store/flags/flags.ts";
import type { UndoOf } from "../../store/outbox/change.ts";
import type { ProjectState } from "../../store/projects.ts";
import { brokenBy, inUse, type Use, withDocument } from "../documents/validity.ts";
import { etagOf } from "../http/if-match.ts";
import { operation } from "../operation.ts";
import type { Plan } from "../write/plan.ts";
import { audited, everywhere, type FlagRequested, flagOf, projectWithFlag, withDeliveries } from "./flags.ts";
import { shownFlag, writtenFlag } from "./representation.ts";

const PATH = "/projects/{project}/flags/{flag}";

const planArchiving = async (requested: FlagRequested<unknown>, now: number) =>
  planArchive(requested.db, await projectWithFlag(requested), requested.path.flag, now);

const planUnarchiving = async (requested: FlagRequested<unknown>, now: number) =>
  planUnarchive(requested.db, await projectWithFlag(requested), requested.path.flag, now);

const archive = operation({
  id: "archiveFlag",
  method: "post",
  path: `${PATH}/archive`,
  tag: "flags",
  summary: "Take a flag out of every environment; clients then serve the code's default",
  role: "editor",
  answer: writtenFlag,
  returns: "The flag",
  example: { reason: "Everybody has it" },
  problems: { 403: ["approval-required"], 409: ["in-use"] },
  ifMatch: true,
  plan: planArchiving,
  requestable: planArchiving,
  respond: withDeliveries,
});

const unarchive = operation({
  id: "unarchiveFlag",
  method: "post",
  path: `${PATH}/unarchive`,
  tag: "flags",
  summary: "Bring an archived flag back as it was",
  role: "editor",
  answer: writtenFlag,
  returns: "The flag",
  example: {},
  problems: { 403: ["approval-required"], 409: ["would-not-work"], 413: ["ruleset-too-large"] },
  ifMatch: true,
  plan: planUnarchiving,
  requestable: planUnarchiving,
  respond: withDeliveries,
});

const remove = operation({
  id: "deleteFlag",
  method: "delete",
  path: PATH,
  tag: "flags",
  summary: "Delete an archived flag",
  role: "editor",
  status: 204,
  returns: "Deleted",
  problems: { 409: ["not-archived"] },
  plan: planDeletion,
  requestable: planDeletion,
  respond: () => null,
});

export const flagArchive = [archive, unarchive, remove];

/** @throws ApiError 404, 409 where it is not archived, 412. */
async function planDeletion(requested: FlagRequested<unknown>): Promise<Plan<null>> {
  const { db, path } = requested;
  const state = await projectWithFlag(requested);
  const row = flagOf(state, path.flag);
  if (row.archivedAt === null) throw conflict("not-archived", `Archive the flag ${row.key} before deleting it.`);
  return {
    status: 204,
    body: null,
    write: {
      statements: deleteFlag(db, row),
      // The documents went when it was archived.
      project: state.project,
      audit: {
        ...audited("flag.delete", state, row.key, { key: { from: row.key } }),
        undo: undoOfDeletion(state, row, await configurationsOf(db, row.id)),
      },
    },
  };
}

type FlagPlan = Plan<ReturnType<typeof shownFlag>>;

/** @throws ApiError 404, 409 where something uses it. */
export async function planArchive(db: Database, state: ProjectState, key: string, now: number): Promise<FlagPlan> {
  const row = flagOf(state, key);
  if (row.archivedAt !== null) return planOf(state, row);
  const dependents = await usesOf(db, state, key);
  if (dependents.length > 0) throw inUse(`The flag ${key}`, dependents);
  const next = { ...row, archivedAt: now, updatedAt: now, version: row.version + 1 };
  return {
    ...planOf(state, next),
    write: {
      statements: [
        ...updateFlag(db, next),
        // An archived flag holds nothing that it refers to.
        ...state.environments.flatMap(({ id }) => dependencyStatements(db, id, "flag", key, NONE)),
      ],
      edits: everywhere(state, () => null, key),
      project: state.project,
      audit: statusEntry("flag.archive", state, row, next),
    },
  };
}

/** @throws ApiError 404, 409 where what it refers to is not what it was. */
export async function planUnarchive(db: Database, state: ProjectState, key: string, now: number): Promise<FlagPlan> {
  const row = flagOf(state, key);
  if (row.archivedAt === null) return planOf(state, row);
  const configurations = await configurationsOf(db, row.id);
  const documents = new Map(
    configurations.map((one) => [one.environmentId, flagDocument(row, { ...one, version: one.version + 1 })]),
  );
  const broken = await Promise.all(
    state.environments.map(async ({ id, key: environment }) => {
      const document = documents.get(id)!;
      const found = await closure(db, id, references(document));
      return found === null ? [] : brokenBy(environment, withDocument(found.ruleset, { kind: "flag", document }));
    }),
  );
  if (broken.flat().length > 0) {
    const detail = `What ${key} refers to has changed since it was archived; bring that back first.`;
    throw conflict("would-not-work", detail, { dependents: broken.flat().slice(0, 100) });
  }
  const full = configurations.filter(({ fullSince }) => fullSince !== null).map((one) => one.environmentId);
  const next = { ...row, archivedAt: null, updatedAt: now, version: row.version + 1 };
  return {
    ...planOf(state, next),
    write: {
      statements: [
        ...updateFlag(db, next),
        // Until now they had the code's default.
        touchConfigurations(db, row.id, now, full),
        ...state.environments.flatMap(({ id }) =>
          dependencyStatements(db, id, "flag", key, references(documents.get(id)!)),
        ),
      ],
      edits: everywhere(state, (id) => documents.get(id)!, key),
      project: state.project,
      audit: statusEntry("flag.unarchive", state, row, next),
    },
  };
}

/** A deleted flag as it was: archived, and with what each environment that is still there had of it. */
export function planRemake(db: Database, state: ProjectState, taken: readonly UndoOf[], now: number): FlagPlan {
  const whole = (environment: string) =>
    taken.find((one) => one.environment === environment)?.undo.map((one) => ("from" in one ? one.from : undefined))[0];
  const flag = whole("") as Omit<FlagRow, "id" | "projectId" | "bytes">;
  if (state.flag !== undefined) throw conflict("already-exists", `There is a flag ${flag.key} again.`);
  const { id: projectId } = state.project;
  const made = { ...flag, id: newId("flg"), projectId, version: flag.version + 1, updatedAt: now };
  const row: FlagRow = { ...made, bytes: defaultBytes(made) };
  return {
    ...planOf(state, row),
    write: {
      statements: [
        ...insertFlag(db, row),
        insertDefaultsOf(db, row),
        ...state.environments.flatMap((environment) => {
          const was = whole(environment.key) as Partial<ConfigurationRow> | undefined;
          return was === undefined ? [] : [updateConfiguration(db, environment.id, row.id, was)];
        }),
      ],
      // Archived, it is in no environment's ruleset.
      project: state.project,
      audit: audited("flag.create", state, row.key, { key: { to: row.key } }),
    },
  };
}

function undoOfDeletion({ environments }: ProjectState, row: FlagRow, configurations: ConfigurationRow[]): UndoOf[] {
  const { id: _, projectId: __, bytes: ___, ...flag } = row;
  const names = new Map(environments.map((one) => [one.id, one.key]));
  const undo = (environment: string, from: object): UndoOf => ({
    kind: "flag",
    key: row.key,
    environment,
    undo: [{ at: [], from }],
  });
  return [
    undo("", flag),
    ...configurations.flatMap(({ environmentId, flagId: _, ...configuration }) => {
      const environment = names.get(environmentId);
      return environment === undefined ? [] : [undo(environment, configuration)];
    }),
  ];
}

const planOf = ({ project }: ProjectState, row: FlagRow) => ({
  status: 200 as const,
  body: shownFlag(project.key, row),
  etag: etagOf(row.version),
});

export function statusEntry(
  action: string,
  state: ProjectState,
  { key, archivedAt: from }: FlagRow,
  { archivedAt: to }: FlagRow,
) {
  const undo: UndoOf[] = [{ kind: "flag", key, environment: "", undo: [{ at: ["archivedAt"], from, to }] }];
  return { ...audited(action, state, key, { archivedAt: { from, to } }), undo };
}

const NONE = { flags: [], segments: [] };

/** Read after the heads of `state`: a reference made since then makes the write lose its race. */
async function usesOf(db: Database, { environments }: ProjectState, key: string): Promise<Use[]> {
  const rows = await dependentsOf(
    db,
    environments.map(({ id }) => id),
    "flag",
    key,
  );
  const names = new Map(environments.map((one) => [one.id, one.key]));
  return rows.map((row) => ({ environment: names.get(row.environmentId) ?? "", kind: row.kind, key: row.key }));
}
