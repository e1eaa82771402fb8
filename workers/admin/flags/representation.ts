/** How answers show a flag, as such and as one environment serves it. */
import type { Flag, Rule, Serve } from "@bunting/core";
import type { EnvironmentName } from "../../store/credentials.ts";
import type { FlagRow } from "../../store/documents.ts";
import type { KillRow } from "../../store/flags/flags.ts";
import { condition, flagType, variation } from "../documents/schema.ts";
import { shownServe } from "../documents/splits.ts";
import { key, name, pending, time, validationError } from "../http/contract.ts";
import { z } from "../http/zod.ts";
import { delivery } from "../write/hub-client.ts";

export const flag = z
  .object({
    key,
    project: key,
    name,
    description: z.string(),
    type: flagType,
    variations: z.array(variation),
    tags: z.array(z.string()),
    owner: z.string().nullable(),
    temporary: z.boolean(),
    clientSide: z.boolean(),
    version: z.number().int(),
    createdAt: time,
    updatedAt: time,
    archivedAt: time.nullable(),
  })
  .openapi("Flag");

/** A flag's change reaches every environment, each by its own hub. */
export const writtenFlag = flag
  .extend({ environments: z.record(z.string(), delivery).optional() })
  .openapi("WrittenFlag");

export const shownFlag = (project: string, row: FlagRow): z.infer<typeof flag> => ({
  key: row.key,
  project,
  name: row.name,
  description: row.description,
  type: row.type,
  variations: row.variations,
  tags: row.tags,
  owner: row.owner,
  temporary: row.temporary,
  clientSide: row.clientSide,
  version: row.version,
  createdAt: row.createdAt,
  updatedAt: row.updatedAt,
  archivedAt: row.archivedAt,
});

const shownSplit = z.object({
  split: z.object({
    by: z.string(),
    seed: z.string(),
    hash: z.string(),
    ranges: z.array(z.object({ variation: z.string(), from: z.number().int(), to: z.number().int() })),
    weights: z.record(z.string(), z.number().int()),
  }),
});
export const serve = z.union([z.object({ variation: z.string() }), shownSplit]).openapi("ServeShown");

export const kill = z
  .object({
    by: z.string(),
    at: time,
    reason: z.string(),
    pending,
  })
  .openapi("Kill");

export const targeting = z
  .object({
    flag: key,
    environment: key,
    version: z.number().int(),
    on: z.boolean(),
    offVariation: z.string().nullable(),
    prerequisites: z.array(z.object({ flag: z.string(), variations: z.array(z.string()) })),
    targets: z.array(
      z.object({ variation: z.string(), values: z.array(z.string()), attribute: z.string().optional() }),
    ),
    rules: z.array(
      z.object({ id: z.string(), description: z.string().optional(), conditions: z.array(condition), serve }),
    ),
    fallthrough: serve,
    trackExposures: z.boolean(),
    killed: kill.nullable(),
  })
  .openapi("Targeting");

export const writtenTargeting = targeting
  .extend(delivery.shape)
  .extend({
    warnings: z.array(validationError).optional().openapi({
      description: "What is legal and surely not meant: a rule that can never match, a split of less than everybody",
    }),
  })
  .openapi("WrittenTargeting");

export const shownTargeting = (
  { environment }: EnvironmentName,
  document: Flag,
  killed: KillRow | null,
): z.infer<typeof targeting> => ({
  flag: document.key,
  environment,
  version: document.version,
  on: document.on,
  offVariation: document.offVariation,
  prerequisites: document.prerequisites,
  targets: document.targets,
  rules: document.rules.map((rule: Rule) => ({ ...rule, serve: shownServe(rule.serve) })),
  fallthrough: shownServe(document.fallthrough satisfies Serve),
  trackExposures: document.trackExposures,
  killed: killed?.killed ? { by: killed.by, at: killed.at, reason: killed.reason } : null,
});
