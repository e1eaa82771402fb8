import type { Env } from "../../workers/env.ts";
import { SEGMENT_MS, within } from "../../workers/platform/deadline.ts";
import type { Documents } from "../../workers/store/outbox/change.ts";

/**
 * After Time Travel, D1's members may be older than those in their segment objects, which rebuild from their own
 * (decisions/0004).
 */
export async function rebuildFilters(
  { BIG_SEGMENT }: Pick<Env, "BIG_SEGMENT">,
  environmentId: string,
  segments: Documents["segments"],
): Promise<void> {
  for (const [key, segment] of Object.entries(segments)) {
    if (segment === null) continue;
    const object = BIG_SEGMENT.get(BIG_SEGMENT.idFromName(`${environmentId}/${key}`));
    await within(object.rebuild(), SEGMENT_MS, "a segment").catch((error: unknown) => {
      const message = "a segment did not rebuild its filter";
      console.warn(JSON.stringify({ level: "warn", message, hub: environmentId, segment: key, error: String(error) }));
    });
  }
}
