import type { Flag, Ruleset } from "@bunting/core";
import { createRoute, z } from "@hono/zod-openapi";
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
import { needs } from "../http/access.ts";
import {
  body,
  description,
  flagPath,
  json,
  key,
  name,
  page,
  problems,
  projectPath,
  resource,
} from "../http/contract.ts";
import { keyedQuery, listing, truth } from "../http/pagination.ts";
import { MAX_NAME, MAX_TAG, MAX_TAGS, MAX_TAGS_ASKED } from "../limits.ts";
import { projectNamed, projectOf } from "../write/lookup.ts";
import type { Edit, Plan } from "../write/plan.ts";
import { type Asked, askedOf, requireAsked } from "../write/request.ts";
import { etagOf, write } from "../write/write.ts";
import { flag, shownFlag, writtenFlag } from "./representation.ts";

const details = z.strictObject({
  name,
  description,
  tags: z.array(z.string().min(1).max(MAX_TAG)).max(MAX_TAGS),
  owner: z.string().min(1).max(MAX_NAME).nullable(),
  temporary: z.boolean(),
  clientSide: z.boolean(),
});

/** Its address would be that of what is done to many. */
const flagKey = key
  .refine((given) => given !== "bulk", "A flag cannot be called bulk: …/flags/bulk is something else.")
  .openapi({ not: { const: "bulk" } });

/** What a boolean flag has unless it is told otherwise. */
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
      description: "Only a boolean flag may leave it out: it then has `on` with the value true and `off` with false",
    }),
  })
  .refine(({ type, variations }) => type === "boolean" || variations !== undefined, {
    path: ["variations"],
    message: "Send `variations`: only a boolean flag may leave them out.",
  });

const create = createRoute({
  method: "post",
  path: "/projects/{project}/flags",
  tags: ["flags"],
  summary: "Create a flag, off in every environment",
  middleware: needs("editor"),
  request: { params: projectPath, ...body(newFlag) },
  responses: { 201: json(writtenFlag, "Created"), ...problems },
});

const list = createRoute({
  method: "get",
  path: "/projects/{project}/flags",
  tags: ["flags"],
  summary: "List flags",
  middleware: needs("viewer"),
  request: {
    params: projectPath,
    query: keyedQuery.extend({
      tag: z
        .preprocess(
          (tag) => (typeof tag === "string" ? [tag] : tag),
          z.array(z.string().max(MAX_TAG)).max(MAX_TAGS_ASKED),
        )
        .optional()
        .openapi({ description: "Sent several times: those that have all of them" }),
      owner: z.string().max(MAX_NAME).optional(),
      type: flagType.optional(),
      temporary: truth,
      clientSide: truth,
      archived: z.enum(["true", "false", "any"]).default("false"),
    }),
  },
  responses: { 200: json(page(flag), "Flags"), ...problems },
});

const read = createRoute({
  method: "get",
  path: "/projects/{project}/flags/{flag}",
  tags: ["flags"],
  summary: "Read a flag",
  middleware: needs("viewer"),
  request: { params: flagPath },
  responses: { 200: json(flag, "The flag"), ...problems },
});

const patched = details.extend({ variations }).partial();

export const patch = createRoute({
  method: "patch",
  path: "/projects/{project}/flags/{flag}",
  tags: ["flags"],
  summary: "Change the fields that are sent, in every environment",
  middleware: needs("editor"),
  request: { params: flagPath, ...body(patched) },
  responses: { 200: json(writtenFlag, "The flag"), ...problems },
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

export const flags = resource()
  .openapi(create, async (c) => {
    const input = c.req.valid("json");
    const done = await write(c, async (now) => {
      const state = await projectOf(c, input.key);
      if (state.flag !== undefined) throw conflict("already-exists", `The flag ${input.key} exists already.`);
      const {
        name = input.key,
        description = "",
        tags = [],
        owner = null,
        temporary = false,
        clientSide = false,
      } = input;
      const fields = {
        name,
        description,
        type: input.type,
        variations: input.variations ?? BOOLEAN,
        tags,
        owner,
        temporary,
        clientSide,
      };
      const made = {
        id: newId("flg"),
        projectId: state.project.id,
        key: input.key,
        ...fields,
        version: 1,
        createdAt: now,
        updatedAt: now,
        archivedAt: null,
      };
      const row: FlagRow = { ...made, bytes: defaultBytes(made) };
      const document = flagDocument(row, defaults(row));
      requireValid({ kind: "flag", document }, NOTHING);
      return {
        status: 201,
        body: shownFlag(state.project.key, row),
        etag: etagOf(1),
        write: {
          statements: [...insertFlag(c.var.db, row), insertDefaultsOf(c.var.db, row)],
          edits: everywhere(state, () => document, row.key),
          project: state.project,
          audit: audited("flag.create", state, row.key, difference({}, fields)),
        },
      };
    });
    return c.json({ ...done.body, environments: done.deliveries }, 201);
  })
  .openapi(list, async (c) => {
    const { project: projectKey } = c.req.valid("param");
    const { tag: tags, archived, ...query } = c.req.valid("query");
    const { page, told } = await listing(c, query, "key");
    const project = await findProject(c.var.db, projectKey);
    if (project === undefined) throw notFound(`The project ${projectKey}`);
    const filter = { ...query, tags, archived: archived === "any" ? undefined : archived === "true" };
    const rows = await listFlags(c.var.db, project.id, filter, page);
    return c.json(
      told(rows, (row) => shownFlag(project.key, row)),
      200,
    );
  })
  .openapi(read, async (c) => {
    const { project, flag: key } = c.req.valid("param");
    const row = await findFlag(c.var.db, project, key);
    if (row === undefined) throw notFound(`The flag ${project}/${key}`);
    c.header("etag", etagOf(row.version));
    return c.json(shownFlag(project, row), 200);
  })
  .openapi(patch, async (c) => {
    const asked = askedOf(c, c.req.valid("param"), c.req.valid("json"));
    const done = await write(c, (now) => planPatch(asked, now));
    return c.json({ ...done.body, environments: done.deliveries }, 200);
  });

export const planPatch = async (asked: FlagAsked<z.output<typeof patched>>, now: number) =>
  planFlag(asked.db, await flagAsked(asked), asked.path.flag, asked.body, now);

export type FlagAsked<Body> = Asked<z.infer<typeof flagPath>, Body>;

/** The flag among its project and its environments. @throws ApiError 404, 412 where it was asked of another version. */
export async function flagAsked(asked: FlagAsked<unknown>): Promise<ProjectState> {
  const { db, path } = asked;
  const state = await projectNamed(db, path.project, path.flag);
  requireAsked(asked, etagOf(flagOf(state, path.flag).version));
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
  // Whatever an environment serves, and where there is none yet: told once, not for each.
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
