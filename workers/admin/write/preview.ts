/** What a write would do, before it is made: what `?dryRun=true` answers, and what is planned for later says as well. */
import { newSecret } from "../../store/credentials.ts";
import type { Database } from "../../store/database.ts";
import { movedIn, shareMoved } from "../documents/moved.ts";
import { changes, moved, share } from "../documents/preview.ts";
import type { AdminContext } from "../http/context.ts";
import { z } from "../http/zod.ts";
import { type Approval, approvalRequired, policyMet, shownGiven } from "./approval.ts";
import { touchedBy } from "./changed-documents.ts";
import type { Audited, Plan } from "./plan.ts";

export const preview = z
  .object({
    changes: changes.openapi({ description: "As the audit log would have them" }),
    also: z
      .array(z.object({ type: z.string(), key: z.string(), changes }))
      .optional()
      .openapi({ description: "The other entries of the log, where it would write several" }),
    moved,
    share,
    policies: z.array(policyMet.extend({ bypassed: z.boolean() })).openapi({
      description: "Those that it would meet, and whether the caller may do without their approvals",
    }),
  })
  .openapi("Preview", { description: "What a write would do; an `id` of something new is only an example." });
export type Preview = z.infer<typeof preview>;

/**
 * Thrown in place of the commit, so that nothing that follows a write is done, whatever the operation; `answerProblem` sends
 * its answer. A body that has a preview of its own, of what it plans for later, keeps that.
 */
export class DryRun extends Error {
  override name = "DryRun";
  readonly answer: object;

  constructor(body: object | null, preview: Preview) {
    super("Nothing was written");
    const { preview: own }: { preview?: unknown } = body ?? {};
    this.answer = { ...body, preview: own ?? preview };
  }
}

export const NO_APPROVAL: Omit<Approval, "guard"> = { met: [], lacking: [], bypassed: [] };

/** @throws LostRace where the documents are no longer those that the plan was made on. */
export async function previewOf(
  db: Database,
  made: Pick<Plan<unknown>, "write">,
  { met, bypassed }: Omit<Approval, "guard">,
): Promise<Preview> {
  const { audit, alsoAudited = [] } = made.write ?? {};
  const places = movedIn(await touchedBy(db, made));
  return {
    changes: audit?.changes ?? {},
    ...(alsoAudited.length > 0 && { also: alsoAudited.map(entryOf) }),
    moved: places,
    share: shareMoved(places),
    policies: met.map((one) => ({ ...shownGiven(one), bypassed: bypassed.includes(one.policy) })),
  };
}

/** @throws ApiError 403 where approvals are lacking, with the preview of what they are lacking for. */
export async function dryRunOf(db: Database, made: Plan<unknown>, approval: Omit<Approval, "guard">): Promise<DryRun> {
  const shown = await previewOf(db, made, approval);
  if (approval.lacking.length > 0) throw approvalRequired(approval.lacking, { preview: shown });
  return new DryRun(made.body as object | null, shown);
}

const entryOf = ({ type, key, changes }: Audited) => ({ type, key, changes });

/** A dry run makes no secret, and shows of one what all of its kind begin with. */
export async function secretFor(c: AdminContext, prefix: string): ReturnType<typeof newSecret> {
  if (!c.var.dryRun) return newSecret(prefix);
  const shown = `${prefix}_…`;
  return { secret: shown, hash: "", shown };
}
