/** In workerd: visitors in a Durable Object each, since sockets and timers there belong to what made them. */
import { DurableObject } from "cloudflare:workers";
import { newStorage, Visitor } from "../support/visitor.ts";

type Env = { VISITORS: DurableObjectNamespace<VisitorObject> };

export class VisitorObject extends DurableObject<Env> {
  readonly #visitor = new Visitor(newStorage());

  override async fetch(request: Request): Promise<Response> {
    const [method, given] = await request.json<[keyof Visitor, unknown[]]>();
    const call = this.#visitor[method] as (...args: unknown[]) => Promise<unknown>;
    return Response.json({ answer: await call.apply(this.#visitor, given) });
  }
}

export default {
  fetch: (request: Request, { VISITORS }: Env) =>
    VISITORS.get(VISITORS.idFromName(new URL(request.url).pathname)).fetch(request),
};
