import { expect, test } from "vitest";
import { type Api, BOOLEAN, newFlag, newProject, newToken } from "../../support/admin.ts";

/** Ten people: this is not about how often one may ask. */
const people = await Promise.all(Array.from({ length: 10 }, (_, index) => newToken({ name: `person ${index}` })));
const person = (index: number): Api => people[index % people.length]!;
const api = person(0);
const project = await newProject(api);

type Entry = { actor: string; correlation_id: string; changes: Record<string, { from?: unknown; to?: unknown }> };
const auditOf = async (key: string): Promise<Entry[]> =>
  (await api("GET", `/audit?project=${project}&key=${key}&action=flag.update&limit=100`)).body.items.reverse();

test("fifty writers of one flag, each sending twice: nothing is lost, order is kept, the audit log is complete", async () => {
  const there = `${await newFlag(api, project, "crowded")}/environments/production`;
  const users = Array.from({ length: 50 }, (_, index) => `user-${index}`);
  const add = async (user: string, index: number) => {
    const edit = { instructions: [{ kind: "addTargets", variation: "on", values: [user] }] };
    const headers = { "idempotency-key": user, "x-correlation-id": user };
    // On a busy machine the line would take longer than a request may wait: then nothing was written.
    for (let tries = 0; ; tries++) {
      const answer = await person(index)("POST", `${there}/instructions`, edit, headers);
      if (answer.status !== 429 || tries === 20) return answer;
      expect(answer.body.waiting).toBeGreaterThan(1);
      await new Promise((resolve) => setTimeout(resolve, Number(answer.headers.get("retry-after")) * 100));
    }
  };
  const answers = await Promise.all(users.flatMap((user, index) => [add(user, index), add(user, index)]));
  expect(answers.map(({ status }) => status)).toEqual(Array(100).fill(200));
  // Each pair is one write, told twice.
  const versions = users.map((_, index) => {
    const [one, other] = [answers[2 * index]!, answers[2 * index + 1]!];
    expect(one.body.version).toBe(other.body.version);
    return one.body.version as number;
  });
  expect(versions.toSorted((a, b) => a - b)).toEqual(users.map((_, index) => index + 2));

  const { body: last } = await api("GET", there);
  expect(last.version).toBe(51);
  expect(new Set(last.targets[0].values)).toEqual(new Set(users));
  // The log tells them in the order in which they took effect, each from what the one before it left.
  const entries = await auditOf("crowded");
  const inOrder = users.toSorted((a, b) => versions[users.indexOf(a)]! - versions[users.indexOf(b)]!);
  expect(entries.map(({ correlation_id }) => correlation_id)).toEqual(inOrder);
  expect(last.targets[0].values).toEqual(inOrder);
  entries.forEach(({ actor, correlation_id }) => {
    expect(actor).toBe(`person ${users.indexOf(correlation_id) % people.length}`);
  });
  // What went out last is all of it.
  const { body: receipt } = await api(
    "GET",
    `/projects/${project}/environments/production/receipts/${Math.max(
      ...answers.map(({ body }) => body.revision as number),
    )}`,
  );
  expect(receipt.publishedAt).toEqual(expect.any(Number));
});

test("of several edits that together would be a cycle, at least one is refused, whoever comes first", async () => {
  for (let round = 0; round < 4; round++) {
    const keys = ["a", "b", "c"].map((key) => `${key}-${round}`);
    for (const key of keys) await newFlag(api, project, key);
    const answers = await Promise.all(
      keys.map((key, index) =>
        person(index)("PATCH", `/projects/${project}/flags/${key}/environments/production`, {
          prerequisites: [{ flag: keys[(index + 1) % 3], variations: ["on"] }],
        }),
      ),
    );
    const statuses = answers.map(({ status }) => status).sort();
    expect(statuses).toEqual([200, 200, 400]);
    for (const key of keys) {
      const evaluated = await api("POST", `/projects/${project}/flags/${key}/environments/production/evaluate`, {
        context: { targetingKey: "u" },
      });
      expect(evaluated.body.errorCode).toBeUndefined();
    }
  }
});

test("a flag is archived, or another comes to need it: never both", async () => {
  for (let round = 0; round < 6; round++) {
    const [needed, needing] = [`needed-${round}`, `needing-${round}`];
    for (const key of [needed, needing]) await newFlag(api, project, key);
    const bulk = { action: "archive", keys: [needed] };
    const [archived, edited] = await Promise.all([
      person(1)("POST", `/projects/${project}/flags/bulk`, bulk),
      person(2)("PATCH", `/projects/${project}/flags/${needing}/environments/production`, {
        prerequisites: [{ flag: needed, variations: ["on"] }],
      }),
    ]);
    expect([archived.body.items[0].outcome, edited.status]).toSatisfy(
      ([outcome, status]) => (outcome === "changed" && status === 400) || (outcome === "refused" && status === 200),
    );
  }
});

test("a variation is taken away, or an environment comes to serve it: never both, in whichever environment", async () => {
  const three = [...BOOLEAN, { key: "also", value: true }];
  for (let round = 0; round < 4; round++) {
    const flag = await newFlag(api, project, `taken-${round}`, { variations: three });
    for (const environment of ["production", "development"])
      await api("PATCH", `${flag}/environments/${environment}`, { offVariation: "off" });
    const [taken, ...served] = await Promise.all([
      person(0)("PATCH", flag, { variations: BOOLEAN }),
      ...["production", "development"].map((environment, index) =>
        person(index + 1)("POST", `${flag}/environments/${environment}/instructions`, {
          instructions: [{ kind: "setServe", serve: { variation: "also" } }],
        }),
      ),
    ]);
    const lands = served.some(({ status }) => status === 200);
    expect([taken!.status, lands]).toSatisfy(
      ([status, lands]) => (status === 200 && !lands) || (status === 409 && lands),
    );
  }
});
