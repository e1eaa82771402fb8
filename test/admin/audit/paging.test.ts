/** The audit log of years: whatever is asked of it, a page costs about as much as any other (R11). */
import { env } from "cloudflare:workers";
import { describe, expect, test } from "vitest";
import { type AuditFilter, auditQuery } from "../../../workers/store/audit.ts";
import type { Scope } from "../../../workers/store/schema/index.ts";
import { newToken } from "../../support/admin.ts";
import { db } from "../../support/environment.ts";

const api = await newToken();
const EVERYTHING: Scope = { projects: [], environments: [] };

describe("a page is looked for along the index of one filter, in the order of the list", () => {
  const walks: [AuditFilter, string, Scope?][] = [
    [{}, "audit_by_time"],
    [{ project: "p" }, "audit_by_project"],
    [{ environment: "e" }, "audit_by_environment"],
    [{ type: "flag" }, "audit_by_type"],
    [{ action: "flag.update" }, "audit_by_action"],
    [{ actor: "Ada" }, "audit_by_actor"],
    [{ token: "tok" }, "audit_by_token"],
    [{ correlationId: "c" }, "audit_by_correlation"],
    [{ from: 1, to: 2 }, "audit_by_time"],
    [{ reason: "x" }, "audit_with_reason"],
    [{ project: "p", environment: "e" }, "audit_by_place"],
    [{ project: "p", environment: "e", type: "flag" }, "audit_by_place"],
    [{ project: "p", actor: "Ada" }, "audit_by_actor"],
    [{ actor: "Ada", action: "flag.update", from: 1 }, "audit_by_actor"],
    [{ token: "tok", correlationId: "c" }, "audit_by_correlation"],
    [{ type: "flag", reason: "x" }, "audit_by_type"],
    [{}, "audit_by_project", { projects: ["p"], environments: [] }],
    [{}, "audit_by_place", { projects: [], environments: ["p/e"] }],
    [{ type: "flag" }, "audit_by_place", { projects: [], environments: ["p/e"] }],
    [{}, "audit_by_time", { projects: ["p", "q"], environments: [] }],
  ];

  test.each(walks)("%o", async (filter, index, scope = EVERYTHING) => {
    for (const order of ["newest", "oldest"] as const) {
      for (const after of [undefined, { timestamp: 1, id: 1 }]) {
        const queries = auditQuery(db, scope, filter, { limit: 20, after, order });
        for (const query of [queries.picked, queries.end]) {
          if (query === undefined) continue;
          const { sql, params } = query.toSQL();
          const { results } = await env.DB.prepare(`EXPLAIN QUERY PLAN ${sql}`)
            .bind(...params)
            .all<{ detail: string }>();
          const plan = results.map(({ detail }) => detail);
          const onLog = plan.filter((step) => step.includes(" audit "));
          // Along that index or, for those that were picked, one by one.
          for (const step of onLog) {
            expect(step).toMatch(new RegExp(`USING (COVERING )?INDEX ${index}|INTEGER PRIMARY KEY \\(rowid=\\?\\)`));
          }
          const picking = plan.slice(plan.indexOf("CO-ROUTINE picked"), plan.indexOf("SCAN picked"));
          expect(picking).not.toContain("USE TEMP B-TREE FOR ORDER BY");
        }
      }
    }
  });

  test("but a key is looked up in what was changed alone and in what was changed with others", async () => {
    const { sql, params } = auditQuery(
      db,
      EVERYTHING,
      { key: "k", project: "p", from: 1 },
      { limit: 20, after: undefined, order: "newest" },
    ).picked.toSQL();
    const { results } = await env.DB.prepare(`EXPLAIN QUERY PLAN ${sql}`)
      .bind(...params)
      .all<{ detail: string }>();
    const plan = results.map(({ detail }) => detail).join("\n");
    expect(plan).toContain("audit_by_key (key=?)");
    expect(plan).toContain("audit_undo_by_key (key=?)");
    expect(plan).not.toContain("audit_by_project");
  });
});

describe("where hardly an entry fits", () => {
  const ENTRIES = 12_500;
  const FITS = [1, 4_999, 5_000, 5_001, 9_999, 10_000, 12_499];

  test("pages are short or empty, and all of them together are each entry once, either way", async () => {
    await env.DB.prepare(
      `INSERT INTO audit (timestamp, actor, action, resource_type, project, key, changes, correlation_id, reason)
       WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i + 1 < ${ENTRIES})
       SELECT 1000 + i / 3, 'crowd', iif(i IN (SELECT value FROM json_each(?1)), 'seldom', 'often'), 'flag', 'busy', 'k-' || i, '{}', '',
         iif(i IN (SELECT value FROM json_each(?1)), 'a needle', 'hay') FROM n`,
    )
      .bind(JSON.stringify(FITS))
      .run();
    const newest = FITS.toReversed().map((i) => `k-${i}`);
    for (const query of [
      "actor=crowd&action=seldom",
      "project=busy&reason=needle",
      "actor=crowd&reason=NEEDLE&type=flag",
    ]) {
      for (const limit of [2, 100]) {
        const keys: string[] = [];
        let [pages, cursor]: [number, string | null] = [0, ""];
        for (; cursor !== null; pages++) {
          const { body }: { body: { items: { resource: { key: string } }[]; nextCursor: string | null } } = await api(
            "GET",
            `/audit?${query}&limit=${limit}&cursor=${cursor}`,
          );
          expect(body.items.length).toBeLessThanOrEqual(limit);
          keys.push(...body.items.map(({ resource }) => resource.key));
          cursor = body.nextCursor;
        }
        expect(keys).toEqual(newest);
        expect(pages).toBeGreaterThan(2);
      }
      const { body } = await api("GET", `/audit/export?${query}`);
      const lines = body.trim().split("\n");
      expect(lines.map((line: string) => JSON.parse(line).resource.key)).toEqual(newest.toReversed());
    }
  });

  test("a token of one project finds it at once, whatever else is in the log", async () => {
    await env.DB.prepare(
      `INSERT INTO audit (timestamp, actor, action, resource_type, project, environment, key, changes, correlation_id)
       VALUES (1, 'one', 'flag.update', 'flag', 'quiet', 'production', 'found', '{}', '')`,
    ).run();
    for (const scope of [{ projects: ["quiet"] }, { environments: ["quiet/production"] }]) {
      const limited = await newToken({ scope });
      const { body } = await limited("GET", "/audit");
      expect(body.items.map(({ resource }: { resource: { key: string } }) => resource.key)).toEqual(["found"]);
      expect((await limited("GET", "/audit?project=busy")).body).toMatchObject({ items: [] });
    }
  });
});
