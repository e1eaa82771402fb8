/** Who said what of a change, as requests and answers carry it. */
import { z } from "../http/zod.ts";
import { reason } from "../http/contract.ts";

export const person = z.object({ id: z.string(), name: z.string() });

export const comment = reason;
