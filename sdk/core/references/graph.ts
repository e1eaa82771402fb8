// Flags and segments refer to each other in one graph, which may have no cycle (EV-4).

import type { Flag, Ruleset, Segment } from "../ruleset.ts";
import { references } from "./references.ts";

export type Kind = "flag" | "segment";
type Node = { readonly kind: Kind; readonly key: string };
export type Documents = Pick<Ruleset, "flags" | "segments">;

/** Document by key; inherited names are no documents. */
export function find(documents: Documents, kind: Kind, key: string): Flag | Segment | undefined {
  const all: Record<string, Flag | Segment> = kind === "flag" ? documents.flags : documents.segments;
  return Object.hasOwn(all, key) ? all[key] : undefined;
}

/** The shortest way from `start` through `first` back to `start`, as keys, or undefined. */
export function cycleThrough(start: Node, first: Node, documents: Documents): string[] | undefined {
  const cameFrom = new Map<string, Node | undefined>([[name(first), undefined]]);
  const queue: Node[] = [first];
  for (const node of queue) {
    if (name(node) === name(start)) {
      const path: string[] = [];
      for (let at: Node | undefined = node; at !== undefined; at = cameFrom.get(name(at))) path.unshift(at.key);
      return [start.key, ...path];
    }
    for (const next of successors(node, documents)) {
      if (cameFrom.has(name(next))) continue;
      cameFrom.set(name(next), node);
      queue.push(next);
    }
  }
  return undefined;
}

/** How many references the longest chain from a document has; cycles are not followed twice. */
export function longestChain(start: Node, documents: Documents): number {
  const known = new Map<string, number>();
  const open: { node: Node; next: Node[]; best: number }[] = [];
  const enter = (node: Node): void => {
    known.set(name(node), 0);
    open.push({ node, next: successors(node, documents), best: 0 });
  };
  enter(start);
  for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
    const child = top.next.pop();
    if (child !== undefined && !known.has(name(child))) {
      top.next.push(child);
      enter(child);
    } else if (child !== undefined) {
      top.best = Math.max(top.best, 1 + known.get(name(child))!);
    } else {
      known.set(name(top.node), top.best);
      open.pop();
    }
  }
  return known.get(name(start))!;
}

/** The documents that evaluating one may read, itself included, each once. */
export function* reachable(start: Node, documents: Documents): Generator<Flag | Segment> {
  const met = new Map([[name(start), start]]);
  for (const node of met.values()) {
    const document = find(documents, node.kind, node.key);
    if (document === undefined || document === null) continue;
    yield document;
    for (const next of successors(node, documents)) if (!met.has(name(next))) met.set(name(next), next);
  }
}

function successors(node: Node, documents: Documents): Node[] {
  const document = find(documents, node.kind, node.key);
  if (document === undefined) return [];
  const { flags, segments } = references(document);
  return [
    ...flags.map((key): Node => ({ kind: "flag", key })),
    ...segments.map((key): Node => ({ kind: "segment", key })),
  ];
}

function name({ kind, key }: Node): string {
  return `${kind} ${key}`;
}
