import type { Hono, Env as HonoEnv } from "hono";
import { methodNotAllowed } from "../problem.ts";

/** 405 with Allow for every path of the app and every method that it has no route for. Called after the last route. */
export function refuseOtherMethods<E extends HonoEnv>(app: Hono<E>): Hono<E> {
  const allowed = new Map<string, string[]>();
  for (const { method, path } of app.routes) {
    if (method !== "ALL") allowed.set(path, [...(allowed.get(path) ?? []), method]);
  }
  for (const [path, methods] of allowed) {
    app.all(path, () => {
      throw methodNotAllowed(methods);
    });
  }
  return app;
}
