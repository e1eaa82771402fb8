import { conflict, notFound } from "../../platform/problem.ts";
import { newId } from "../../platform/random-id.ts";
import type { Database } from "../../store/database.ts";
import {
  deleteProject,
  findProject,
  insertProject,
  listProjects,
  type ProjectRow,
  updateProject,
} from "../../store/projects.ts";
import { difference, isEmpty } from "../documents/diff.ts";
import { visibleProjects } from "../http/access.ts";
import { description, key, name, page, time } from "../http/contract.ts";
import { etagOf, requireIfMatch } from "../http/if-match.ts";
import { keyedQuery, listing } from "../http/pagination.ts";
import { z } from "../http/zod.ts";
import { operation } from "../operation.ts";
import { projectOf } from "../write/lookup.ts";

const project = z.object({ key, name, description: z.string(), createdAt: time, updatedAt: time }).openapi("Project");

const shown = (row: ProjectRow): z.infer<typeof project> => ({
  key: row.key,
  name: row.name,
  description: row.description,
  createdAt: row.createdAt,
  updatedAt: row.updatedAt,
});

// Not `version`, which counts every edit of the project's flags and environments too.
const etag = (row: ProjectRow) => etagOf(row.updatedAt);

const create = operation({
  id: "createProject",
  method: "post",
  path: "/projects",
  tag: "projects",
  summary: "Create a project",
  role: "admin",
  body: z.strictObject({ key, name: name.optional(), description: description.optional() }),
  status: 201,
  answer: project,
  returns: "Created",
  example: { key: "demo", name: "Demo" },
  problems: { 409: ["already-exists"] },
  plan: async ({ db, body }, now) => {
    const { key, name = key, description = "" } = body;
    if ((await findProject(db, key)) !== undefined) {
      throw conflict("already-exists", `The project ${key} exists already.`);
    }
    const row = { id: newId("prj"), key, name, description, version: 0, createdAt: now, updatedAt: now };
    return {
      status: 201,
      body: shown(row),
      etag: etag(row),
      write: {
        statements: [insertProject(db, row)],
        audit: {
          action: "project.create",
          type: "project",
          project: key,
          key,
          changes: difference({}, { name, description }),
        },
      },
    };
  },
  respond: ({ body }) => body,
});

const list = operation({
  id: "listProjects",
  method: "get",
  path: "/projects",
  tag: "projects",
  summary: "List projects",
  role: "viewer",
  reach: "own",
  query: keyedQuery,
  answer: page(project),
  returns: "Projects",
  handle: async ({ db, scope, query }, c) => {
    const { page, answerOf } = await listing(c, query, "key");
    const rows = await listProjects(db, visibleProjects(scope), query.q, page);
    return answerOf(rows, shown);
  },
});

const PATH = "/projects/{project}";

const read = operation({
  id: "readProject",
  method: "get",
  path: PATH,
  tag: "projects",
  summary: "Read a project",
  role: "viewer",
  answer: project,
  returns: "The project",
  handle: async ({ db, path }, c) => {
    const row = await projectThere(db, path.project);
    c.header("etag", etag(row));
    return shown(row);
  },
});

const patch = operation({
  id: "updateProject",
  method: "patch",
  path: PATH,
  tag: "projects",
  summary: "Rename or describe a project",
  role: "admin",
  body: z.strictObject({ name, description }).partial(),
  answer: project,
  returns: "The project",
  example: { description: "What we try things with" },
  plan: async (requested, now) => {
    const { db, path, body } = requested;
    const { project: key } = path;
    const row = await projectThere(db, key);
    requireIfMatch(requested, etag(row));
    const next = { ...row, ...body };
    const changes = difference(row, next);
    if (isEmpty(changes)) return { status: 200, body: shown(row), etag: etag(row) };
    next.updatedAt = Math.max(now, row.updatedAt + 1);
    const { name, description, updatedAt } = next;
    return {
      status: 200,
      body: shown(next),
      etag: etag(next),
      write: {
        statements: [updateProject(db, row.id, { name, description, updatedAt })],
        project: row,
        audit: { action: "project.update", type: "project", project: key, key, changes },
      },
    };
  },
  respond: ({ body }) => body,
});

const remove = operation({
  id: "deleteProject",
  method: "delete",
  path: PATH,
  tag: "projects",
  summary: "Delete a project that has no environments, with its flags",
  role: "admin",
  status: 204,
  returns: "Deleted",
  problems: { 409: ["in-use"] },
  plan: async (requested) => {
    const { db, path } = requested;
    const { project: key } = path;
    const state = await projectOf(db, key);
    requireIfMatch(requested, etag(state.project));
    const environments = state.environments.map((one) => one.key);
    if (environments.length > 0) {
      throw conflict("in-use", `The project ${key} has environments: delete them first.`, { environments });
    }
    return {
      status: 204,
      body: null,
      write: {
        statements: deleteProject(db, state.project),
        project: state.project,
        audit: { action: "project.delete", type: "project", project: key, key, changes: { key: { from: key } } },
      },
    };
  },
  respond: () => null,
});

export const projects = [create, list, read, patch, remove];

async function projectThere(db: Database, key: string): Promise<ProjectRow> {
  const row = await findProject(db, key);
  if (row === undefined) throw notFound(`The project ${key}`);
  return row;
}
