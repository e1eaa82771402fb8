/** Where flags are in people's code: sent by their CI, a repository at a time. */

import { badRequest, conflict, notFound } from "../../platform/problem.ts";
import { sha256 } from "../../platform/sha256.ts";
import { findRepository, listReferences, replaceReferences, unknownFlags } from "../../store/flags/code-references.ts";
import { findProject } from "../../store/projects.ts";
import { difference } from "../documents/diff.ts";
import { firstErrors } from "../documents/schema.ts";
import { key, page, pageOf, pageQuery, time } from "../http/contract.ts";
import { z } from "../http/zod.ts";
import { MAX_NAME, MAX_REFERENCES, MAX_REPOSITORIES, MAX_TEXT } from "../limits.ts";
import { operation } from "../operation.ts";

const repository = z.string().min(1).max(MAX_NAME).openapi({ example: "github.com/acme/shop" });
const commit = z.string().regex(/^[0-9a-f]{7,64}$/, "7 to 64 of 0-9 a-f.");
const branch = z.string().min(1).max(MAX_NAME);
const place = {
  flag: key,
  path: z.string().min(1).max(MAX_TEXT).openapi({ example: "src/checkout.ts" }),
  line: z.number().int().min(1).max(10_000_000),
};

const upload = operation({
  id: "replaceCodeReferences",
  method: "put",
  path: "/projects/{project}/code-references",
  tag: "code references",
  summary: "Replace what is known of a repository",
  description: "All references at once: those that are not sent are gone. The same again changes nothing.",
  role: "editor",
  body: z.strictObject({
    repository,
    commit,
    branch,
    references: firstErrors(
      z.array(z.strictObject({ ...place, snippet: z.string().max(MAX_TEXT).optional() })).max(MAX_REFERENCES),
    ),
  }),
  answer: z
    .object({
      repository,
      commit: z.string(),
      branch,
      uploadedAt: time,
      references: z.number().int(),
      unknownFlags: z.array(z.string()).openapi({
        description: "Keys in the code that are no flag of the project, the first hundred",
      }),
    })
    .openapi("CodeRepository"),
  returns: "What is known now",
  example: {
    repository: "github.com/acme/shop",
    branch: "main",
    commit: "0123abc",
    references: [{ flag: "new-checkout", path: "src/pay.ts", line: 12, snippet: 'flags.boolean("new-checkout")' }],
  },
  problems: { 409: ["too-many-repositories"] },
  ifMatch: false,
  plan: async ({ db, path, body }, now) => {
    const { repository, commit, branch } = body;
    // A tool that finds a flag twice in a line means one place.
    const places = new Map(body.references.map((one) => [`${one.flag} ${one.line} ${one.path}`, one]));
    const references = [...places.values()];
    const hash = await sha256(JSON.stringify([commit, branch, references]));
    const project = await findProject(db, path.project);
    if (project === undefined) throw notFound(`The project ${path.project}`);
    const { row: before, repositories } = await findRepository(db, project.id, repository);
    if (before === undefined && repositories >= MAX_REPOSITORIES) {
      throw conflict("too-many-repositories", `A project has at most ${MAX_REPOSITORIES} repositories.`);
    }
    const keys = [...new Set(references.map(({ flag }) => flag))];
    const unknown = await unknownFlags(db, project.id, keys);
    const isSame = before?.hash === hash;
    const uploadedAt = isSame ? before.uploadedAt : now;
    const counted = references.length;
    const known = { repository, commit, branch, uploadedAt, references: counted, unknownFlags: unknown };
    if (isSame) return { status: 200, body: known };
    const row = { projectId: project.id, repository, commit, branch, hash, references: counted, uploadedAt };
    const was = before && { commit: before.commit, branch: before.branch, references: before.references };
    return {
      status: 200,
      body: known,
      write: {
        statements: replaceReferences(db, row, references),
        // Never together with the project's end, which would leave them behind.
        project,
        audit: {
          action: "repository.upload",
          type: "repository",
          project: path.project,
          key: repository,
          changes: difference(was ?? {}, { commit, branch, references: counted }),
        },
      },
    };
  },
  respond: ({ body }) => body,
});

const list = operation({
  id: "listCodeReferences",
  method: "get",
  path: "/projects/{project}/code-references",
  tag: "code references",
  summary: "Where flags are in the code",
  role: "viewer",
  query: pageQuery.extend({
    flag: z.string().max(128).optional(),
    repository: repository.optional(),
    q: z.string().max(MAX_NAME).optional().openapi({ description: "Text in the path or the snippet" }),
  }),
  answer: page(
    z
      .object({
        ...place,
        snippet: z.string().nullable(),
        repository,
        commit: z.string(),
        branch,
        uploadedAt: time,
      })
      .openapi("CodeReference"),
  ),
  returns: "References, each repository's in the order it was sent",
  handle: async ({ db, path, query }) => {
    const { limit, cursor, ...filter } = query;
    const after = Number(cursor ?? 0);
    if (!Number.isSafeInteger(after) || after < 0) throw badRequest("The cursor is not from this list.");
    const project = await findProject(db, path.project);
    if (project === undefined) throw notFound(`The project ${path.project}`);
    const rows = await listReferences(db, project.id, filter, { limit: limit + 1, after });
    return pageOf(
      rows,
      limit,
      ({ id }) => String(id),
      ({ id: _, ...row }) => row,
    );
  },
});

export const codeReferences = [upload, list];
