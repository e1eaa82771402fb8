/** A server with so much in it: put into D1 in a few big statements, since the API would take a year itself. */
import type { Server } from "../../test/support/server.ts";

export type Amount = { projects: number; flags: number; entries: number };

type Row = Record<string, string | number>;
type Statement = [sql: string, ...parameters: (string | number)[]];

const DAY_MS = 86_400_000;
const YEAR_MS = 365 * DAY_MS;
/** Of the log, in one statement. */
const ENTRIES_AT_ONCE = 50_000;

const numbered = (name: string, from: number, to: number) =>
  `WITH RECURSIVE ${name}(i) AS (SELECT ${from} UNION ALL SELECT i + 1 FROM ${name} WHERE i + 1 < ${to})`;

/** The project is `shop`, its environments `production` and `staging`. */
export class Place {
  readonly server: Server;
  readonly amount: Amount;

  constructor(server: Server, amount: Amount) {
    this.server = server;
    this.amount = amount;
  }

  async furnish(): Promise<void> {
    const { server } = this;
    await server.ask("POST", "/projects", { key: "shop", name: "The shop" });
    const variations = [
      { key: "on", value: true },
      { key: "off", value: false },
    ];
    await server.ask("POST", "/projects/shop/flags", { key: "flag-0", type: "boolean", variations, temporary: true });
    await this.#fill();
    // Made over the API, now that there are flags: so their documents, their sizes and the hub are as they always are.
    for (const key of ["production", "staging"]) await server.ask("POST", "/projects/shop/environments", { key });
    await this.#age();
    await this.#log();
  }

  async sql(...statements: Statement[]): Promise<Row[][]> {
    const response = await fetch(`${this.server.url}/__sql`, { method: "POST", body: JSON.stringify(statements) });
    if (!response.ok) throw new Error(`${statements[0]?.[0]}: ${await response.text()}`);
    return (await response.json()) as Row[][];
  }

  async #fill(): Promise<void> {
    const { projects, flags } = this.amount;
    const now = Date.now();
    await this.sql(
      [
        `INSERT INTO projects (id, key, name, description, version, created_at, updated_at)
         ${numbered("n", 1, projects)} SELECT printf('prj_%020d', i), printf('project-%d', i), printf('Project %d', i * 37 % 1000),
           printf('Of team %d', i % 40), 1, ?1 - i * 1000, ?1 - i * 1000 FROM n`,
        now,
      ],
      [
        `INSERT INTO environments (id, project_id, key, name, version, change_id, created_at, updated_at)
         SELECT 'env_' || substr(id, 5), id, 'production', 'Production', 0, '', created_at, created_at FROM projects WHERE key <> 'shop'`,
      ],
      [
        `INSERT INTO flags (id, project_id, key, name, description, type, variations, tags, owner, temporary, client_side, bytes,
           version, created_at, updated_at, archived_at)
         ${numbered("n", 1, flags)} SELECT printf('flg_%020d', i), one.project_id, printf('flag-%d', i),
           printf('Flag %d of the checkout', i * 7919 % 100003), printf('Decides what number %d is served', i), one.type, one.variations,
           json_array(printf('team-%d', i % 20), printf('area-%d', i % 7)), printf('owner-%d', i % 25), i % 3 > 0, i % 2, one.bytes + 12, 1,
           ?1 - i % 365 * ${DAY_MS}, ?1 - i * 7 % 365 * ${DAY_MS}, iif(i % 10 = 9, ?1, NULL)
         FROM n, (SELECT * FROM flags WHERE key = 'flag-0') AS one`,
        now,
      ],
      [
        `INSERT INTO flag_tags SELECT project_id, tag.value, flags.key FROM flags, json_each(flags.tags) AS tag WHERE flags.key <> 'flag-0'`,
      ],
    );
  }

  /** Half of what is served has been so for most of a year. */
  #age(): Promise<Row[][]> {
    return this.sql([
      `UPDATE flag_configurations SET full_since = iif(rowid % 2, NULL, updated_at - rowid % 365 * ${DAY_MS}),
         updated_at = updated_at - rowid * 7 % 365 * ${DAY_MS}`,
    ]);
  }

  /** Half of the log is of the shop. Nobody ever updated a flag of staging, though both are a tenth of it. */
  async #log(): Promise<void> {
    const { projects, flags, entries } = this.amount;
    const began = Date.now() - YEAR_MS;
    const step = Math.floor((YEAR_MS - DAY_MS) / entries);
    for (let from = 0; from < entries; from += ENTRIES_AT_ONCE) {
      const to = Math.min(from + ENTRIES_AT_ONCE, entries);
      await this.sql(
        [
          `INSERT INTO audit (timestamp, actor, token_id, action, resource_type, project, environment, key, changes, source_ip,
             user_agent, correlation_id, reason)
           ${numbered("n", from, to)} SELECT ?1 + i * ?2, printf('actor-%d', i / 10 % 20), printf('tok_%d', i / 10 % 40),
             CASE i % 10 WHEN 4 THEN 'flag.update' WHEN 7 THEN 'segment.update' ELSE printf('flag.action-%d', i % 10) END,
             iif(i % 10 = 7, 'segment', 'flag'),
             iif(i / 200 % 2, 'shop', printf('project-%d', i / 400 % ?3)), iif(i % 10 = 3, 'staging', 'production'),
             printf('flag-%d', i * 7919 % ?4), '{"fallthrough.variation":{"from":"off","to":"on"},"on":{"from":false,"to":true}}',
             printf('203.0.113.%d', i % 250), 'flagctl/1.4.2 (linux; x64)', printf('%032x', i),
             iif(i % 4, NULL, printf('ticket-%d: as agreed with the team', i))
           FROM n`,
          ...[began, step, projects, flags],
        ],
        [
          `INSERT INTO audit_undo ${numbered("n", from, to)} SELECT id, 'flag', key, environment,
             '[{"at":["on"],"from":false,"to":true}]' FROM n JOIN audit ON audit.timestamp = ?1 + i * ?2 WHERE i % 2`,
          ...[began, step],
        ],
      );
    }
  }
}
