import type { Env } from "../../env.ts";
import { KV_READ_MS, within } from "../../platform/deadline.ts";
import { errorText } from "../../platform/error-text.ts";
import { conflict, notFound } from "../../platform/problem.ts";
import { newId } from "../../platform/random-id.ts";
import { type EnvironmentName, forgetEnvironment, mirrorEnvironment } from "../../store/credentials.ts";
import type { Database } from "../../store/database.ts";
import { deleteEnvironment, insertEnvironment, updateEnvironment } from "../../store/environments.ts";
import { wouldBeNew } from "../../store/outbox/ruleset-size.ts";
import { type EnvironmentRow, findProject, headOf, listEnvironments, nameOf } from "../../store/projects.ts";
import { listSdkKeys } from "../../store/sdk-keys.ts";
import { segmentKeys } from "../../store/segments.ts";
import { difference, isEmpty } from "../documents/diff.ts";
import { visibleEnvironments } from "../http/access.ts";
import { key, name, page, time } from "../http/contract.ts";
import { etagOf, requireIfMatch } from "../http/if-match.ts";
import { keyedQuery, listing } from "../http/pagination.ts";
import { z } from "../http/zod.ts";
import { MAX_ENVIRONMENTS, MAX_RULESET_BYTES } from "../limits.ts";
import { operation } from "../operation.ts";
import { bigSegmentOf, delivery } from "../write/hub-client.ts";
import { projectOf } from "../write/lookup.ts";
import { rulesetTooLarge, write } from "../write/write.ts";

/** Hints of the platform: where the environment's hub is made, near those who change its flags. */
const location = z.enum(["wnam", "enam", "sam", "weur", "eeur", "apac", "oc", "afr", "me"]);

const environment = z
  .object({
    id: z.string(),
    key,
    name,
    project: key,
    location: z.string().nullable(),
    createdAt: time,
    updatedAt: time,
  })
  .openapi("Environment");

const shown = (project: string, row: EnvironmentRow): z.infer<typeof environment> => ({
  id: row.id,
  key: row.key,
  name: row.name,
  project,
  location: row.location,
  createdAt: row.createdAt,
  updatedAt: row.updatedAt,
});

// Not `version`, which counts the changes of its flags, segments and keys.
const etag = (row: EnvironmentRow) => etagOf(row.updatedAt);

const PATH = "/projects/{project}/environments";

const create = operation({
  id: "createEnvironment",
  method: "post",
  path: PATH,
  tag: "environments",
  summary: "Create an environment, and the hub that serves it",
  role: "admin",
  body: z.strictObject({ key, name: name.optional(), location: location.optional() }),
  status: 201,
  answer: environment.extend(delivery.shape),
  returns: "Created",
  example: { key: "production", name: "Production", location: "weur" },
  problems: { 409: ["already-exists", "too-many-environments"], 413: ["ruleset-too-large"] },
  handle: async ({ env, db, path, body }, c) => {
    const { key, name = key, location = null } = body;
    let made: EnvironmentName | undefined;
    const done = await write(c, async (now) => {
      const { project, environments } = await projectOf(db, path.project);
      if (environments.some((row) => row.key === key)) {
        throw conflict("already-exists", `The environment ${project.key}/${key} exists already.`);
      }
      if (environments.length >= MAX_ENVIRONMENTS) {
        throw conflict("too-many-environments", `A project has at most ${MAX_ENVIRONMENTS} environments.`);
      }
      const { bytes, largest } = await wouldBeNew(db, project.id);
      if (bytes > MAX_RULESET_BYTES) throw rulesetTooLarge([{ environment: key, bytes, largest }]);
      const row: EnvironmentRow = {
        id: newId("env"),
        projectId: project.id,
        key,
        name,
        location,
        version: 0,
        changeId: "",
        publishedVersion: 0,
        publishedRevision: 0,
        rulesetBytes: bytes,
        createdAt: now,
        updatedAt: now,
      };
      made = nameOf(project, row);
      return {
        status: 201,
        body: shown(project.key, row),
        etag: etag(row),
        write: {
          statements: insertEnvironment(db, row),
          // Without documents: the new hub reads them all. With a version, so that the sweep makes up for a hub that failed.
          edits: [{ name: made, head: headOf(row), documents: {} }],
          project,
          audit: audited("environment.create", project.key, key, difference({}, { name, location })),
        },
      };
    });
    if (made !== undefined) await mirror(env, made);
    return { ...done.body, ...done.deliveries[key] };
  },
});

const list = operation({
  id: "listEnvironments",
  method: "get",
  path: PATH,
  tag: "environments",
  summary: "List environments",
  role: "viewer",
  query: keyedQuery,
  answer: page(environment),
  returns: "Environments",
  handle: async ({ db, scope, path, query }, c) => {
    const { page, answerOf } = await listing(c, query, "key");
    const project = await findProject(db, path.project);
    if (project === undefined) throw notFound(`The project ${path.project}`);
    const rows = await listEnvironments(db, project.id, visibleEnvironments(scope, project.key), query.q, page);
    return answerOf(rows, (row) => shown(project.key, row));
  },
});

const read = operation({
  id: "readEnvironment",
  method: "get",
  path: `${PATH}/{environment}`,
  tag: "environments",
  summary: "Read an environment",
  role: "viewer",
  answer: environment,
  returns: "The environment",
  handle: async ({ db, path }, c) => {
    const { project, row } = await environmentThere(db, path);
    c.header("etag", etag(row));
    return shown(project.key, row);
  },
});

const patch = operation({
  id: "updateEnvironment",
  method: "patch",
  path: `${PATH}/{environment}`,
  tag: "environments",
  summary: "Rename an environment",
  role: "admin",
  body: z.strictObject({ name: name.optional() }),
  answer: environment,
  returns: "The environment",
  example: { name: "Live" },
  plan: async (requested, now) => {
    const { db, path, body } = requested;
    const { project, row } = await environmentThere(db, path);
    requireIfMatch(requested, etag(row));
    const next = { ...row, name: body.name ?? row.name };
    const changes = difference(row, next);
    if (isEmpty(changes)) return { status: 200, body: shown(project.key, row), etag: etag(row) };
    next.updatedAt = Math.max(now, row.updatedAt + 1);
    return {
      status: 200,
      body: shown(project.key, next),
      etag: etag(next),
      write: {
        statements: [updateEnvironment(db, row.id, { name: next.name, updatedAt: next.updatedAt })],
        project,
        audit: audited("environment.update", project.key, row.key, changes),
      },
    };
  },
  respond: ({ body }) => body,
});

/** What is named of the keys that are in the way. */
const KEYS_NAMED = 20;

const remove = operation({
  id: "deleteEnvironment",
  method: "delete",
  path: `${PATH}/{environment}`,
  tag: "environments",
  summary: "Delete an environment for good, once none of its SDK keys opens it",
  role: "admin",
  status: 204,
  returns: "Deleted",
  problems: { 409: ["in-use"] },
  handle: async (requested, c) => {
    const { env, db, path } = requested;
    let gone: { name: EnvironmentName; segments: string[] } | undefined;
    await write(c, async (now) => {
      const { project, row } = await environmentThere(db, path);
      requireIfMatch(requested, etag(row));
      const first = { limit: KEYS_NAMED, by: "createdAt", descending: false, after: undefined } as const;
      const keys = await listSdkKeys(db, row.id, { q: undefined, kind: undefined, state: "active", now }, first);
      if (keys.length > 0) {
        const detail = `SDK keys still open ${project.key}/${row.key}: revoke them first, then nobody is served by it.`;
        throw conflict("in-use", detail, { keys: keys.map(({ id, name }) => ({ id, name })) });
      }
      const name = nameOf(project, row);
      gone = { name, segments: await segmentKeys(db, row.id) };
      return {
        status: 204,
        body: null,
        write: {
          statements: deleteEnvironment(db, project.id, headOf(row)),
          // Its version is taken: a key made or a flag edited at the same time loses its race, and finds nothing.
          edits: [{ name, head: headOf(row), documents: {} }],
          project,
          audit: audited("environment.delete", project.key, row.key, { key: { from: row.key } }),
        },
      };
    });
    if (gone !== undefined) c.executionCtx.waitUntil(cleared(env, gone.name, gone.segments));
    return null;
  },
});

export const environments = [create, list, read, patch, remove];

async function environmentThere(db: Database, path: { project: string; environment: string }) {
  const { project, environments } = await projectOf(db, path.project);
  const row = environments.find(({ key }) => key === path.environment);
  if (row === undefined) throw notFound(`The environment ${project.key}/${path.environment}`);
  return { project, row };
}

const audited = (action: string, project: string, key: string, changes: ReturnType<typeof difference>) => ({
  action,
  type: "environment" as const,
  project,
  environment: key,
  key,
  changes,
});

/** What no transaction reaches. Left behind it is never asked for again: another environment has another id. */
async function cleared(env: Env, name: EnvironmentName, segments: string[]): Promise<void> {
  const objects = segments.map((segment) => bigSegmentOf(env, name, segment).clear());
  await Promise.allSettled([forgetEnvironment(env.KV, name), ...objects]);
}

/** For kills while D1 is down. Without it the environment works, and a kill needs D1: logged, never hidden. */
async function mirror(env: Env, made: EnvironmentName): Promise<void> {
  await within(mirrorEnvironment(env.KV, made), KV_READ_MS, "KV").catch((error: unknown) => {
    console.error(
      JSON.stringify({ level: "error", message: "not mirrored", environment: made.id, error: errorText(error) }),
    );
  });
}
