/** One list for ten thousand flags: all of a project's, with what up to five of its environments serve. */

import { isKey } from "@bunting/core";
import type { Env } from "../../env.ts";
import { isKnown } from "../../platform/if-none-match.ts";
import { notFound } from "../../platform/problem.ts";
import { sha256 } from "../../platform/sha256.ts";
import type { Database } from "../../store/database.ts";
import {
  countListed,
  type FlagListed,
  flagPages,
  type ListState,
  listState,
  mirroredKills,
} from "../../store/flags/summaries.ts";
import type { EnvironmentRow, ProjectRow } from "../../store/projects.ts";
import { serves, servesOf } from "../documents/flag-summary.ts";
import { flagType } from "../documents/schema.ts";
import { requireScope } from "../http/access.ts";
import { key, name, time } from "../http/contract.ts";
import { answerLines } from "../http/lines.ts";
import { z } from "../http/zod.ts";
import { MAX_LISTED_ENVIRONMENTS } from "../limits.ts";
import { operation } from "../operation.ts";
import { killsThere } from "../write/hub-client.ts";

/** The first line. */
export const listHead = z.strictObject({
  project: key,
  /** How many lines follow. */
  flags: z.number().int(),
  /** `killsKnown` is false where the hub is silent: kills are then those that D1 has been told of. */
  environments: z.record(z.string(), z.strictObject({ killsKnown: z.boolean() })),
});

const there = z.strictObject({
  on: z.boolean(),
  killed: z.boolean(),
  serves,
  scheduled: z.number().int(),
  ramping: z.boolean(),
  version: z.number().int(),
  changedAt: time,
});

/** Every line after it. */
export const flagLine = z.strictObject({
  key,
  name,
  type: flagType,
  tags: z.array(z.string()),
  owner: z.string().nullable(),
  temporary: z.boolean(),
  updatedAt: time,
  environments: z.record(z.string(), there),
});

const list = operation({
  id: "listFlagSummaries",
  method: "get",
  path: "/projects/{project}/flags/summary",
  tag: "flags",
  summary: "All flags that are not archived, with what environments serve, one a line",
  description:
    "The first line is about the whole: `{project, flags, environments: {production: {killsKnown}}}`, where `flags` is how many lines follow. Then a line for each flag, by key: `{key, name, type, tags, owner, temporary, updatedAt, environments: {production: {on, killed, serves, scheduled, ramping, version, changedAt}}}`. `serves` leaves a kill aside. It is `{variation}` where everybody is served the same (null is the code's default), `{split}` with the thousandths of a percent of each variation (what is missing is served the off variation), or how many `{rules, targets, prerequisites}` decide.",
  role: "viewer",
  query: z.object({
    environments: z
      .string()
      .max(1_024)
      .transform((text) => [...new Set(text.split(","))])
      .refine(
        (keys) => keys.length <= MAX_LISTED_ENVIRONMENTS && keys.every(isKey),
        `1 to ${MAX_LISTED_ENVIRONMENTS} keys of environments, separated by commas`,
      )
      .openapi({ description: "1 to 5 keys, separated by commas", example: "production,staging" }),
  }),
  conditional: true,
  answerType: "application/x-ndjson",
  returns: "Flags by key, a line of JSON each, after one about them all",
  handle: async ({ env, db, scope, path, query }, c) => {
    for (const environment of query.environments) requireScope(scope, path.project, environment, true);
    const state = await listState(db, path.project, query.environments);
    if (state === null) throw notFound(`The project ${path.project}`);
    const columns = await columnsOf(env, db, state, query.environments);
    const headers = { etag: await etagOf(state.project, columns), "cache-control": "private, max-age=0" };
    if (isKnown(c.req.header("if-none-match"), headers.etag)) {
      return c.body(null, 304, { ...headers, vary: "accept-encoding" });
    }
    return answerLines(c, linesOf(db, state.project, columns), headers);
  },
});

export const flagSummaries = [list];

/** What is known of an environment before any flag is read. `killed` holds keys, the others ids of flags. */
type Column = {
  row: EnvironmentRow;
  killsKnown: boolean;
  killed: Set<string>;
  scheduled: Map<string, number>;
  ramping: Set<string>;
  ramps: ListState["ramping"];
};

/** In the order of the request. @throws ApiError 404 */
async function columnsOf(env: Env, db: Database, state: ListState, keys: string[]): Promise<Column[]> {
  const rows = keys.map((key) => {
    const row = state.environments.find((one) => one.key === key);
    if (row === undefined) throw notFound(`The environment ${state.project.key}/${key}`);
    return row;
  });
  const answers = await Promise.all(rows.map((row) => killsThere(env, row)));
  const silent = rows.filter((_, index) => answers[index] === null).map(({ id }) => id);
  const mirrored = silent.length === 0 ? [] : await mirroredKills(db, silent);
  return rows.map((row, index) => {
    const answer = answers[index] ?? null;
    const isHere = ({ environmentId }: { environmentId: string }) => environmentId === row.id;
    const killed = answer === null ? mirrored.filter(isHere).map(({ flagKey }) => flagKey) : Object.keys(answer.killed);
    const scheduled = new Map<string, number>();
    for (const { flagId } of state.scheduled.filter(isHere)) scheduled.set(flagId, (scheduled.get(flagId) ?? 0) + 1);
    const ramps = state.ramping.filter(isHere);
    const ramping = new Set(ramps.map(({ flagId }) => flagId));
    return { row, killsKnown: answer !== null, killed: new Set(killed), scheduled, ramping, ramps };
  });
}

/** Raised when lines say the same in other words. */
const FORMAT = 1;

/**
 * Of all that a line is made of. What a flag says of itself counts in the project's version, what an environment serves in
 * its last change. Weak: the same list may come compressed or not.
 */
async function etagOf(project: ProjectRow, columns: Column[]): Promise<string> {
  const each = columns.map(({ row, killsKnown, killed, scheduled, ramps }) => [
    row.key,
    row.id,
    row.changeId,
    killsKnown,
    [...killed].sort(),
    [...scheduled].map((one) => one.join("=")).sort(),
    ramps.map(({ id, version }) => `${id}=${version}`).sort(),
  ]);
  const hash = await sha256(JSON.stringify([FORMAT, project.id, project.version, each]));
  return `W/"${hash.slice(0, 32)}"`;
}

/** What is written meanwhile may be in the lines that are yet to come: the ETag is that of before, so the next one differs. */
async function* linesOf(db: Database, project: ProjectRow, columns: Column[]): AsyncGenerator<object[], undefined> {
  const flags = await countListed(db, project.id);
  const environments = Object.fromEntries(columns.map(({ row, killsKnown }) => [row.key, { killsKnown }]));
  let first: z.infer<typeof listHead>[] = [{ project: project.key, flags, environments }];
  const ids = columns.map(({ row }) => row.id);
  for await (const page of flagPages(db, project.id, ids)) {
    yield [...first, ...page.map((flag) => lineOf(flag, columns))];
    first = [];
  }
}

function lineOf({ id, there, ...flag }: FlagListed, columns: Column[]): z.infer<typeof flagLine> {
  const environments = columns.map(({ row, killed, scheduled, ramping }, index) => {
    const found = there[index];
    // The answer has begun: it is cut off, which the number of its lines shows.
    if (!found) throw new Error(`The environment ${row.key} was deleted while it was listed`);
    const [version, on, changedAt, summary] = found;
    const shown = {
      on: on === 1,
      serves: servesOf(summary),
      killed: killed.has(flag.key),
      scheduled: scheduled.get(id) ?? 0,
      ramping: ramping.has(id),
      version,
      changedAt,
    };
    return [row.key, shown] as const;
  });
  return { ...flag, environments: Object.fromEntries(environments) };
}
