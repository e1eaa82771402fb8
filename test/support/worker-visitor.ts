import { build } from "esbuild";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";
import type { RemoteVisitor } from "./visitor.ts";

/** Visitors in workerd. Their methods run there. */
export class WorkerVisitors {
  readonly #miniflare: Miniflare;
  #count = 0;

  private constructor(miniflare: Miniflare) {
    this.#miniflare = miniflare;
  }

  static async start(): Promise<WorkerVisitors> {
    const { outputFiles } = await build({
      entryPoints: ["test/browser/visitor-worker.ts"],
      bundle: true,
      format: "esm",
      target: "es2022",
      external: ["cloudflare:*"],
      write: false,
    });
    const miniflare = new Miniflare(
      convertV4MiniflareOptions({
        name: "visitors",
        modules: true,
        script: outputFiles[0]!.text,
        compatibilityDate: "2026-10-01",
        durableObjects: { VISITORS: "VisitorObject" },
      }),
    );
    await miniflare.ready;
    return new WorkerVisitors(miniflare);
  }

  visitor(): RemoteVisitor {
    const url = `http://visitors/${this.#count++}`;
    return new Proxy({} as RemoteVisitor, {
      get:
        (_, name) =>
        async (...given: unknown[]) => {
          const body = JSON.stringify([name, given]);
          const response = await this.#miniflare.dispatchFetch(url, { method: "POST", body });
          return ((await response.json()) as { answer: unknown }).answer;
        },
    });
  }

  stop(): Promise<void> {
    return this.#miniflare.dispose();
  }
}
