/** Which operation a request is for: 404 where the path is none of ours, 405 where the method is not. */
import type { Hono } from "hono";
import { ApiError, notFound } from "../../platform/problem.ts";
import type { Operation } from "../operation.ts";
import { authenticate } from "./access.ts";
import type { AdminContext, AdminEnv } from "./context.ts";
import { serve } from "./serve.ts";

/** Adds the routes of all operations, and refuses what is for none of them. A stranger learns nothing: 401 comes first. */
export function route(app: Hono<AdminEnv>, operations: readonly Operation[]): void {
  const byPath = Map.groupBy(operations, ({ path }) => path);
  const paths = [...byPath.keys()].sort((one, other) => precedence(one).localeCompare(precedence(other)));
  for (const path of paths) {
    const all = byPath.get(path)!;
    const pattern = path.replace(/\{(\w+)\}/g, ":$1");
    for (const operation of all) app.on(operation.method, pattern, (c) => serve(operation, c));
    const allow = allowed(all);
    app.all(pattern, (c) =>
      refuse(c, new ApiError(405, "method-not-allowed", `Use one of: ${allow}.`, { headers: { allow } })),
    );
  }
  app.all("*", (c) => refuse(c, notFound(`${c.req.method} ${c.req.path}`)));
}

async function refuse(c: AdminContext, problem: ApiError): Promise<never> {
  await authenticate(c, null);
  throw problem;
}

const allowed = (operations: Operation[]) =>
  operations
    .map(({ method }) => method.toUpperCase())
    .sort()
    .join(", ");

/** Sorts what stands there literally before what is only a name, as OpenAPI has it. */
const precedence = (path: string) =>
  path
    .split("/")
    .map((segment) => (segment.startsWith("{") ? "1" : "0"))
    .join("");
