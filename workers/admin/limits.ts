/** What the management plane accepts, and why no more. Depth and rates stand where they are enforced. */
import { LIMITS } from "@bunting/core/validate";

/** One request. Far above any sensible document, far below an isolate's 128 MB. Bytes. */
export const MAX_BODY_BYTES = 1_048_576;
/** A flag or segment as stored: an audit entry holds what it was and what it is in one D1 row of 2 MB. Bytes. */
export const MAX_DOCUMENT_BYTES = 900_000;
/** All documents that one write changes in one environment: a row of the outbox holds them. Bytes. */
export const MAX_CHANGE_BYTES = 1_500_000;
/** A JSON variation travels to every client with each change of its flag. Bytes. */
export const MAX_VALUE_BYTES = LIMITS.valueBytes;

/** All flags and segments of an environment together. Bytes. */
export const MAX_RULESET_BYTES = LIMITS.rulesetBytes;
/** A project-level edit writes three rows for each environment in one transaction. */
export const MAX_ENVIRONMENTS = 50;
/** docs/evaluation.md, "Limits": core's, which also knows what a request cannot show. */
export const MAX_VARIATIONS = LIMITS.variations;
/** Rules are tried in order at every evaluation. */
export const MAX_RULES = LIMITS.rules;
export const MAX_CONDITIONS = LIMITS.conditions;
export const MAX_CONDITION_VALUES = LIMITS.values;
export const MAX_PREREQUISITES = 100;
/** Longer lists are segments. */
export const MAX_VALUES = 50_000;

/** Of a project in one request; each has an entry in the audit log. */
export const MAX_FLAGS_AT_ONCE = 500;
/** In one request: a bulk of targets is one instruction. */
export const MAX_INSTRUCTIONS = 100;
/** Members of a big segment in one PATCH: what is committed and published at once. */
export const MAX_MEMBERS_AT_ONCE = 1_000;

/** Whose state a list of all flags shows: each is a hub that is asked, and so much more of a line. */
export const MAX_LISTED_ENVIRONMENTS = 5;

/** Documents that one request promotes. */
export const MAX_PROMOTED = 100;
/** Places in the code of one repository, sent at once, and repositories of a project. */
export const MAX_REFERENCES = 10_000;
export const MAX_REPOSITORIES = 100;

export const MAX_NAME = 256;
export const MAX_DESCRIPTION = 4_096;
export const MAX_TAGS = 50;
export const MAX_TAG = 64;
/** What a person writes to explain a change; it is kept forever. */
export const MAX_REASON = 1_024;
/** An attribute's value, a segment's member: longer ones are no identifiers. */
export const MAX_TEXT = 1_024;
export const MAX_ORIGINS = 50;
/** Projects or environments that a token names. */
export const MAX_SCOPE = 100;
/** A cursor holds a name and a key, in letters of four bytes at the most. */
export const MAX_CURSOR = 4_096;
/** Tags that a list of flags is narrowed by. */
export const MAX_TAGS_IN_QUERY = 10;
/** Of a project: each write looks at all of them. */
export const MAX_POLICIES = 100;
/** That one policy asks for: more is a meeting. */
export const MAX_APPROVALS = 10;
/** Draft and open in a project: a queue that nobody works off is refused, not kept. */
export const MAX_CHANGE_REQUESTS = 1_000;
/** What one asks for, with the documents as they are: a row of D1 holds it. Bytes of JSON. */
export const MAX_REQUESTED_BYTES = 1_800_000;
/** Documents that an answer shows, beside the changes of all of them. */
export const MAX_SHOWN = 100;
/** Tags that a list knows a change request by. */
export const MAX_TAGS_KEPT = 1_000;
/** All that can happen to one change request, which each step reads. */
export const MAX_EVENTS = 500;
/** Changes that wait for their time in one environment. */
export const MAX_PENDING_SCHEDULES = 1_000;
/** One of them: a page of a hundred is read and answered whole. Bytes of JSON. */
export const MAX_SCHEDULED_BYTES = 65_536;
/** From now to a schedule's time, and the longest that a ramp stays at one step: who plans further ahead forgets. Milliseconds. */
export const MAX_AHEAD_MS = 366 * 24 * 60 * 60_000;
export const MAX_STEPS = 20;
/** Shorter steps than the way to the clients takes would show nothing. Milliseconds. */
export const MIN_STEP_MS = 1_000;
export const MAX_GUARDS = 10;
/** In one answer. */
export const MAX_VALIDATION_ERRORS = 100;
/** The longest that a write waits for its receipt. Milliseconds. */
export const MAX_WAIT_MS = 10_000;
