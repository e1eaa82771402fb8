import type { Hono, Env as HonoEnv } from "hono";
import { methodNotAllowed } from "../problem.ts";

const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/** 405 with Allow for every path of the app and every method that it has no route for. Called after the last route.
 * Not `all`: a second handler for a path sends every request through a chain. */
export function refuseOtherMethods<E extends HonoEnv>(app: Hono<E>): Hono<E> {
  const allowed = new Map<string, string[]>();
  for (const { method, path } of app.routes) {
    if (method !== "ALL") allowed.set(path, [...(allowed.get(path) ?? []), method]);
  }
  for (const [path, methods] of allowed) {
    const others = METHODS.filter(
      (method) => !methods.includes(method) && !(method === "HEAD" && methods.includes("GET")),
    );
    app.on(others, path, () => {
      throw methodNotAllowed(methods);
    });
  }
  return app;
}
