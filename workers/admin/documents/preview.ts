/** What is said of a change before it is made: the shapes of its parts. */
import { z } from "../http/zod.ts";

export const changes = z.record(z.string(), z.object({ from: z.unknown().optional(), to: z.unknown().optional() }));

const unknown = z.literal("unknown");
const movement = z.object({ from: z.string().nullable(), to: z.string().nullable(), weight: z.number().int() });
const movements = z.union([z.array(movement), unknown]);

/** Within one flag of one environment. */
export const movedInFlag = z.array(z.object({ rule: z.string().nullable(), movements }));

export const moved = z
  .array(
    z.object({
      environment: z.string(),
      kind: z.enum(["flag", "segment"]),
      key: z.string(),
      rule: z.string().nullable().openapi({ description: "Where they are decided on; null: the fallthrough" }),
      movements: movements.openapi({
        description: "Thousandths of a percent of those who get there; a null variation is the code's default",
      }),
    }),
  )
  .openapi({ description: "Who would be served something else; users that are targeted one by one are not counted" });

export const share = z.union([z.number().int(), unknown]).openapi({
  description: "At most how many of all users would move, in thousandths of a percent",
  example: 25_000,
});
