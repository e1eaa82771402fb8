/** Policies as requests and answers carry them. */

import type { PolicyRow } from "../../store/approvals/policy.ts";
import { ROLES } from "../../store/schema/index.ts";
import { description, key, name, time } from "../http/contract.ts";
import { share } from "../http/quantities.ts";
import { z } from "../http/zod.ts";
import { MAX_APPROVALS, MAX_ENVIRONMENTS, MAX_TAG, MAX_TAGS } from "../limits.ts";
import { approvers } from "../write/approver.ts";

/** What people set of a policy. */
export const fields = z.strictObject({
  name,
  description,
  enabled: z.boolean(),
  environments: z.array(key).max(MAX_ENVIRONMENTS).openapi({ description: "An empty list: in all of them" }),
  tags: z
    .array(z.string().min(1).max(MAX_TAG))
    .max(MAX_TAGS)
    .openapi({ description: "Flags with one of these; an empty list: all flags" }),
  share: share().openapi({
    description: "The least share of users affected, in thousandths of a percent or as a percentage; 0: any change",
    example: 50_001,
  }),
  approvers,
  approvals: z.number().int().min(1).max(MAX_APPROVALS).openapi({ description: "How many of them" }),
  bypass: z.enum(ROLES).nullable().openapi({
    description:
      "From this role on, a change may be made without approvals, which the audit log tells; null: by nobody",
  }),
});

export const policy = z
  .object({
    ...fields.shape,
    share: z.number().int(),
    key,
    project: key,
    version: z.number().int(),
    createdAt: time,
    updatedAt: time,
  })
  .openapi("Policy");

export const shownPolicy = (project: string, row: PolicyRow): z.infer<typeof policy> => {
  const { id: _, projectId: __, ...shown } = row;
  return { ...shown, project, approvers: row.approvers as z.infer<typeof approvers> };
};
