/** Serves pages on loopback, of another origin than the Worker's. Each path is a document with one bundled script. */
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { build } from "esbuild";

export class PageServer {
  readonly #server: Server;
  readonly #scripts = new Map<string, string>();
  /** The body of every document, before its script. */
  html = "";

  private constructor() {
    this.#server = createServer((request, response) => {
      const path = new URL(request.url ?? "/", "http://page").pathname;
      const script = this.#scripts.get(path.replace(/\.js$/, ""));
      if (path.endsWith(".js")) response.writeHead(200, { "content-type": "text/javascript" }).end(script);
      else
        response
          .writeHead(200, { "content-type": "text/html; charset=utf-8" })
          .end(
            `<!doctype html><title>page</title><body>${script === undefined ? "" : `${this.html}<script type="module" src="${path}.js"></script>`}`,
          );
    });
  }

  /** `scripts`: source files by path. Every other path is an empty document. */
  static async start(scripts: Record<string, string>): Promise<PageServer> {
    const pages = new PageServer();
    for (const [path, file] of Object.entries(scripts)) {
      const { outputFiles } = await build({
        entryPoints: [file],
        bundle: true,
        format: "esm",
        target: "es2022",
        jsx: "automatic",
        write: false,
      });
      pages.#scripts.set(path, outputFiles[0]!.text);
    }
    await new Promise<void>((resolve) => pages.#server.listen(0, "127.0.0.1", resolve));
    return pages;
  }

  get origin(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): Promise<void> {
    return new Promise((resolve) => {
      this.#server.close(() => resolve());
      this.#server.closeAllConnections();
    });
  }
}
