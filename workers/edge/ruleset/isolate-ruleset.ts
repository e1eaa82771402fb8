/** What an isolate holds of one environment, and what a request brings to it. Types only. */
import type { Evaluator } from "@bunting/core";
import type { RelayCounts } from "../../../durable-objects/fan-out/tree.ts";
import type { Env } from "../../env.ts";
import type { Circuit } from "../../platform/deadline.ts";
import type { KeyGrant } from "../../store/outbox/change.ts";
import type { History } from "./recent-changes.ts";

export type IsolateRuleset = {
  readonly environmentId: string;
  evaluator: Evaluator;
  keys: Record<string, KeyGrant>;
  history: History;
  /** The encoded ruleset, until the next revision; made on demand. */
  text: string | null;
  bytes: number;
  /** When the last check began that told what the relay has. Serving something older than that is serving it stale. */
  checkedAt: number;
  usedAt: number;
  /** How many relays each region has; `share`, in [0, 1), says which of them this isolate asks. */
  relays: RelayCounts;
  share: number;
  /** How often each revision was named by polls since the last check, for receipts. */
  polls: Map<number, number>;
  checking: Promise<void> | null;
  /** Until then a request of this isolate is fetching all of a change that is too large for a message. Epoch ms. */
  fetchingUntil: number;
  /** Around the relay: a dead one costs a wait now and then, not one for every request. */
  circuit: Circuit;
};

/** What a request brings: its place decides the relay, its context carries work beyond the answer. */
export type Visit = {
  env: Env;
  ctx: Pick<ExecutionContext, "waitUntil">;
  /** Its `cf` is JSON until somebody asks for it: few requests do. */
  request: { readonly cf?: unknown };
};
