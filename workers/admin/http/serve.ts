/** What every request of an operation goes through, in this order, whatever the operation. */
import { D1_MS, within } from "../../platform/deadline.ts";
import type { Operation } from "../operation.ts";
import { authenticate, authorize } from "./access.ts";
import { readBody } from "./body.ts";
import type { AdminContext } from "./context.ts";
import { reason } from "./contract.ts";
import { answerOnce } from "./idempotency.ts";
import { checkQuery } from "./query.ts";
import { parsed } from "./validation-errors.ts";

export async function serve(operation: Operation, c: AdminContext): Promise<Response> {
  await authenticate(c, operation);
  authorize(c, operation);
  checkQuery(c, operation.parameters);
  if (operation.isWrite) c.set("reason", reasonInHeader(c));
  if (operation.upload !== undefined) return operation.handle(c, {});
  const { text, json } = await readBody(c, operation);
  return answerOnce(c, operation, text, () =>
    operation.method === "get" ? within(operation.handle(c, json), D1_MS, "reading") : operation.handle(c, json),
  );
}

const reasonInHeader = (c: AdminContext): string | undefined =>
  parsed(reason.optional(), c.req.header("x-bunting-reason") || undefined, "header:/X-Bunting-Reason");
