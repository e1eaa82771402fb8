import type { Flag, Ruleset } from "@bunting/core";
import { conflict, notFound } from "../../platform/problem.ts";
import { newId } from "../../platform/random-id.ts";
import type { Database } from "../../store/database.ts";
import { closure, type FlagRow, flagDocument } from "../../store/documents.ts";
import { defaultBytes, defaults, insertDefaultsOf } from "../../store/environments.ts";
import { findFlag, insertFlag, listFlags, touchConfigurations, updateFlag } from "../../store/flags/flags.ts";
import { LostRace } from "../../store/outbox/commit.ts";
import { findProject, headOf, nameOf, type ProjectState } from "../../store/projects.ts";
import { difference, isEmpty, same } from "../documents/diff.ts";
import { flagType, variations } from "../documents/schema.ts";
import { isServedTheSame } from "../documents/serves-one-variation.ts";
import { undoOf } from "../documents/undo.ts";
import { brokenBy, inUse, requireValid, withDocument } from "../documents/validity.ts";
import { description, key, name, page } from "../http/contract.ts";
import { etagOf, requireIfMatch } from "../http/if-match.ts";
import { keyedQuery, listing, truth } from "../http/pagination.ts";
import { z } from "../http/zod.ts";
import { MAX_NAME, MAX_TAG, MAX_TAGS, MAX_TAGS_IN_QUERY } from "../limits.ts";
import { operation } from "../operation.ts";
import { projectOf } from "../write/lookup.ts";
import type { Edit, Plan } from "../write/plan.ts";
import type { Requested } from "../write/request.ts";
import type { Written } from "../write/write.ts";
import { flag, shownFlag, writtenFlag } from "./representation.ts";

const details = z.strictObject({
  name,
  description,
  tags: z.array(z.string().min(1).max(MAX_TAG)).max(MAX_TAGS),
  owner: z.string().min(1).max(MAX_NAME).nullable(),
  temporary: z.boolean(),
  clientSide: z.boolean(),
});

/** Their addresses would be those of what is about many. */
const TAKEN = ["bulk", "summary"];
const flagKey = key
  .refine((given) => !TAKEN.includes(given), {
    error: ({ input }) => `A flag cannot be called ${input}: …/flags/${input} is something else.`,
  })
  .openapi({ not: { enum: TAKEN } });

/** The variations of a boolean flag that names none. */
const BOOLEAN = [
  { key: "on", value: true },
  { key: "off", value: false },
];

const newFlag = details
  .partial()
  .extend({
    key: flagKey,
    type: flagType,
    variations: variations.optional().openapi({
      description:
        "Only a boolean flag may leave it out: it then has `on` with the value true and `off` with false. While the flag is off, a boolean flag serves the variation whose value is false, any other its last variation, until `offVariation` is set",
    }),
  })
  .refine(({ type, variations }) => type === "boolean" || variations !== undefined, {
    path: ["variations"],
    message: "Send `variations`: only a boolean flag may leave them out.",
  });

const create = operation({
  id: "createFlag",
  method: "post",
  path: "/projects/{project}/flags",
  tag: "flags",
  summary: "Create a flag, off in every environment",
  role: "editor",
  body: newFlag,
  status: 201,
  answer: writtenFlag,
  returns: "Created",
  example: { key: "new-checkout", type: "boolean", variations: BOOLEAN, tags: ["checkout"], temporary: true },
  problems: { 409: ["already-exists"], 413: ["ruleset-too-large"] },
  plan: async ({ db, path, body }, now) => {
    const state = await projectOf(db, path.project, body.key);
    if (state.flag !== undefined) throw conflict("already-exists", `The flag ${body.key} exists already.`);
    const { key, type, name = key, description = "", variations = BOOLEAN } = body;
    const { tags = [], owner = null, temporary = false, clientSide = false } = body;
    const fields = { name, description, type, variations, tags, owner, temporary, clientSide };
    const times = { createdAt: now, updatedAt: now, archivedAt: null };
    const made = { id: newId("flg"), projectId: state.project.id, key, ...fields, version: 1, ...times };
    const row: FlagRow = { ...made, bytes: defaultBytes(made) };
    const document = flagDocument(row, defaults(row));
    requireValid({ kind: "flag", document }, NOTHING);
    return {
      status: 201,
      body: shownFlag(state.project.key, row),
      etag: etagOf(1),
      write: {
        statements: [...insertFlag(db, row), insertDefaultsOf(db, row)],
        edits: everywhere(state, () => document, row.key),
        project: state.project,
        audit: audited("flag.create", state, row.key, difference({}, fields)),
      },
    };
  },
  respond: withDeliveries,
});

const list = operation({
  id: "listFlags",
  method: "get",
  path: "/projects/{project}/flags",
  tag: "flags",
  summary: "List flags",
  role: "viewer",
  query: keyedQuery.extend({
    tag: z
      .preprocess(
        (tag) => (typeof tag === "string" ? [tag] : tag),
        z.array(z.string().max(MAX_TAG)).max(MAX_TAGS_IN_QUERY),
      )
      .optional()
      .openapi({ description: "Sent several times: those that have all of them" }),
    owner: z.string().max(MAX_NAME).optional(),
    type: flagType.optional(),
    temporary: truth,
    clientSide: truth,
    archived: z.enum(["true", "false", "any"]).default("false"),
  }),
  answer: page(flag),
  returns: "Flags",
  handle: async ({ db, path, query }, c) => {
    const { tag: tags, archived, ...filters } = query;
    const { page, answerOf } = await listing(c, filters, "key");
    const project = await findProject(db, path.project);
    if (project === undefined) throw notFound(`The project ${path.project}`);
    const filter = { ...filters, tags, archived: archived === "any" ? undefined : archived === "true" };
    const rows = await listFlags(db, project.id, filter, page);
    return answerOf(rows, (row) => shownFlag(project.key, row));
  },
});

const read = operation({
  id: "readFlag",
  method: "get",
  path: "/projects/{project}/flags/{flag}",
  tag: "flags",
  summary: "Read a flag",
  role: "viewer",
  answer: flag,
  returns: "The flag",
  handle: async ({ db, path }, c) => {
    const { project, flag: key } = path;
    const row = await findFlag(db, project, key);
    if (row === undefined) throw notFound(`The flag ${project}/${key}`);
    c.header("etag", etagOf(row.version));
    return shownFlag(project, row);
  },
});

const patched = details.extend({ variations }).partial();

const patch = operation({
  id: "updateFlag",
  method: "patch",
  path: "/projects/{project}/flags/{flag}",
  tag: "flags",
  summary: "Change the fields that are sent, in every environment",
  role: "editor",
  body: patched,
  answer: writtenFlag,
  returns: "The flag",
  example: { name: "New checkout", owner: "team-checkout", clientSide: true },
  problems: { 403: ["approval-required"], 409: ["archived", "in-use"], 413: ["ruleset-too-large"] },
  plan: planPatch,
  requestable: planPatch,
  respond: withDeliveries,
});

/** A new flag depends on nothing. */
const NOTHING: Ruleset = {
  schema: 1,
  environment: "",
  revision: 0,
  events: { exposureSampleRate: 1, summarySeconds: 30 },
  flags: {},
  segments: {},
};

export const flags = [create, list, read, patch];

export type FlagRequested<Body> = Requested<{ project: string; flag: string }, Body>;

async function planPatch(requested: FlagRequested<z.output<typeof patched>>, now: number) {
  const { db, path, body } = requested;
  return planFlag(db, await projectWithFlag(requested), path.flag, body, now);
}

/** What every write of a flag answers. */
export function withDeliveries({ body, deliveries }: Written<ReturnType<typeof shownFlag>>) {
  return { ...body, environments: deliveries };
}

/** The project with its environments and the flag. @throws ApiError 404, and 412 where If-Match names another version. */
export async function projectWithFlag(requested: FlagRequested<unknown>): Promise<ProjectState> {
  const { db, path } = requested;
  const state = await projectOf(db, path.project, path.flag);
  requireIfMatch(requested, etagOf(flagOf(state, path.flag).version));
  return state;
}

/** @throws ApiError 404, 400, 409 where it is archived or something uses what is taken away. */
export async function planFlag(
  db: Database,
  state: ProjectState,
  key: string,
  fields: Partial<FlagFields>,
  now: number,
): Promise<Plan<ReturnType<typeof shownFlag>>> {
  const row = flagOf(state, key);
  const next: FlagRow = { ...row, ...fields };
  const changes = difference(row, next);
  if (isEmpty(changes)) return { status: 200, body: shownFlag(state.project.key, row), etag: etagOf(row.version) };
  if (row.archivedAt !== null) throw conflict("archived", `The flag ${key} is archived.`);
  next.version = row.version + 1;
  next.updatedAt = now;
  next.bytes = defaultBytes(next);
  const everyones = seenByClients(row, next) ? await documentsEverywhere(db, state, next) : null;
  return {
    status: 200,
    body: shownFlag(state.project.key, next),
    etag: etagOf(next.version),
    write: {
      statements: [
        ...updateFlag(db, next),
        ...(everyones === null ? [] : [touchConfigurations(db, row.id, now, everyones.restarted)]),
      ],
      edits: everyones === null ? [] : everywhere(state, (id) => everyones.documents.get(id)!, key),
      project: state.project,
      audit: {
        ...audited("flag.update", state, key, changes),
        undo: [{ kind: "flag", key, environment: "", undo: undoOf(flagFields(row), flagFields(next)) }],
      },
    },
  };
}

export type FlagFields = ReturnType<typeof flagFields>;

/** What all environments have in common of a flag. */
export const flagFields = ({ name, description, tags, owner, temporary, clientSide, variations }: FlagRow) => ({
  name,
  description,
  tags,
  owner,
  temporary,
  clientSide,
  variations,
});

export function flagOf({ project, flag }: ProjectState, key: string): FlagRow {
  if (flag === undefined) throw notFound(`The flag ${project.key}/${key}`);
  return flag;
}

export const audited = (
  action: string,
  { project }: ProjectState,
  key: string,
  changes: ReturnType<typeof difference>,
) => ({
  action,
  type: "flag" as const,
  project: project.key,
  key,
  changes,
});

/** One edit for each environment of the project, on top of the heads that were read with it. */
export const everywhere = (
  { project, environments }: ProjectState,
  document: (environmentId: string) => Flag | null,
  key: string,
): Edit[] =>
  environments.map((environment) => ({
    name: nameOf(project, environment),
    head: headOf(environment),
    documents: { flags: { [key]: document(environment.id) } },
  }));

/**
 * The flag's new document in each environment, where it and all that depend on it still work: otherwise 409; and where all
 * who were served one value are served another. Read after
 * the heads that the edit is put on top of, so that nothing can have changed unnoticed.
 */
async function documentsEverywhere(db: Database, { environments }: ProjectState, next: FlagRow) {
  const { key, variations, clientSide } = next;
  // Whatever an environment serves, and where there is none yet: reported once, not for each.
  requireValid({ kind: "flag", document: flagDocument(next, defaults(next)) }, NOTHING);
  const itself = { kind: "flag", key } as const;
  const documents = new Map<string, Flag>();
  const restarted: string[] = [];
  const broken = await Promise.all(
    environments.map(async (environment) => {
      const found = await closure(db, environment.id, { flags: [key], segments: [] }, itself);
      const before = found?.ruleset.flags[key];
      if (found === null || before === undefined) throw new LostRace();
      const document = { ...before, variations, clientSide, version: before.version + 1 };
      documents.set(environment.id, document);
      if (!isServedTheSame(before, document)) restarted.push(environment.id);
      return brokenBy(environment.key, withDocument(found.ruleset, { kind: "flag", document }));
    }),
  );
  if (broken.flat().length > 0) throw inUse(`A variation of ${key}`, broken.flat());
  return { documents, restarted };
}

const seenByClients = (before: FlagRow, after: FlagRow) =>
  !same(before.variations, after.variations) || before.clientSide !== after.clientSide;
