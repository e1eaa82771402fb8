/** What a policy asks for: which changes, and whose approvals. Pure. */

import type { Approvers, policies } from "../schema/approvals.ts";
import { ROLES, type Role } from "../schema/index.ts";

export type PolicyRow = typeof policies.$inferSelect;

/** A change of what one environment serves: the tags of all flags that it reaches, and how many thousandths of a percent of users. */
export type Affected = { environment: string; tags: string[]; share: number };

/** Whoever approves, as a policy knows them. */
export type Approver = { id: string; role: Role; groups: string[] };

type Condition = Pick<PolicyRow, "enabled" | "environments" | "tags" | "share">;

/** All parts of its condition hold; an empty list holds for anything. */
export function isMet({ enabled, environments, tags, share }: Condition, affected: Affected): boolean {
  if (!enabled || affected.share < share) return false;
  if (environments.length > 0 && !environments.includes(affected.environment)) return false;
  return tags.length === 0 || tags.some((tag) => affected.tags.includes(tag));
}

/** Whether a flag is taken from under a policy by taking tags from it: that needs what a change of the flag needs. */
export const isEscaped = ({ enabled, tags }: Condition, before: string[], after: string[]): boolean =>
  enabled && tags.some((tag) => before.includes(tag)) && !tags.some((tag) => after.includes(tag));

export const isAtLeast = (role: Role, least: Role) => ROLES.indexOf(role) >= ROLES.indexOf(least);

export function isNamed(approvers: Approvers, { id, role, groups }: Approver): boolean {
  if ("role" in approvers) return isAtLeast(role, approvers.role);
  if ("group" in approvers) return groups.includes(approvers.group);
  return approvers.members.includes(id);
}

/** Whether somebody may make a change without anybody's approval. */
export const isExempt = ({ bypass }: Pick<PolicyRow, "bypass">, role: Role | null): boolean =>
  bypass !== null && role !== null && isAtLeast(role, bypass);

/** How many approvals a policy has of those that it asks for; one person counts once, and for each policy that names them. */
export type Given<Policy> = { policy: Policy; given: number };

export const given = <Policy extends Pick<PolicyRow, "approvers">>(
  policies: Policy[],
  approvedBy: Approver[],
): Given<Policy>[] => {
  const people = [...new Map(approvedBy.map((one) => [one.id, one])).values()];
  return policies.map((policy) => ({
    policy,
    given: people.filter((one) => isNamed(policy.approvers, one)).length,
  }));
};

export const lacking = <Policy extends Pick<PolicyRow, "approvers" | "approvals">>(all: Given<Policy>[]) =>
  all.filter(({ policy, given }) => given < policy.approvals);
