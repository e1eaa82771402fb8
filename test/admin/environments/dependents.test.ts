import { env } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import { newFlag, newProject, newToken } from "../../support/admin.ts";

const api = await newToken();
const project = await newProject(api);
const environment = `/projects/${project}/environments/production`;
const graphOf = async (query: string) => (await api("GET", `${environment}/dependents?${query}`)).body;
const patch = async (flag: string, fields: object) => {
  const there = `/projects/${project}/flags/${flag}/environments/production`;
  expect((await api("PATCH", there, fields)).status).toBe(200);
};
const rule = (condition: object) => ({ conditions: [condition], serve: { variation: "on" } });
const flag = (key: string) => ({ kind: "flag", key });
const segment = (key: string) => ({ kind: "segment", key });

for (const key of ["base", "middle", "top", "beside", "alone"]) await newFlag(api, project, key);
await api("POST", `${environment}/segments`, { key: "beta" });
await api("POST", `${environment}/segments`, { key: "insiders", rules: [{ conditions: [{ segment: ["beta"] }] }] });
await patch("base", { rules: [rule({ segment: ["insiders"] })] });
await patch("middle", { prerequisites: [{ flag: "base", variations: ["on"] }] });
await patch("top", { rules: [rule({ not: { flag: "middle", variations: ["on"] } }), rule({ segment: ["beta"] })] });
await patch("beside", { prerequisites: [{ flag: "base", variations: ["on"] }] });

describe("dependents (R8)", () => {
  test("of a flag are those that name it and those that name them", async () => {
    const { nodes, edges, truncated } = await graphOf("flag=base");
    expect(nodes[0]).toEqual(flag("base"));
    expect(nodes).toHaveLength(4);
    expect(nodes).toEqual(expect.arrayContaining([flag("middle"), flag("beside"), flag("top")]));
    expect(edges).toHaveLength(3);
    expect(edges).toEqual(
      expect.arrayContaining([
        { from: flag("middle"), to: flag("base") },
        { from: flag("beside"), to: flag("base") },
        { from: flag("top"), to: flag("middle") },
      ]),
    );
    expect(truncated).toBe(false);
  });

  test("of a segment go through segments and flags, each edge once, however many ways there are", async () => {
    const { nodes, edges } = await graphOf("segment=beta");
    expect(nodes).toHaveLength(6);
    expect(edges).toHaveLength(6);
    expect(edges).toContainEqual({ from: segment("insiders"), to: segment("beta") });
    expect(edges).toContainEqual({ from: flag("top"), to: segment("beta") });
  });

  test("are none where nothing names it, and of another environment", async () => {
    expect(await graphOf("flag=alone")).toEqual({ nodes: [flag("alone")], edges: [], truncated: false });
    const { body } = await api("GET", `/projects/${project}/environments/development/dependents?flag=base`);
    expect(body.nodes).toEqual([flag("base")]);
  });

  test("of what everything uses are as many as people can look at, and it says that there are more", async () => {
    const { body } = await api("GET", environment);
    await env.DB.prepare(
      "INSERT INTO dependencies SELECT ?1, 'flag', 'many-' || value, 'flag', 'alone' FROM json_each(?2)",
    )
      .bind(body.id, JSON.stringify(Array.from({ length: 1_200 }, (_, index) => index)))
      .run();
    const { nodes, edges, truncated } = await graphOf("flag=alone");
    expect([nodes.length, edges.length, truncated]).toEqual([1_000, 999, true]);
  });

  test("end in a circle too, should there ever be one", async () => {
    const { body } = await api("GET", environment);
    const insert = env.DB.prepare("INSERT INTO dependencies VALUES (?, 'flag', ?, 'flag', ?)");
    await env.DB.batch([
      insert.bind(body.id, "a", "b"),
      insert.bind(body.id, "b", "a"),
      insert.bind(body.id, "a", "top"),
    ]);
    const { nodes } = await graphOf("flag=top");
    expect(nodes).toEqual([flag("top"), flag("a"), flag("b")]);
  });

  test("are asked for one thing that is there", async () => {
    for (const [query, status] of [
      ["", 400],
      ["flag=base&segment=beta", 400],
      ["flag=", 400],
      ["flag=none", 404],
      ["segment=none", 404],
    ] as const) {
      expect([query, (await api("GET", `${environment}/dependents?${query}`)).status]).toEqual([query, status]);
    }
    const elsewhere = await newToken({ scope: { projects: [], environments: [`${project}/development`] } });
    expect((await elsewhere("GET", `${environment}/dependents?flag=base`)).status).toBe(403);
  });
});

test("a segment says what uses it", async () => {
  const { body } = await api("GET", `${environment}/segments/beta`);
  expect(body.usedBy).toHaveLength(2);
  expect(body.usedBy).toEqual(expect.arrayContaining([segment("insiders"), flag("top")]));
});
