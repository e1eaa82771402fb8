/** Every operation of the management API, in an order in which all succeed, with the OpenAPI document's examples. */
import { expect } from "vitest";
import { type Api, newToken, openContract } from "./admin.ts";

type Parameter = { name?: string; in?: string; example?: string; $ref?: string; schema?: { type?: string } };
export type Operation = {
  path: string;
  method: string;
  operationId: string;
  parameters?: Parameter[];
  requestBody?: { content: Record<string, { example?: unknown }> };
  responses: Record<string, unknown>;
};

export const contract = await openContract();
export const operations = Object.entries(contract.document.paths).flatMap(([path, item]) =>
  Object.entries(item).map(([method, operation]) => ({ ...(operation as object), path, method }) as Operation),
);
const byId = new Map(operations.map((operation) => [operation.operationId, operation]));

/** Requests take turns with these tokens, so that none exceeds its rate limit. */
const tokens = await Promise.all(Array.from({ length: 12 }, () => newToken()));
let sent = 0;
export const api: Api = (...request) => tokens[sent++ % tokens.length]!(...request);

/** Resources have the keys of the examples, or ids that are remembered. */
const first = [
  ...["createProject", "updateProject", "createEnvironment", "updateEnvironment", "createFlag", "updateFlag"],
  ...["changeFlags", "updateTargeting", "replaceTargeting", "editTargeting", "turnFlagOff", "turnFlagOn"],
  ...["evaluateFlag", "killFlag", "restoreFlag", "createSegment", "updateSegment", "changeMembers", "uploadMembers"],
  ...["createKey", "updateKey", "createToken", "updateToken", "replaceCodeReferences"],
  ...["createRamp", "pauseRamp", "resumeRamp", "jumpRamp", "abortRamp", "createSchedule", "updateSchedule"],
  ...["deleteSchedule", "createPolicy", "updatePolicy", "createChangeRequest", "requestChanges"],
  ...["updateChangeRequest", "rebaseChangeRequest", "submitChangeRequest", "withdrawChangeRequest"],
  ...["createChangeRequest", "commentOnChangeRequest", "approveChangeRequest", "publishChangeRequest"],
  ...["promoteChanges", "closeKillReview"],
];
/** Operations that only the author of a change request may do. */
const own = new Set(["updateChangeRequest", "rebaseChangeRequest", "submitChangeRequest"]);
const last = [
  ...["revertAuditEntry", "archiveFlag", "unarchiveFlag", "archiveFlag", "deleteKey", "deletePolicy", "deleteToken"],
  ...["deleteFlag", "deleteSegment", "deleteEnvironment", "deleteProject"],
];
export const written = [...first, ...last].map((id) => byId.get(id)!);

// Operations with an id that this story does not create are tested elsewhere.
const made = /\/(keys\/\{key\}|tokens\/\{token\}|audit\/\{id\})/;
const findable =
  (path: string) =>
  ({ in: place, example }: Parameter) =>
    place !== "path" || example !== undefined || made.test(path);
export const reads = operations.filter(
  ({ operationId, method, path, parameters = [] }) =>
    method === "get" && operationId !== "compareEnvironments" && parameters.every(findable(path)),
);

export type Sentence = Pick<Operation, "operationId"> & {
  by: Api;
  method: string;
  place: string;
  query: string;
  body: unknown;
  headers: Record<string, string>;
};

/** Passes each request to `send`. Each has to succeed. */
export async function playStory(send: (sentence: Sentence) => ReturnType<Api>): Promise<void> {
  const ids: Record<string, string> = {};
  const author = await newToken();
  const example = (id: string) => Object.values(byId.get(id)!.requestBody?.content ?? {})[0]?.example as object;
  for (const id of [...first, ...reads.map(({ operationId }) => operationId), ...last]) {
    if (id === "submitChangeRequest") {
      const draft = { ...example("createChangeRequest"), draft: true };
      ids.changeRequest = (await author("POST", "/projects/demo/change-requests", draft)).body.id;
    }
    if (id === "closeKillReview") {
      const policy = { key: "all", approvers: { role: "admin" }, approvals: 1 };
      await author("POST", "/projects/demo/policies", policy);
      const killed = "/projects/demo/flags/new-checkout/environments/production";
      await author("POST", `${killed}/kill`, { reason: "Orders fail" });
      await author("POST", `${killed}/restore`, {});
      await author("DELETE", "/projects/demo/policies/all");
      ids.killReview = (await author("GET", "/projects/demo/kill-reviews")).body.items[0].id;
    }
    const { path, method, parameters = [], requestBody } = byId.get(id)!;
    const place = path.replace(/\{(\w+)\}/g, (_, name: string) => {
      return ids[name] ?? parameters.find((one) => one.name === name)?.example ?? "";
    });
    if (id === "deleteProject") await api("DELETE", "/projects/demo/environments/staging");
    const queries = { listDependents: "?flag=new-checkout", listFlagSummaries: "?environments=production" };
    const query = queries[id as keyof typeof queries] ?? "";
    const [type, content] = Object.entries(requestBody?.content ?? {})[0] ?? [];
    const headers: Record<string, string> = type === undefined ? {} : { "content-type": type };
    const by = id === "createChangeRequest" || own.has(id) ? author : api;
    const request = {
      operationId: id,
      by,
      method: method.toUpperCase(),
      place,
      query,
      body: content?.example,
      headers,
    };
    const { status, body } = await send(request);
    expect([id, status, status < 300 ? "" : body]).toEqual([id, expect.toSatisfy((code) => code < 300), ""]);
    if (id === "createEnvironment") await api("POST", "/projects/demo/environments", { key: "staging" });
    if (id === "createKey") ids.key = body.id;
    if (id === "createRamp") ids.ramp = body.id;
    if (id === "createSchedule") ids.schedule = body.id;
    if (id === "createChangeRequest") ids.changeRequest = body.id;
    if (id === "createToken") ids.token = body.id;
    if (body?.receiptPath !== undefined) ids.revision = String(body.revision);
    if (id === "listAudit") {
      ids.entry = body.items.find(({ action }: { action: string }) => action === "flag.update").id;
    }
  }
}
