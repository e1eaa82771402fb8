/** The page around a client, as far as there is one. */

type Page = {
  document?: EventTarget & { hidden: boolean };
  navigator?: { sendBeacon?(url: string, body: string): boolean };
  localStorage?: { getItem(key: string): string | null; setItem(key: string, value: string): void };
};

const page = globalThis as unknown as Page;

/** Undefined where there is none or the browser forbids it, which it says by throwing. */
export function deviceStorage(): Page["localStorage"] {
  try {
    return page.localStorage;
  } catch {
    return undefined;
  }
}

export const beacon = (url: string, body: string): boolean => page.navigator?.sendBeacon?.(url, body) ?? false;

/**
 * Calls `leave` when the page may never run again, `sleep` when it has no network or is being put into the back/forward
 * cache, which takes no page with an open socket, and `wake` when it is back. The answer ends that.
 */
export function watchPage({ leave, sleep, wake }: Record<"leave" | "sleep" | "wake", () => void>): () => void {
  const { document } = page;
  if (!document) return () => {};
  const end = new AbortController();
  const on = (target: EventTarget, name: string, react: (event: { persisted?: boolean }) => void) =>
    target.addEventListener(name, react as (event: Event) => void, { signal: end.signal });
  const window = globalThis as unknown as EventTarget;
  on(document, "visibilitychange", () => (document.hidden ? leave() : wake()));
  on(window, "pagehide", () => {
    leave();
    sleep();
  });
  on(window, "pageshow", ({ persisted }) => persisted && wake());
  on(window, "offline", sleep);
  on(window, "online", wake);
  return () => end.abort();
}
