/** The end of a flag's life: archived, which takes it out of every environment; back again; deleted for good. */
import { references } from "@bunting/core";
import { createRoute, z } from "@hono/zod-openapi";
import { conflict } from "../problem.ts";
import { closure, dependencyStatements, dependentsOf, flagDocument } from "../store/documents.ts";
import { configurationsOf, deleteFlag, touchConfigurations, updateFlag } from "../store/flags.ts";
import type { ProjectState } from "../store/projects.ts";
import { needs } from "./access.ts";
import { type AdminContext, body, flagPath, json, problems, reason, resource } from "./contract.ts";
import { projectOf } from "./environments.ts";
import { shownFlag, writtenFlag } from "./flag-shape.ts";
import { audited, everywhere, flagOf } from "./flags.ts";
import { brokenBy, inUse, type Use, withDocument } from "./meaning.ts";
import { etagOf, requireMatch, write } from "./write.ts";

const becauseOf = { params: flagPath, ...body(z.strictObject({ reason: reason.optional() })) };
const written = { 200: json(writtenFlag, "The flag"), ...problems };

const archive = createRoute({
  method: "post",
  path: "/projects/{project}/flags/{flag}/archive",
  tags: ["flags"],
  summary: "Take a flag out of every environment; clients then serve the code's default",
  middleware: needs("editor"),
  request: becauseOf,
  responses: written,
});

const unarchive = createRoute({
  method: "post",
  path: "/projects/{project}/flags/{flag}/unarchive",
  tags: ["flags"],
  summary: "Bring an archived flag back as it was",
  middleware: needs("editor"),
  request: becauseOf,
  responses: written,
});

const remove = createRoute({
  method: "delete",
  path: "/projects/{project}/flags/{flag}",
  tags: ["flags"],
  summary: "Delete an archived flag",
  middleware: needs("editor"),
  request: { params: flagPath },
  responses: { 204: { description: "Deleted" }, ...problems },
});

export const flagArchive = resource()
  .openapi(archive, async (c) => {
    const { flag: key } = c.req.valid("param");
    const { db } = c.var;
    const done = await write(
      c,
      async (now) => {
        const state = await projectOf(c, key);
        const row = flagOf(state, key);
        requireMatch(c, etagOf(row.version));
        const unchanged = { status: 200 as const, body: shownFlag(state.project.key, row), etag: etagOf(row.version) };
        if (row.archivedAt !== null) return unchanged;
        const dependents = await usesOf(c, state, key);
        if (dependents.length > 0) throw inUse(`The flag ${key}`, dependents);
        const next = { ...row, archivedAt: now, updatedAt: now, version: row.version + 1 };
        return {
          status: 200,
          body: shownFlag(state.project.key, next),
          etag: etagOf(next.version),
          write: {
            statements: [
              ...updateFlag(db, next),
              // An archived flag holds nothing that it refers to.
              ...state.environments.flatMap(({ id }) => dependencyStatements(db, id, "flag", key, NONE)),
            ],
            edits: everywhere(state, () => null, key),
            project: state.project,
            audit: audited("flag.archive", state, key, { archivedAt: { from: null, to: now } }),
          },
        };
      },
      c.req.valid("json").reason,
    );
    return c.json({ ...done.body, environments: done.deliveries }, 200);
  })
  .openapi(unarchive, async (c) => {
    const { flag: key } = c.req.valid("param");
    const { db } = c.var;
    const done = await write(
      c,
      async (now) => {
        const state = await projectOf(c, key);
        const row = flagOf(state, key);
        requireMatch(c, etagOf(row.version));
        if (row.archivedAt === null) {
          return { status: 200, body: shownFlag(state.project.key, row), etag: etagOf(row.version) };
        }
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
        const next = { ...row, archivedAt: null, updatedAt: now, version: row.version + 1 };
        return {
          status: 200,
          body: shownFlag(state.project.key, next),
          etag: etagOf(next.version),
          write: {
            statements: [
              ...updateFlag(db, next),
              touchConfigurations(db, row.id, now),
              ...state.environments.flatMap(({ id }) =>
                dependencyStatements(db, id, "flag", key, references(documents.get(id)!)),
              ),
            ],
            edits: everywhere(state, (id) => documents.get(id)!, key),
            project: state.project,
            audit: audited("flag.unarchive", state, key, { archivedAt: { from: row.archivedAt, to: null } }),
          },
        };
      },
      c.req.valid("json").reason,
    );
    return c.json({ ...done.body, environments: done.deliveries }, 200);
  })
  .openapi(remove, async (c) => {
    const { flag: key } = c.req.valid("param");
    await write(c, async () => {
      const state = await projectOf(c, key);
      const row = flagOf(state, key);
      requireMatch(c, etagOf(row.version));
      if (row.archivedAt === null) throw conflict("not-archived", `Archive the flag ${key} before deleting it.`);
      return {
        status: 204,
        body: null,
        write: {
          statements: deleteFlag(c.var.db, row),
          // The documents went when it was archived.
          project: state.project,
          audit: audited("flag.delete", state, key, { key: { from: key } }),
        },
      };
    });
    return c.body(null, 204);
  });

const NONE = { flags: [], segments: [] };

/** Read after the heads of `state`: a reference made since then makes the write lose its race. */
async function usesOf(c: AdminContext, { environments }: ProjectState, key: string): Promise<Use[]> {
  const rows = await dependentsOf(
    c.var.db,
    environments.map(({ id }) => id),
    "flag",
    key,
  );
  const names = new Map(environments.map((one) => [one.id, one.key]));
  return rows.map((row) => ({ environment: names.get(row.environmentId) ?? "", kind: row.kind, key: row.key }));
}
