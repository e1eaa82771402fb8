/** What depends on a document, as far as that goes: from `dependencies`, which is written with each document. */
import { sql } from "drizzle-orm";
import { answered, type Database } from "./database.ts";
import type { DocumentKind } from "./schema/index.ts";

export type Node = { kind: DocumentKind; key: string };
/** `from` refers to `to`. */
type Edge = { from: Node; to: Node };
/** `truncated`: there is more. The root is the first node. */
export type Graph = { nodes: Node[]; edges: Edge[]; truncated: boolean };

/** One answer holds so many: no environment that people can read has more. */
const MAX_NODES = 1_000;
const MAX_EDGES = 5_000;

export async function dependentGraph(db: Database, environmentId: string, root: Node): Promise<Graph> {
  // UNION, which ends also in a circle; the nearest come first.
  const reach = sql`WITH RECURSIVE reach(kind, key) AS (
      SELECT ${root.kind}, ${root.key}
      UNION
      SELECT d.source_kind, d.source_key FROM dependencies d JOIN reach r
        ON d.target_kind = r.kind AND d.target_key = r.key WHERE d.environment_id = ${environmentId}
      LIMIT ${MAX_NODES + 1}
    )`;
  const [nodes, edges] = await Promise.all([
    answered(db.all<Node>(sql`${reach} SELECT kind, key FROM reach`)),
    answered(
      db.all<{ sourceKind: DocumentKind; source: string; targetKind: DocumentKind; target: string }>(
        sql`${reach} SELECT d.source_kind AS sourceKind, d.source_key AS source, d.target_kind AS targetKind, d.target_key AS target
          FROM reach r JOIN dependencies d ON d.target_kind = r.kind AND d.target_key = r.key
          WHERE d.environment_id = ${environmentId} LIMIT ${MAX_EDGES + 1}`,
      ),
    ),
  ]);
  const kept = nodes.slice(0, MAX_NODES);
  const known = new Set(kept.map(nameOf));
  return {
    nodes: kept,
    edges: edges
      .slice(0, MAX_EDGES)
      .map(
        (one): Edge => ({
          from: { kind: one.sourceKind, key: one.source },
          to: { kind: one.targetKind, key: one.target },
        }),
      )
      .filter(({ from, to }) => known.has(nameOf(from)) && known.has(nameOf(to))),
    truncated: nodes.length > MAX_NODES || edges.length > MAX_EDGES,
  };
}

const nameOf = ({ kind, key }: Node) => `${kind} ${key}`;
