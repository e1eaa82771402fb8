/** Change requests as requests and answers carry them. */

import type { ChangeRequestRow, EventRow } from "../../../store/approvals/change-requests.ts";
import { description, key, name, time, validationError } from "../../http/contract.ts";
import { instantOrNull } from "../../http/quantities.ts";
import { z } from "../../http/zod.ts";
import { delivery } from "../../write/hub-client.ts";
import { preview } from "../../write/preview.ts";
import { person } from "../participants.ts";
import { change } from "./requested-operation.ts";

export const about = {
  title: name,
  description,
  publishAt: instantOrNull.openapi({
    description:
      "When it is published, if it has its approvals by then: epoch milliseconds, or ISO 8601 with an offset; null: when somebody publishes it",
  }),
};

export const status = z.enum(["draft", "open", "failed", "published", "withdrawn"]);
export const listedChangeRequest = z
  .object({
    id: z.string(),
    project: key,
    environment: key.nullable().openapi({ description: "null: it changes what all environments have in common" }),
    operation: z.string().openapi({ example: "updateSegment" }),
    path: z.record(z.string(), z.unknown()).openapi({ description: "The operation's parameters" }),
    title: z.string(),
    description: z.string(),
    status,
    author: person,
    revision: z.number().int().openapi({ description: "An approval is of one revision; editing makes another" }),
    publishAt: time.nullable(),
    failure: z
      .object({ at: time, code: z.string(), detail: z.string() })
      .nullable()
      .openapi({ description: "Why it was not published at its time" }),
    version: z.number().int(),
    createdAt: time,
    updatedAt: time,
    publishedAt: time.nullable(),
  })
  .openapi("ListedChangeRequest");

const said = z.object({ by: person, at: time, comment: z.string().nullable() });
const document = z.record(z.string(), z.unknown());
/** `environment` is null for what all of them have in common of a flag. */
const place = { environment: key.nullable(), kind: z.enum(["flag", "segment"]), key };

/** A dry run of a step says what the step would do, and no more of the change. */
const ownPreview = z
  .object({
    ...preview.shape,
    documents: z
      .array(
        z.object({
          ...place,
          current: document.nullable().optional().openapi({ description: "As it is now; null: not there" }),
          proposed: document.nullable().optional().openapi({ description: "What publishing would make of it now" }),
        }),
      )
      .optional()
      .openapi({
        description:
          "The first hundred that it would change; those that are too large to show, or beyond the reader's scope, without their text",
      }),
    conflicts: z
      .array(
        z.object({
          ...place,
          path: z.string(),
          base: z.unknown().optional(),
          current: z.unknown().optional(),
          proposed: z.unknown().optional(),
        }),
      )
      .optional()
      .openapi({ description: "What somebody has changed since, and publishing would change again" }),
    obstacle: z
      .object({ code: z.string(), detail: z.string(), errors: z.array(validationError).optional() })
      .nullable()
      .optional()
      .openapi({
        description:
          "What the request itself would be refused with now: an instruction that has lost its object, no room in the environment",
      }),
    publishable: z.boolean().optional(),
  })
  .openapi("ChangeRequestPreview");

export const changeRequest = listedChangeRequest
  .extend({
    change,
    approvals: z.array(said),
    objections: z.array(said).openapi({ description: "Who has asked for changes, and not approved since" }),
    preview: ownPreview.nullable().openapi({ description: "null once it is published or withdrawn" }),
  })
  .openapi("ChangeRequest");

export const publishedChangeRequest = changeRequest
  .extend({
    published: z
      .record(z.string(), delivery)
      .optional()
      .openapi({ description: "The change's way to the clients, by environment" }),
  })
  .openapi("PublishedChangeRequest");

export const event = z
  .object({
    version: z.number().int(),
    kind: z.enum([
      "open",
      "submit",
      "edit",
      "rebase",
      "comment",
      "approve",
      "request-changes",
      "withdraw",
      "publish",
      "fail",
    ]),
    revision: z.number().int(),
    by: person,
    at: time,
    comment: z.string().nullable(),
  })
  .openapi("ChangeRequestEvent");

export const shownRow = (
  { project, environment }: { project: string; environment: string | null },
  row: Omit<ChangeRequestRow, "seq">,
): z.infer<typeof listedChangeRequest> => ({
  id: row.id,
  project,
  environment,
  operation: row.operation,
  path: row.path,
  title: row.title,
  description: row.description,
  status: row.status,
  author: { id: row.authorId, name: row.author },
  revision: row.revision,
  publishAt: row.publishAt,
  failure: row.failure,
  version: row.version,
  createdAt: row.createdAt,
  updatedAt: row.updatedAt,
  publishedAt: row.publishedAt,
});

export const shownSaid = ({ actorId, actor, at, comment }: EventRow): z.infer<typeof said> => ({
  by: { id: actorId, name: actor },
  at,
  comment,
});

export const shownEvent = ({ version, kind, revision, ...row }: EventRow): z.infer<typeof event> => ({
  version,
  kind,
  revision,
  ...shownSaid(row as EventRow),
});
