/**
 * The data plane's way to its handlers, by path. Its own, because polls are most of what a Worker is asked, and a router
 * for every kind of path costs each of them a tenth (bench/RESULTS.md).
 */
import type { Env } from "../env.ts";
import { methodNotAllowed, notFound, type ProblemForm, problemResponse } from "../platform/problem.ts";
import { letPagesRead, preflight } from "./cors.ts";

/** A request, of which the runtime is asked each thing once and only when it is needed. */
export class Incoming {
  readonly request: Request;
  readonly url: string;
  readonly path: string;
  readonly headers: Headers;
  readonly env: Env;
  readonly ctx: Pick<ExecutionContext, "waitUntil">;
  #query: URLSearchParams | null = null;

  constructor(request: Request, env: Env, ctx: Pick<ExecutionContext, "waitUntil">) {
    this.request = request;
    this.url = request.url;
    this.path = pathOf(this.url);
    this.headers = request.headers;
    this.env = env;
    this.ctx = ctx;
  }

  /** The first where there are several, null where there is none. */
  query(name: string): string | null {
    const start = this.url.indexOf("?");
    if (start === -1) return null;
    this.#query ??= new URLSearchParams(this.url.slice(start));
    return this.#query.get(name);
  }
}

/** `rest` is what came after a path that ends in a slash, as it was sent: never empty there, always elsewhere. */
type Handler = (incoming: Incoming, rest: string) => Response | Promise<Response>;
type Methods = { GET?: Handler; POST?: Handler };

export class Plane {
  readonly prefix: string;
  /** Whether pages may ask, of whichever origin: which keys they may use is the keys' business. */
  readonly forPages: boolean;
  /** How errors are written, where a protocol says so. */
  readonly problems: ProblemForm | undefined;
  readonly #exact = new Map<string, Methods>();
  readonly #open: [string, Methods][] = [];

  /** A path that ends in a slash takes whatever follows. */
  constructor(
    prefix: string,
    routes: Record<string, Methods>,
    { forPages = false, problems }: { forPages?: boolean; problems?: ProblemForm } = {},
  ) {
    this.prefix = prefix;
    this.forPages = forPages;
    this.problems = problems;
    for (const [path, methods] of Object.entries(routes)) {
      if (path.endsWith("/")) this.#open.push([prefix + path, methods]);
      else this.#exact.set(prefix + path, methods);
    }
  }

  /** Throws 404 and 405. HEAD is a GET whose answer is sent without its body. */
  answer(incoming: Incoming): Response | Promise<Response> {
    const { path } = incoming;
    const { method } = incoming.request;
    if (this.forPages && method === "OPTIONS") return preflight();
    let rest = "";
    let methods = this.#exact.get(path);
    if (methods === undefined) {
      const [start, open] = this.#open.find(([start]) => path.startsWith(start) && path.length > start.length) ?? [];
      if (start === undefined || open === undefined) throw notFound(`${method} ${path}`);
      rest = path.slice(start.length);
      methods = open;
    }
    const { GET, POST } = methods;
    if (method === "POST" && POST !== undefined) return POST(incoming, rest);
    if (method === "GET" && GET !== undefined) return GET(incoming, rest);
    if (method === "HEAD" && GET !== undefined) return withoutBody(GET(incoming, rest));
    throw methodNotAllowed(Object.keys(methods));
  }
}

/** By the first of the planes that the path belongs to. */
export async function answerFrom(planes: Plane[], incoming: Incoming): Promise<Response> {
  const { path } = incoming;
  const plane = planes.find(({ prefix }) => path.startsWith(prefix));
  let response: Response;
  try {
    if (plane === undefined) throw notFound(`${incoming.request.method} ${path}`);
    response = await plane.answer(incoming);
  } catch (error) {
    response = problemResponse(error, crypto.randomUUID(), plane?.problems);
  }
  if (plane?.forPages) letPagesRead(response.headers);
  return response;
}

/** Of a URL as the runtime gives it: absolute and normalised. */
function pathOf(url: string): string {
  const start = url.indexOf("/", "https://".length);
  const end = url.indexOf("?", start);
  return end === -1 ? url.slice(start) : url.slice(start, end);
}

/** What is percent-encoded well; the rest stays. */
export const decoded = (text: string): string =>
  text.replace(/(?:%[\da-f]{2})+/gi, (encoded) => {
    try {
      return decodeURIComponent(encoded);
    } catch {
      return encoded;
    }
  });

const withoutBody = async (answered: Response | Promise<Response>): Promise<Response> =>
  new Response(null, await answered);
