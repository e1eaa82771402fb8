/** What `?dryRun=true` of a write answers: all that the write itself is, but for committing it. */
import { z } from "../http/zod.ts";
import { newSecret } from "../../store/credentials.ts";
import { changes, moved } from "../documents/preview.ts";
import type { AdminContext } from "../http/context.ts";
import { type Approval, approvalRequired, policyMet, shownGiven } from "./approval.ts";
import type { Audited, Plan } from "./plan.ts";

export const dryRunAnswer = z
  .object({
    changes: changes.openapi({ description: "As the audit log would have them" }),
    also: z
      .array(z.object({ type: z.string(), key: z.string(), changes }))
      .optional()
      .openapi({ description: "The other entries of the log, where it would write several" }),
    moved: moved.optional().openapi({
      description: "Who would move, by rule (null: the fallthrough), in thousandths of a percent",
    }),
    policies: z.array(policyMet.extend({ bypassed: z.boolean() })).openapi({
      description: "Those that it would meet, and whether the caller may do without their approvals",
    }),
  })
  .openapi("DryRun", { description: "What `?dryRun=true` says; an `id` of something new is only an example." });
export type Preview = z.infer<typeof dryRunAnswer>;

/**
 * Thrown in place of the commit, so that nothing that follows a write is done, whatever the operation; `answerProblem` sends
 * its answer.
 */
export class DryRun extends Error {
  override name = "DryRun";
  readonly answer: object;

  constructor(body: object | null, dryRun: Preview) {
    super("Nothing was written");
    this.answer = { ...body, dryRun };
  }
}

/** @throws ApiError 403 where approvals are lacking, which says as well what it would do. */
export function previewOf(made: Plan<unknown>, { met, lacking, bypassed }: Omit<Approval, "guard">): Preview {
  const { audit, alsoAudited = [] } = made.write ?? {};
  const dryRun: Preview = {
    changes: audit?.changes ?? {},
    ...(alsoAudited.length > 0 && { also: alsoAudited.map(entryOf) }),
    ...(made.moved && { moved: made.moved }),
    policies: met.map((one) => ({ ...shownGiven(one), bypassed: bypassed.includes(one.policy) })),
  };
  if (lacking.length > 0) throw approvalRequired(lacking, { dryRun });
  return dryRun;
}

const entryOf = ({ type, key, changes }: Audited) => ({ type, key, changes });

/** A dry run makes no secret, and shows of one what all of its kind begin with. */
export async function secretFor(c: AdminContext, prefix: string): ReturnType<typeof newSecret> {
  if (!c.var.dryRun) return newSecret(prefix);
  const shown = `${prefix}_…`;
  return { secret: shown, hash: "", shown };
}
