import { expect, test } from "vitest";
import { BOOLEAN, newFlag, newProject, newToken } from "../../support/admin.ts";

const api = await newToken();
const project = await newProject(api);
const there = `${await newFlag(api, project, "spelled")}/environments/production`;

const serve = { variation: "on" };
const rule = (fields: object) => ({ rules: [{ conditions: [], serve, ...fields }] });
const condition = (fields: object) => ({ rules: [{ conditions: [{ attribute: "plan", ...fields }], serve }] });

test.each([
  ["another case", { offvariation: "off" }, "/offvariation", "Did you mean `offVariation`?"],
  ["another separator", { off_variation: "off" }, "/off_variation", "Did you mean `offVariation`?"],
  ["a wrong letter", { fallthru: serve, fallthrouhg: serve }, "/fallthrouhg", "Did you mean `fallthrough`?"],
  ["a misspelling inside a rule", rule({ descripton: "x" }), "/rules/0/descripton", "Did you mean `description`?"],
  ["a misspelling in a split", { fallthrough: { split: { wieghts: {} } } }, "/fallthrough/split/wieghts", "`weights`?"],
  ["enabled", { enabled: true }, "/enabled", "Did you mean `on`?"],
  ["targetingEnabled", { targetingEnabled: true }, "/targetingEnabled", "Did you mean `on`?"],
  ["strategies", { strategies: [] }, "/strategies", "Did you mean `rules`?"],
  ["clauses", rule({ clauses: [] }), "/rules/0/clauses", "Did you mean `conditions`?"],
  ["operator", condition({ operator: "in", values: [1] }), "/rules/0/conditions/0/operator", "Did you mean `op`?"],
  ["value", condition({ op: "in", value: "pro" }), "/rules/0/conditions/0/value", "Did you mean `values`?"],
  ["equals", condition({ equals: "pro" }), "/rules/0/conditions/0/equals", '`op: "in"` with `values`'],
  ["percentage", rule({ percentage: 10 }), "/rules/0/percentage", "A rollout is `serve: {split: {weights}}`."],
  ["rollout", { rollout: 10 }, "/rollout", "A rollout is `fallthrough: {split: {weights}}`."],
  ["what is only shown", { killed: true }, "/killed", "Use …/kill and …/restore."],
  ["what is like nothing", { zzzzzzzzz: 1 }, "/zzzzzzzzz", "There is no such field here"],
  ["a name of every object", { toString: 1 }, "/toString", "There is no such field here"],
  ["what is too long to compare", { ["on".repeat(5_000)]: 1 }, `/${"on".repeat(5_000)}`, "There is no such field here"],
])("an unknown field gets what was meant by it: %s", async (_, body, pointer, message) => {
  const answer = await api("PATCH", there, body);
  expect([answer.status, answer.body.code]).toEqual([400, "invalid-request"]);
  expect(answer.body.errors).toContainEqual({
    pointer,
    code: "unknown-field",
    message: expect.stringContaining(message),
  });
});

test("a remedy is only given where it helps: a word of other systems is not replaced by a field that is unknown there", async () => {
  const { body } = await api("POST", `/projects/${project}/flags`, { key: "x", type: "boolean", enabled: true });
  expect(body.errors).toEqual([
    { pointer: "/enabled", code: "unknown-field", message: expect.stringContaining("There is no such field here") },
  ]);
});

test("a boolean flag that is created without variations has `on` and `off`", async () => {
  const created = await api("POST", `/projects/${project}/flags`, { key: "plain", type: "boolean" });
  expect([created.status, created.body.variations]).toEqual([201, BOOLEAN]);
  const answer = await api("POST", `/projects/${project}/flags/plain/environments/production/on`, {});
  expect([answer.status, answer.body.offVariation]).toEqual([200, "off"]);
});

test("a flag of another type is not created without variations", async () => {
  for (const type of ["string", "number", "json"]) {
    const { status, body } = await api("POST", `/projects/${project}/flags`, { key: `plain-${type}`, type });
    expect([type, status, body.errors[0].pointer]).toEqual([type, 400, "/variations"]);
  }
});
