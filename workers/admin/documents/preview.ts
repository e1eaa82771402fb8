/** What a dry run says of a change before it is made. */
import { z } from "../http/zod.ts";

export const changes = z.record(z.string(), z.object({ from: z.unknown().optional(), to: z.unknown().optional() }));

export const moved = z.array(
  z.object({
    rule: z.string().nullable(),
    movements: z.array(z.object({ from: z.string().nullable(), to: z.string().nullable(), weight: z.number().int() })),
  }),
);

/** What an edit would change, and whom it would move. */
export const preview = z.object({ changes, moved });
