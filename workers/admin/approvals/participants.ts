/** Who said what of a change, as requests and answers carry it. */

import { reason } from "../http/contract.ts";
import { z } from "../http/zod.ts";

export const person = z.object({ id: z.string(), name: z.string() });

export const comment = reason;
