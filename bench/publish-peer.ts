/** The Worker as deployed, and beside it `POST /__publish`: changes, committed and then handed to their hub one after the other. */

import worker from "../test/support/worker.ts";
import type { Env } from "../workers/env.ts";
import type { Change } from "../workers/store/outbox/change.ts";

export { BigSegment, Hub, RateLimiter, Relay, Timer, WriteLine } from "../test/support/worker.ts";

type Asked = { environmentId: string; create?: true; changes: Change[] };

export default {
  async fetch(
    request: Request<unknown, IncomingRequestCfProperties>,
    env: Env,
    ctx: ExecutionContext,
  ): Promise<Response> {
    if (new URL(request.url).pathname !== "/__publish") return worker.fetch(request, env, ctx);
    const { environmentId, create, changes } = (await request.json()) as Asked;
    const hub = env.HUB.get(env.HUB.idFromName(environmentId));
    if (create) {
      await env.DB.prepare(
        `INSERT INTO environments (id, project_id, key, name, version, change_id, created_at, updated_at)
         VALUES (?1, ?1, 'bench', 'bench', 0, 'chg-0', 0, 0)`,
      )
        .bind(environmentId)
        .run();
      await hub.create(environmentId);
    }
    const last = changes.at(-1);
    if (last === undefined) return Response.json({ ms: 0, version: 0 });
    // Committed first, as by the admin API: a hub compares its history with D1's.
    const row = env.DB.prepare("INSERT INTO changes VALUES (?, ?, ?, ?, ?, 0)");
    const rows = changes.map(({ version, id, previousId, ...rest }) => {
      return row.bind(environmentId, version, id, previousId, JSON.stringify(rest));
    });
    const head = env.DB.prepare("UPDATE environments SET version = ?, change_id = ? WHERE id = ?");
    await env.DB.batch([...rows, head.bind(last.version, last.id, environmentId)]);
    const began = performance.now();
    let version = 0;
    for (const change of changes) ({ version } = await hub.publish(change));
    return Response.json({ ms: performance.now() - began, version });
  },
};
