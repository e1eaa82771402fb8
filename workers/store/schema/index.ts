/** D1's tables, all of them: what drizzle and queries know. docs/storage.md says who writes each. */
export * from "./approvals.ts";
export * from "./audit.ts";
export * from "./planned.ts";
export * from "./tables.ts";
