import { createRoute, z } from "@hono/zod-openapi";
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

const create = createRoute({
  method: "post",
  path: "/projects",
  tags: ["projects"],
  summary: "Create a project",
  middleware: needs("admin"),
  request: body(z.strictObject({ key, name: name.optional(), description: description.optional() })),
  responses: { 201: json(project, "Created"), ...problems },
});

const list = createRoute({
  method: "get",
  path: "/projects",
  tags: ["projects"],
  summary: "List projects",
  middleware: needs("viewer", "own"),
  request: { query: keyedQuery },
  responses: { 200: json(page(project), "Projects"), ...problems },
});

const read = createRoute({
  method: "get",
  path: "/projects/{project}",
  tags: ["projects"],
  summary: "Read a project",
  middleware: needs("viewer"),
  request: { params: projectPath },
  responses: { 200: json(project, "The project"), ...problems },
});

const patch = createRoute({
  method: "patch",
  path: "/projects/{project}",
  tags: ["projects"],
  summary: "Rename or describe a project",
  middleware: needs("admin"),
  request: { params: projectPath, ...body(z.strictObject({ name, description }).partial()) },
  responses: { 200: json(project, "The project"), ...problems },
});

const remove = createRoute({
  method: "delete",
  path: "/projects/{project}",
  tags: ["projects"],
  summary: "Delete a project that has no environments, with its flags",
  middleware: needs("admin"),
  request: { params: projectPath },
  responses: { 204: { description: "Deleted" }, ...problems },
});

export const projects = resource()
  .openapi(create, async (c) => {
    const { key, name = key, description = "" } = c.req.valid("json");
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
  })
  .openapi(list, async (c) => {
    const query = c.req.valid("query");
    const { page, told } = await listing(c, query, "key");
    const rows = await listProjects(c.var.db, visibleProjects(c.var.caller.scope), query.q, page);
    return c.json(told(rows, shown), 200);
  })
  .openapi(read, async (c) => {
    const row = await findProject(c.var.db, c.req.valid("param").project);
    if (row === undefined) throw notFound(`The project ${c.req.valid("param").project}`);
    c.header("etag", etag(row));
    return c.json(shown(row), 200);
  })
  .openapi(patch, async (c) => {
    const { project: key } = c.req.valid("param");
    const done = await write(c, async (now) => {
      const row = await findProject(c.var.db, key);
      if (row === undefined) throw notFound(`The project ${key}`);
      requireMatch(c, etag(row));
      const next = { ...row, ...c.req.valid("json") };
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
  })
  .openapi(remove, async (c) => {
    const { project: key } = c.req.valid("param");
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
  });
