/** Which of many flags can leave their environments together, and which can come back together. */
import { type Flag, references } from "@bunting/core";
import { type ApiError, conflict } from "../../platform/problem.ts";
import type { Database } from "../../store/database.ts";
import { closure, type FlagRow, flagDocument } from "../../store/documents.ts";
import { configurationsOfAll, holdAll, releaseAll, touchAll, usesOfAll } from "../../store/flags/bulk.ts";
import { LostRace } from "../../store/outbox/commit.ts";
import type { EnvironmentRow, ProjectState } from "../../store/projects.ts";
import { brokenBy, inUse, type Use } from "../documents/validity.ts";
import { requireSize } from "./environment-edit.ts";

type Refused = Map<string, ApiError>;

/** `uses`: who uses which of them. A flag stays where anything that stays uses it. Pure. */
export function leaving<One extends { kind: string; key: string; used: string }>(
  keys: string[],
  uses: One[],
): { leave: Set<string>; stay: Map<string, One[]> } {
  const leave = new Set(keys);
  const holds = ({ kind, key }: One) => kind !== "flag" || !leave.has(key);
  for (let before = -1; before !== leave.size; ) {
    before = leave.size;
    for (const use of uses) if (holds(use)) leave.delete(use.used);
  }
  const stay = keys.filter((key) => !leave.has(key));
  return { leave, stay: new Map(stay.map((key) => [key, uses.filter((use) => use.used === key && holds(use))])) };
}

/** Read after the heads of `state`: a reference made since then makes the write lose its race. */
export async function archiveAll(db: Database, { environments }: ProjectState, rows: FlagRow[]) {
  const ids = environments.map(({ id }) => id);
  const uses = await usesOfAll(
    db,
    ids,
    rows.map(({ key }) => key),
  );
  const names = new Map(environments.map(({ id, key }) => [id, key]));
  const { leave, stay } = leaving(
    rows.map(({ key }) => key),
    uses,
  );
  const useOf = ({ environmentId, kind, key }: (typeof uses)[number]): Use => ({
    environment: names.get(environmentId) ?? "",
    kind,
    key,
  });
  const refused: Refused = new Map([...stay].map(([key, by]) => [key, inUse(`The flag ${key}`, by.map(useOf))]));
  const gone = Object.fromEntries([...leave].map((key) => [key, null]));
  return { refused, statements: [releaseAll(db, ids, [...leave])], documents: () => gone };
}

/** Each environment's documents are judged together, so that flags which need each other come back at once. */
export async function unarchiveAll(db: Database, { environments }: ProjectState, rows: FlagRow[], now: number) {
  const there = await documentsOf(db, environments, rows);
  const refused: Refused = new Map();
  const coming = () => rows.filter(({ key }) => !refused.has(key));
  for (let before = -1; before !== refused.size; ) {
    before = refused.size;
    const keys = coming().map(({ key }) => key);
    for (const { name, documents, around } of there) {
      const flags = { ...around.flags, ...Object.fromEntries(keys.map((key) => [key, documents.get(key)!])) };
      for (const use of brokenBy(name, { ...around, flags })) {
        if (use.kind === "flag" && keys.includes(use.key)) refused.set(use.key, wouldNotWork(use.key, use));
      }
    }
    refuseWhatNeeds(refused, keys, there);
  }
  const flags = coming();
  for (const { documents } of there) requireSize(flags.map(({ key }) => documents.get(key)!));
  const held = there.flatMap(({ environmentId, documents }) =>
    flags.map(({ key }) => ({ environmentId, key, references: references(documents.get(key)!) })),
  );
  const ids = flags.map(({ id }) => id);
  return {
    refused,
    statements: [touchAll(db, ids, now), ...holdAll(db, held)],
    documents: (environmentId: string) => {
      const { documents } = there.find((one) => one.environmentId === environmentId)!;
      return Object.fromEntries(flags.map(({ key }) => [key, documents.get(key)!]));
    },
  };
}

type There = {
  environmentId: string;
  name: string;
  documents: Map<string, Flag>;
  around: NonNullable<Awaited<ReturnType<typeof closure>>>["ruleset"];
};

async function documentsOf(db: Database, environments: EnvironmentRow[], rows: FlagRow[]): Promise<There[]> {
  const byId = new Map(rows.map((row) => [row.id, row]));
  const configurations = await configurationsOfAll(db, [...byId.keys()]);
  return Promise.all(
    environments.map(async ({ id, key: name }) => {
      const documents = new Map<string, Flag>();
      for (const { environmentId, flagId, ...one } of configurations) {
        const row = byId.get(flagId)!;
        const configuration = { environmentId, flagId, ...one, version: one.version + 1 };
        if (environmentId === id) documents.set(row.key, flagDocument(row, configuration));
      }
      // A flag or an environment that was made or deleted since the heads were read.
      if (documents.size < rows.length) throw new LostRace();
      const all = [...documents.values()].map(references);
      const found = await closure(db, id, {
        flags: [...new Set(all.flatMap(({ flags }) => flags))],
        segments: [...new Set(all.flatMap(({ segments }) => segments))],
      });
      if (found === null) throw new LostRace();
      return { environmentId: id, name, documents, around: found.ruleset };
    }),
  );
}

/** A long chain is refused at once, and not a link with each judgement. */
function refuseWhatNeeds(refused: Refused, keys: string[], there: There[]): void {
  for (let before = -1; before !== refused.size; ) {
    before = refused.size;
    for (const key of keys) {
      if (refused.has(key)) continue;
      for (const { name, documents } of there) {
        const needed = references(documents.get(key)!).flags.find((flag) => refused.has(flag));
        if (needed === undefined) continue;
        refused.set(key, wouldNotWork(key, { environment: name, kind: "flag", key: needed }));
      }
    }
  }
}

const wouldNotWork = (key: string, use: Use) =>
  conflict("would-not-work", `What ${key} refers to has changed since it was archived; bring that back first.`, {
    dependents: [use],
  });
