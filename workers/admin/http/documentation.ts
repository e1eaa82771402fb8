/** The OpenAPI document and its page, for anybody: built once for each isolate, since building takes a tenth of a second. */

import { isKnown } from "../../platform/if-none-match.ts";
import { sha256 } from "../../platform/sha256.ts";
import type { AdminContext } from "./context.ts";
import { DOCS_HEADERS, docsPage } from "./docs-page.ts";
import type { describe } from "./openapi.ts";

type Document = ReturnType<typeof describe>;

export class Documentation {
  readonly #describe: () => Document;
  #document: Document | undefined;
  #json: string | undefined;
  #page: string | undefined;

  constructor(build: () => Document) {
    this.#describe = build;
  }

  async json(c: AdminContext): Promise<Response> {
    // Kept as soon as it is built: requests that arrive together would each build their own.
    this.#json ??= JSON.stringify(this.#built());
    return answer(c, this.#json, { "content-type": "application/json" });
  }

  async page(c: AdminContext): Promise<Response> {
    this.#page ??= String(await docsPage(this.#built()));
    return answer(c, this.#page, DOCS_HEADERS);
  }

  #built(): Document {
    this.#document ??= this.#describe();
    return this.#document;
  }
}

async function answer(c: AdminContext, body: string, of: Record<string, string>): Promise<Response> {
  const etag = `"${(await sha256(body)).slice(0, 32)}"`;
  const headers = { ...of, etag, "cache-control": "public, max-age=300" };
  return isKnown(c.req.header("if-none-match"), etag) ? c.body(null, 304, headers) : c.body(body, 200, headers);
}
