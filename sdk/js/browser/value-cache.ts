import type { PutMessage } from "@bunting/core/wire";
import { isObject, parse } from "../transports/messages.ts";
import { readValues } from "../transports/values-protocol.ts";

/** What a page keeps on its device: the values last served, and who its visitor is while nobody says. */

/** The part of `localStorage` that is used. */
export type DeviceStorage = { getItem(key: string): string | null; setItem(key: string, value: string): void };

/** A visitor is mostly one of two: before and after logging in. */
const CONTEXTS_KEPT = 3;

export type ValueCache = {
  read(context: string): PutMessage | undefined;
  write(context: string, values: Pick<PutMessage, "revision" | "flags">): void;
  anonymousId(): string;
};

/** Quotas, blocked storage and entries that somebody else has written over: then nothing was kept. */
export function valueCache(clientKey: string, storage: DeviceStorage | undefined, uuid: () => string): ValueCache {
  const name = `bunting:${clientKey}`;
  const get = (key: string) => attempt(() => storage?.getItem(key)) ?? "";
  const set = (key: string, value: string) => attempt(() => storage?.setItem(key, value));
  const entries = () => {
    const kept = parse(get(name));
    return isObject(kept) ? kept : {};
  };
  return {
    read: (context) => readValues(entries()[place(context)]),
    write(context, { revision, flags }) {
      const { [place(context)]: _, ...others } = entries();
      const kept = Object.entries(others).slice(1 - CONTEXTS_KEPT);
      set(name, JSON.stringify({ ...Object.fromEntries(kept), [place(context)]: { revision, flags } }));
    },
    anonymousId() {
      const id = get("bunting:anonymous") || uuid();
      set("bunting:anonymous", id);
      return id;
    },
  };
}

/** FNV-1a, 32 bits: the stored key reveals nothing of the context. */
function place(context: string): string {
  let hash = 0x811c9dc5;
  for (let at = 0; at < context.length; at++) hash = Math.imul(hash ^ context.charCodeAt(at), 0x01000193);
  return `c${hash}`;
}

function attempt<T>(access: () => T): T | undefined {
  try {
    return access();
  } catch {
    return undefined;
  }
}
