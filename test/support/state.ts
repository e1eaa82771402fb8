/** Everything that is stored, for tests that compare it before and after an operation that must change nothing. */
import { listDurableObjectIds, runDurableObjectAlarm, runInDurableObject } from "cloudflare:test";
import { env } from "cloudflare:workers";

const TABLES =
  "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_cf%' ESCAPE '\\' ORDER BY name";

/** Without the rate limiter, which counts every request. */
export async function wholeState(): Promise<Record<string, unknown>> {
  return {
    d1: await database(),
    kv: await pairs(),
    ...Object.fromEntries(
      await Promise.all(
        (["EVENTS_BUCKET", "SEGMENTS_BUCKET", "REVISIONS_BUCKET"] as const).map(async (name) => {
          const { objects } = await env[name].list();
          return [name, objects.map(({ key, version, size }) => ({ key, version, size }))];
        }),
      ),
    ),
    ...Object.fromEntries(await Promise.all(NAMESPACES.map(async (name) => [name, await objectsOf(name)]))),
  };
}

/** Runs all alarms, so that none changes anything between two states that are compared. */
export async function settle(): Promise<void> {
  for (const name of ["HUB", "BIG_SEGMENT"] as const) {
    // Building a filter, writing it and reporting it to D1 take one alarm each.
    for (let round = 0; round < 4; round++) {
      const namespace = env[name] as unknown as DurableObjectNamespace;
      const ids = await listDurableObjectIds(namespace);
      await Promise.all(ids.map((id) => runDurableObjectAlarm(namespace.get(id))));
    }
  }
}

async function database() {
  const { results } = await env.DB.prepare(TABLES).all<{ name: string }>();
  const rows = await env.DB.batch(results.map(({ name }) => env.DB.prepare(`SELECT * FROM "${name}"`)));
  return Object.fromEntries(results.map(({ name }, index) => [name, rows[index]!.results]));
}

async function pairs() {
  const { keys } = await env.KV.list();
  return Object.fromEntries(await Promise.all(keys.map(async ({ name }) => [name, await env.KV.get(name)])));
}

const NAMESPACES = ["HUB", "RELAY", "BIG_SEGMENT", "TIMER"] as const;

async function objectsOf(name: (typeof NAMESPACES)[number]) {
  const namespace = env[name] as unknown as DurableObjectNamespace;
  const ids = await listDurableObjectIds(namespace);
  const each = ids.map(async (id) => {
    const kept = await runInDurableObject(namespace.get(id), async (_, { storage }) => {
      const tables = storage.sql.exec<{ name: string }>(TABLES).toArray();
      const rows = tables.map(({ name }) => [name, storage.sql.exec(`SELECT * FROM "${name}"`).toArray()]);
      return { rows, pairs: [...storage.kv.list()], alarm: await storage.getAlarm() };
    });
    return [id.toString(), kept] as const;
  });
  // An object that was only read has no storage.
  const kept = (await Promise.all(each)).filter(
    ([, { rows, pairs, alarm }]) => rows.length + pairs.length > 0 || alarm,
  );
  return Object.fromEntries(kept);
}
