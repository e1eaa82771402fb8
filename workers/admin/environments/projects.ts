import { z } from "../http/zod.ts";
import { operation } from "../operation.ts";
import { conflict, notFound } from "../../platform/problem.ts";
import { newId } from "../../platform/random-id.ts";
import {
  deleteProject,
  findProject,
  insertProject,
  listProjects,
  type ProjectRow,
  projectState,
  updateProject,
} from "../../store/projects.ts";
import { difference, isEmpty } from "../documents/diff.ts";
import { needs, visibleProjects } from "../http/access.ts";
import { body, description, json, key, name, page, problems, projectPath, resource, time } from "../http/contract.ts";
import { keyedQuery, listing } from "../http/pagination.ts";
import { etagOf, requireMatch, write } from "../write/write.ts";

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
  ...body(z.strictObject({ key, name: name.optional(), description: description.optional() })),
  status: 201,
  answer: project,
  returns: "Created",
  example: { key: "demo", name: "Demo" },
  problems: { 409: ["already-exists"] },
  handle: async (requested, c) => {
    const { key, name = key, description = "" } = body;
    const done = await write(c, async (now) => {
      if ((await findProject(c.var.db, key)) !== undefined) {
        throw conflict("already-exists", `The project ${key} exists already.`);
      }
      const row = { id: newId("prj"), key, name, description, version: 0, createdAt: now, updatedAt: now };
      return {
        status: 201,
        body: shown(row),
        etag: etag(row),
        write: {
          statements: [insertProject(c.var.db, row)],
          audit: {
            action: "project.create",
            type: "project",
            project: key,
            key,
            changes: difference({}, { name, description }),
          },
        },
      };
    });
    return c.json(done.body, 201);
  },
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
  handle: async (requested, c) => {
    const query = query;
    const { page, told } = await listing(c, query, "key");
    const rows = await listProjects(c.var.db, visibleProjects(c.var.caller.scope), query.q, page);
    return c.json(told(rows, shown), 200);
  },
});

const read = operation({
  id: "readProject",
  method: "get",
  path: "/projects/{project}",
  tag: "projects",
  summary: "Read a project",
  role: "viewer",
  answer: project,
  returns: "The project",
  handle: async (requested, c) => {
    const row = await findProject(c.var.db, path.project);
    if (row === undefined) throw notFound(`The project ${path.project}`);
    c.header("etag", etag(row));
    return c.json(shown(row), 200);
  },
});

const patch = operation({
  id: "updateProject",
  method: "patch",
  path: "/projects/{project}",
  tag: "projects",
  summary: "Rename or describe a project",
  role: "admin",
  body: z.strictObject({ name, description }).partial(),
  answer: project,
  returns: "The project",
  example: { description: "What we try things with" },
  handle: async (requested, c) => {
    const { project: key } = path;
    const done = await write(c, async (now) => {
      const row = await findProject(c.var.db, key);
      if (row === undefined) throw notFound(`The project ${key}`);
      requireMatch(c, etag(row));
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
          statements: [updateProject(c.var.db, row.id, { name, description, updatedAt })],
          project: row,
          audit: { action: "project.update", type: "project", project: key, key, changes },
        },
      };
    });
    return c.json(done.body, 200);
  },
});

const remove = operation({
  id: "deleteProject",
  method: "delete",
  path: "/projects/{project}",
  tag: "projects",
  summary: "Delete a project that has no environments, with its flags",
  role: "admin",
  status: 204,
  returns: { description: "Deleted" },
  problems: { 409: ["in-use"] },
  handle: async (requested, c) => {
    const { project: key } = path;
    await write(c, async () => {
      const state = await projectState(c.var.db, key);
      if (state === null) throw notFound(`The project ${key}`);
      requireMatch(c, etag(state.project));
      const environments = state.environments.map((one) => one.key);
      if (environments.length > 0) {
        throw conflict("in-use", `The project ${key} has environments: delete them first.`, { environments });
      }
      return {
        status: 204,
        body: null,
        write: {
          statements: deleteProject(c.var.db, state.project),
          project: state.project,
          audit: { action: "project.delete", type: "project", project: key, key, changes: { key: { from: key } } },
        },
      };
    });
    return c.body(null, 204);
  },
});

export const projects = [create, list, read, patch, remove];
