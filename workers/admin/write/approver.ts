/** Whose approval a policy asks for, as requests and answers carry it. */

import { key } from "../http/contract.ts";
import { z } from "../http/zod.ts";
import { MAX_SCOPE } from "../limits.ts";

/** Nobody below an approver can approve. */
const approverRole = z.enum(["approver", "admin"]);
export const approvers = z
  .union([
    z.strictObject({ role: approverRole }).openapi({ description: "Whoever has at least this role" }),
    z.strictObject({ group: key }).openapi({ description: "Whoever's token is in this group" }),
    z.strictObject({ members: z.array(key).min(1).max(MAX_SCOPE) }).openapi({ description: "These tokens, by id" }),
  ])
  .openapi("Approvers", { example: { group: "payments" } });
