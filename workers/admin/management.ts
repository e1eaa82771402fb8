/** What the Worker loads with the first request, or the first planned change, that management has to do with. */
import { Hono } from "hono";
import type { Env } from "../env.ts";
import { notFound, problemResponse } from "../platform/problem.ts";
import { admin } from "./api.ts";

export { runDue } from "./due.ts";

export const management = new Hono<{ Bindings: Env }>({ strict: false })
  .notFound((c) => problemResponse(notFound(`${c.req.method} ${c.req.path}`), crypto.randomUUID()))
  .onError((error) => problemResponse(error, crypto.randomUUID()))
  .route("/api/v1", admin);
