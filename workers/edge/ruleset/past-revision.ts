/** A ruleset as it was published once, from R2 and from what the hub has not archived yet. */
import type { Ruleset } from "@bunting/core";
import type { Delta } from "@bunting/core/wire";
import type { Env } from "../../env.ts";
import { HISTORY_READ_MS, within } from "../../platform/deadline.ts";
import { Rebuilding, readRevision } from "../../store/r2-history.ts";

/** Encoded as it was then. Null: not kept, or never published. Throws where R2 or the hub cannot be asked. */
export async function pastRuleset(env: Env, environmentId: string, revision: number): Promise<string | null> {
  // Once more, because what the hub had not archived may have gone to R2 between the two questions.
  for (let tries = 0; tries < 2; tries++) {
    const rebuilding =
      (await readRevision(env.REVISIONS_BUCKET, environmentId, revision)) ?? (await initialRuleset(env, environmentId));
    if (rebuilding !== null && (await completed(env, environmentId, rebuilding, revision))) return rebuilding.text();
  }
  return null;
}

/** The hub's first ruleset, until it is archived. */
async function initialRuleset(env: Env, environmentId: string): Promise<Rebuilding | null> {
  const base = await within(hubOf(env, environmentId).initialRuleset(), HISTORY_READ_MS, "hub");
  return base === null ? null : new Rebuilding(JSON.parse(base) as Ruleset);
}

async function completed(env: Env, environmentId: string, rebuilding: Rebuilding, revision: number): Promise<boolean> {
  while (rebuilding.revision < revision) {
    const before = rebuilding.revision;
    const patches = await within(hubOf(env, environmentId).patches(before), HISTORY_READ_MS, "hub");
    for (const patch of patches) rebuilding.apply(JSON.parse(patch) as Delta, revision);
    if (rebuilding.revision === before) return false;
  }
  return rebuilding.revision === revision;
}

const hubOf = (env: Env, environmentId: string) => env.HUB.get(env.HUB.idFromName(environmentId));
