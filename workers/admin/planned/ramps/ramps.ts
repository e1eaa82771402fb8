/** Splits that are moved step by step. Whoever begins one has planned all of its steps. */

import * as store from "../../../store/planned/ramps.ts";
import { visibleEnvironments } from "../../http/access.ts";
import { page } from "../../http/contract.ts";
import { etagOf, requireIfMatch } from "../../http/if-match.ts";
import { listing, rampedQuery } from "../../http/pagination.ts";
import { z } from "../../http/zod.ts";
import { operation } from "../../operation.ts";
import { catchUp } from "../../write/hub-client.ts";
import type { Requested } from "../../write/request.ts";
import type { Written } from "../../write/write.ts";
import { plannedThere, projectThere } from "../planned.ts";
import { planStart } from "./begin.ts";
import { begunRamp, newRamp, ramp, shownRamp, status, writtenRamp } from "./representation.ts";
import type { RampEvent } from "./state.ts";
import { planRamp } from "./write.ts";

const PATH = "/projects/{project}/ramps" as const;

const begin = operation({
  id: "createRamp",
  method: "post",
  path: PATH,
  tag: "ramps",
  summary: "Begin a ramp: its first step now, the others in their time",
  role: "editor",
  reach: "part",
  body: newRamp,
  status: 201,
  answer: begunRamp,
  returns: "Begun",
  example: {
    environment: "production",
    flag: "new-checkout",
    variation: "on",
    steps: [{ weight: 25_000, forMs: 86_400_000 }, { weight: 50_000, forMs: 86_400_000 }, { weight: 100_000 }],
    reason: "Launch",
  },
  problems: {
    403: ["approval-required"],
    409: ["archived", "killed", "flag-off", "rule-gone", "ramp-at-work"],
    413: ["ruleset-too-large"],
  },
  plan: planStart,
  requestable: planStart,
  respond: ({ body, deliveries }, requested) => ({ ...body, ...deliveries[requested.body.environment] }),
});

const list = operation({
  id: "listRamps",
  method: "get",
  path: PATH,
  tag: "ramps",
  summary: "List ramps, those that are over too",
  role: "viewer",
  query: rampedQuery.extend({ status: status.optional() }),
  answer: page(ramp),
  returns: "Ramps",
  handle: async (requested, c) => {
    const { environment, flag, author, status, q, ...order } = requested.query;
    const { page, answerOf } = await listing(c, order, "id");
    const { id: projectId, key } = await projectThere(requested);
    const visible = visibleEnvironments(requested.scope, key);
    const rows = await store.listRamps(
      requested.db,
      { projectId, visible, environment, flag, author, status, q },
      page,
    );
    return answerOf(rows, shownRamp);
  },
});

const RAMP = `${PATH}/{ramp}` as const;
type Path = { project: string; ramp: string };

const rampOf = (requested: Pick<Requested<Path>, "db" | "scope" | "path">) =>
  plannedThere(requested, "ramp", requested.path.ramp, store.findRamp);

const read = operation({
  id: "readRamp",
  method: "get",
  path: RAMP,
  tag: "ramps",
  summary: "Read a ramp",
  role: "viewer",
  answer: ramp,
  returns: "The ramp",
  handle: async (requested, c) => {
    const { row, environment } = await rampOf(requested);
    c.header("etag", etagOf(row.version));
    return shownRamp({ ...row, environment: environment.environment });
  },
});

/** A plan of what becomes of a ramp by what somebody wants of it. */
const planning =
  <Body>(eventOf: (requested: Requested<Path, Body>, now: number) => RampEvent) =>
  async (requested: Requested<Path, Body>, now: number) => {
    const { db, env, by } = requested;
    const there = await rampOf(requested);
    requireIfMatch(requested, etagOf(there.row.version));
    return planRamp({ db, env }, there, eventOf(requested, now), now, by);
  };

async function respond({ body, deliveries }: Written<ReturnType<typeof shownRamp>>, requested: Requested<Path>) {
  const { environment } = await rampOf(requested);
  return { ...body, ...(deliveries[environment.environment] ?? (await catchUp(requested.env, environment))) };
}

/** What every change of a ramp has in common. */
const change = {
  method: "post",
  tag: "ramps",
  role: "editor",
  reach: "part",
  answer: writtenRamp,
  returns: "The ramp",
  ifMatch: true,
  respond,
} as const;

/** Why a ramp cannot go on. */
const OBSTACLES = ["ramp-ended", "flag-gone", "archived", "rule-gone", "edited", "killed", "flag-off"] as const;

const pause = operation({
  ...change,
  id: "pauseRamp",
  path: `${RAMP}/pause`,
  summary: "Stay at the step that it is at",
  example: { reason: "Over the weekend" },
  problems: { 409: ["ramp-ended"] },
  plan: planning(({ by, reason = "Somebody has paused it." }, at) => ({
    kind: "pause",
    pause: { code: "requested", detail: reason, by: by.actor, at },
  })),
});

const resume = operation({
  ...change,
  id: "resumeRamp",
  path: `${RAMP}/resume`,
  summary: "Go on with what is left of the step",
  example: {},
  problems: { 409: OBSTACLES },
  plan: planning(() => ({ kind: "resume" })),
});

const jump = operation({
  ...change,
  id: "jumpRamp",
  path: `${RAMP}/jump`,
  summary: "Go to a step, forwards or back; it has its whole time there",
  body: z.strictObject({ step: z.number().int().min(0).openapi({ description: "From 0" }) }),
  example: { step: 1 },
  problems: { 403: ["approval-required"], 409: OBSTACLES, 413: ["ruleset-too-large"] },
  plan: planning(({ body }: { body: { step: number } }) => ({ kind: "jump", step: body.step })),
});

const abort = operation({
  ...change,
  id: "abortRamp",
  path: `${RAMP}/abort`,
  summary: "End it: everybody is served what they were before it began",
  example: { reason: "Fewer orders" },
  problems: { 409: ["ramp-ended"], 413: ["ruleset-too-large"] },
  plan: planning(() => ({ kind: "abort" })),
});

export const ramps = [begin, list, read, pause, resume, jump, abort];
