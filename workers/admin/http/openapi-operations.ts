/** What the OpenAPI document says of each operation beyond its shapes: a name, a request to try, and its own problems. */

export type Operation = {
  name?: string;
  /** A body that is taken as it is, after those above it: test/admin/http/openapi.test.ts sends them all. */
  example?: object | string | ((now: number) => object);
  /** Codes beside those that many routes share, by status. */
  problems?: Record<number, readonly string[]>;
  /** Of a POST that only asks: it takes no `?dryRun`, no Idempotency-Key and no reason. */
  isRead?: true;
  /** Whether it heeds If-Match; every PATCH, PUT and DELETE does unless told. */
  ifMatch?: boolean;
};

const TOO_LARGE = ["ruleset-too-large"] as const;
const TARGETING = { 403: ["approval-required"], 409: ["archived"], 413: TOO_LARGE } as const;
const rollout = { split: { weights: { on: 10_000, off: 90_000 } } };
const BOOLEAN = [
  { key: "on", value: true },
  { key: "off", value: false },
];

const targeting = "/projects/{project}/flags/{flag}/environments/{environment}";
const members = "/projects/{project}/environments/{environment}/segments/{segment}/members";

/** What a step of a change request can be refused for. */
const STATE = ["wrong-state", "too-many-events"] as const;
/** What a write that it carries can be refused for, planned anew. */
const CARRIED = [
  ...["changes-nothing", "archived", "not-archived", "rule-gone", "rule-exists", "in-use", "would-not-work"],
  ...["has-members", "already-exists", "not-revertible", "changed-since", "too-many-tags"],
  ...["killed", "flag-off", "ramp-at-work"],
] as const;
const CARRIED_SIZE = ["change-too-large", ...TOO_LARGE] as const;
const changeRequest = "/projects/{project}/change-requests/{changeRequest}";
const schedule = "/projects/{project}/schedules";
const PLANNED = ["archived", "rule-gone", "rule-exists"] as const;
const ramp = "/projects/{project}/ramps/{id}";
/** What a ramp that is to go on can meet. */
const GOES_ON = ["ramp-ended", "flag-gone", "archived", "rule-gone", "edited", "killed", "flag-off"] as const;

/** By method and path. What is not here is named by its path, and is right with the shared problems. */
export const operations: Record<string, Operation> = {
  "POST /projects": { example: { key: "demo", name: "Demo" }, problems: { 409: ["already-exists"] } },
  "PATCH /projects/{project}": { example: { description: "What we try things with" } },
  "DELETE /projects/{project}": { problems: { 409: ["in-use"] } },
  "POST /projects/{project}/environments": {
    example: { key: "production", name: "Production", location: "weur" },
    problems: { 409: ["already-exists", "too-many-environments"], 413: TOO_LARGE },
  },
  "PATCH /projects/{project}/environments/{environment}": { example: { name: "Live" } },
  "DELETE /projects/{project}/environments/{environment}": { problems: { 409: ["in-use"] } },
  "POST /projects/{project}/flags": {
    example: { key: "new-checkout", type: "boolean", variations: BOOLEAN, tags: ["checkout"], temporary: true },
    problems: { 409: ["already-exists"], 413: TOO_LARGE },
  },
  "PATCH /projects/{project}/flags/{flag}": {
    example: { name: "New checkout", owner: "team-checkout", clientSide: true },
    problems: { 403: ["approval-required"], 409: ["archived", "in-use"], 413: TOO_LARGE },
  },
  "DELETE /projects/{project}/flags/{flag}": { problems: { 409: ["not-archived"] } },
  "POST /projects/{project}/flags/bulk": {
    name: "changeFlags",
    example: { action: "addTags", keys: ["new-checkout"], tags: ["payment"], reason: "Owned by payments now" },
    problems: { 403: ["approval-required"], 413: ["change-too-large", ...TOO_LARGE] },
  },
  "POST /projects/{project}/flags/{flag}/archive": {
    example: { reason: "Everybody has it" },
    problems: { 403: ["approval-required"], 409: ["in-use"] },
    ifMatch: true,
  },
  "POST /projects/{project}/flags/{flag}/unarchive": {
    example: {},
    problems: { 403: ["approval-required"], 409: ["would-not-work"], 413: TOO_LARGE },
    ifMatch: true,
  },
  [`GET ${targeting}`]: { name: "readTargeting" },
  [`PATCH ${targeting}`]: {
    name: "updateTargeting",
    example: { on: true, fallthrough: rollout, reason: "Ten percent" },
    problems: TARGETING,
  },
  [`PUT ${targeting}`]: {
    name: "replaceTargeting",
    example: { on: true, offVariation: "off", fallthrough: { variation: "off" } },
    problems: TARGETING,
  },
  [`POST ${targeting}/instructions`]: {
    name: "editTargeting",
    example: {
      instructions: [{ kind: "addTargets", variation: "on", values: ["user-1"] }],
      reason: "Their tester",
    },
    problems: { 403: ["approval-required"], 409: ["archived", "rule-gone", "rule-exists"], 413: TOO_LARGE },
    ifMatch: true,
  },
  [`POST ${targeting}/on`]: { name: "turnFlagOn", example: { reason: "Launch" }, problems: TARGETING, ifMatch: true },
  [`POST ${targeting}/off`]: { name: "turnFlagOff", example: {}, problems: TARGETING, ifMatch: true },
  [`POST ${targeting}/evaluate`]: {
    name: "evaluateFlag",
    isRead: true,
    example: { context: { targetingKey: "user-1", plan: "pro" } },
  },
  [`POST ${targeting}/kill`]: {
    name: "killFlag",
    example: { reason: "Orders fail" },
    problems: { 404: ["unknown-flag"], 409: ["restored-since"] },
  },
  [`POST ${targeting}/restore`]: {
    name: "restoreFlag",
    example: {},
    problems: { 404: ["unknown-flag"], 409: ["killed-since"] },
  },
  "GET /projects/{project}/environments/{environment}/propagation": {
    name: "readReceipt",
    problems: { 404: ["unknown-revision"] },
  },
  "POST /projects/{project}/environments/{environment}/segments": {
    example: { key: "beta-testers", included: ["user-1"] },
    problems: { 409: ["already-exists"], 413: TOO_LARGE },
  },
  "PATCH /projects/{project}/environments/{environment}/segments/{segment}": {
    example: { rules: [{ conditions: [{ attribute: "plan", op: "in", values: ["pro"] }] }] },
    problems: { 403: ["approval-required"], 413: TOO_LARGE },
  },
  "DELETE /projects/{project}/environments/{environment}/segments/{segment}": { problems: { 409: ["in-use"] } },
  [`GET ${members}`]: { name: "readMembers" },
  [`PATCH ${members}`]: {
    name: "changeMembers",
    example: { add: ["user-1", "user-2"], remove: ["user-3"] },
    problems: { 413: ["too-many-members"] },
    ifMatch: false,
  },
  [`POST ${members}`]: {
    name: "uploadMembers",
    example: '"user-4"\n{"key": "user-5"}\n',
    problems: {
      409: ["upload-in-progress"],
      413: ["too-many-members", "too-many-lines", "compressed-too-well"],
    },
  },
  [`GET ${members}/{member}`]: { name: "findMember" },
  "POST /projects/{project}/environments/{environment}/keys": {
    example: { kind: "server", name: "Shop backend" },
  },
  "PATCH /projects/{project}/environments/{environment}/keys/{key}": {
    example: { name: "Shop backend, old" },
    problems: { 409: ["revoked"] },
  },
  "GET /projects/{project}/environments/{environment}/dependents": { name: "listDependents" },
  "PUT /projects/{project}/code-references": {
    name: "replaceCodeReferences",
    example: {
      repository: "github.com/acme/shop",
      branch: "main",
      commit: "0123abc",
      references: [{ flag: "new-checkout", path: "src/pay.ts", line: 12, snippet: 'flags.boolean("new-checkout")' }],
    },
    problems: { 409: ["too-many-repositories"] },
    ifMatch: false,
  },
  "POST /projects/{project}/policies": {
    example: { key: "payments", tags: ["money"], approvers: { group: "payments" }, approvals: 1 },
    problems: { 409: ["already-exists", "too-many-policies"] },
  },
  "PATCH /projects/{project}/policies/{policy}": { example: { share: 50_001 } },
  "POST /projects/{project}/change-requests": {
    example: {
      title: "A fifth",
      change: {
        operation: "editTargeting",
        path: { environment: "production", flag: "new-checkout" },
        body: { instructions: [{ kind: "setServe", serve: { split: { weights: { on: 20_000, off: 80_000 } } } }] },
      },
    },
    problems: {
      409: ["too-many-change-requests", ...CARRIED],
      412: ["changed-since"],
      413: CARRIED_SIZE,
    },
  },
  [`PATCH ${changeRequest}`]: {
    example: { title: "A fifth of them", description: "It went well with a tenth." },
    problems: { 409: [...STATE, ...CARRIED], 412: ["changed-since"], 413: CARRIED_SIZE },
  },
  [`POST ${changeRequest}/submit`]: {
    example: { comment: "Ready to be looked at" },
    problems: { 409: STATE },
    ifMatch: true,
  },
  [`POST ${changeRequest}/comments`]: {
    name: "commentOnChangeRequest",
    example: { comment: "Is the load test done?" },
    problems: { 409: STATE },
    ifMatch: true,
  },
  [`POST ${changeRequest}/approve`]: {
    example: { revision: 1, comment: "It is" },
    problems: { 409: [...STATE, "other-revision"] },
    ifMatch: true,
  },
  [`POST ${changeRequest}/request-changes`]: {
    name: "requestChanges",
    example: { revision: 1, comment: "Not before the load test" },
    problems: { 409: [...STATE, "other-revision"] },
    ifMatch: true,
  },
  [`POST ${changeRequest}/withdraw`]: {
    example: { comment: "Not needed any more" },
    problems: { 409: STATE },
    ifMatch: true,
  },
  [`POST ${changeRequest}/rebase`]: {
    example: { comment: "Still what we want" },
    problems: { 409: [...STATE, ...CARRIED], 412: ["changed-since"], 413: CARRIED_SIZE },
    ifMatch: true,
  },
  [`POST ${changeRequest}/publish`]: {
    example: { reason: "Approved" },
    problems: {
      403: ["approval-required"],
      409: [...STATE, "changes-requested", "change-request-conflicts", ...CARRIED],
      412: ["changed-since"],
      413: CARRIED_SIZE,
    },
    ifMatch: true,
  },
  "POST /projects/{project}/kill-reviews/{killReview}/close": {
    example: { comment: "Orders failed indeed; fixed in 4.2" },
    ifMatch: true,
  },
  [`POST ${schedule}`]: {
    example: (now) => ({
      environment: "production",
      flag: "new-checkout",
      at: now + 7 * 86_400_000,
      instructions: [{ kind: "turnOff" }],
      reason: "The sale is over",
    }),
    problems: { 403: ["approval-required"], 409: [...PLANNED, "too-many-schedules"], 413: TOO_LARGE },
  },
  [`PATCH ${schedule}/{id}`]: {
    example: { reason: "The sale goes on for a week" },
    problems: { 403: ["approval-required"], 409: [...PLANNED, "schedule-ended"], 413: TOO_LARGE },
  },
  [`DELETE ${schedule}/{id}`]: { problems: { 409: ["schedule-ended"] } },
  "POST /projects/{project}/ramps": {
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
      413: TOO_LARGE,
    },
  },
  [`POST ${ramp}/pause`]: { example: { reason: "Over the weekend" }, problems: { 409: ["ramp-ended"] }, ifMatch: true },
  [`POST ${ramp}/resume`]: { example: {}, problems: { 409: GOES_ON }, ifMatch: true },
  [`POST ${ramp}/jump`]: {
    example: { step: 1 },
    problems: { 403: ["approval-required"], 409: GOES_ON, 413: TOO_LARGE },
    ifMatch: true,
  },
  [`POST ${ramp}/abort`]: {
    example: { reason: "Fewer orders" },
    problems: { 409: ["ramp-ended"], 413: TOO_LARGE },
    ifMatch: true,
  },
  "POST /projects/{project}/promote": {
    name: "promoteChanges",
    example: { from: "staging", to: "production", items: [{ flag: "new-checkout", parts: ["rules"] }] },
    problems: {
      403: ["approval-required"],
      409: ["archived", "has-members", "would-not-work", "in-use"],
      412: ["changed-since"],
      413: ["change-too-large", ...TOO_LARGE],
    },
  },
  "GET /projects/{project}/compare": { name: "compareEnvironments" },
  "GET /projects/{project}/environments/{environment}/stale": { name: "listStaleFlags" },
  "POST /tokens": { example: { name: "CI", role: "editor", scope: { projects: ["demo"] } } },
  "PATCH /tokens/{token}": { example: { name: "CI of the shop" }, problems: { 409: ["revoked"] } },
  "GET /audit": { name: "listAudit" },
  "GET /audit/export": { name: "exportAudit" },
  "GET /audit/{id}": { name: "readAuditEntry" },
  "POST /audit/{id}/revert": {
    name: "revertAuditEntry",
    example: { reason: "It was not meant" },
    problems: {
      403: ["approval-required"],
      409: ["not-revertible", "changed-since", "would-not-work", "archived", "already-exists", "has-members", "in-use"],
      413: ["change-too-large", ...TOO_LARGE],
    },
  },
  "GET /me": { name: "readMe" },
};

export const isWrite = (method: string, path: string): boolean =>
  method.toLowerCase() !== "get" && operations[`${method.toUpperCase()} ${path}`]?.isRead !== true;

/** What stands in a path, in the examples. */
export const pathExamples: Record<string, string> = {
  project: "demo",
  environment: "production",
  flag: "new-checkout",
  segment: "beta-testers",
  member: "user-1",
  policy: "payments",
};
