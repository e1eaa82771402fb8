/** Server-sent events, written here in the Worker: bounded for clients that do not read, and let go of when they leave. */
import { MAX_WAITING_BYTES } from "./ruleset-stream.ts";

export class EventStream {
  readonly response: Response;
  readonly #encoder = new TextEncoder();
  #controller: ReadableStreamDefaultController<Uint8Array> | null = null;

  /** `gone` is called when the client has left, or does not read what it is sent. */
  constructor(gone: () => void) {
    const body = new ReadableStream<Uint8Array>(
      {
        start: (controller) => {
          this.#controller = controller;
        },
        cancel: () => {
          this.#controller = null;
          gone();
        },
      },
      new ByteLengthQueuingStrategy({ highWaterMark: MAX_WAITING_BYTES }),
    );
    this.#gone = gone;
    this.response = new Response(body, {
      headers: {
        "content-type": "text/event-stream; charset=utf-8",
        "cache-control": "no-store",
        "x-accel-buffering": "no",
      },
    });
  }

  readonly #gone: () => void;

  /** With an id, that is what EventSource says in `Last-Event-ID`; `retryMs` is when it comes back after a cut. */
  write(event: string, data: unknown, { id, retryMs }: { id?: number; retryMs?: number } = {}): void {
    const fields = [`event: ${event}`];
    if (id !== undefined) fields.push(`id: ${id}`);
    if (retryMs !== undefined) fields.push(`retry: ${Math.round(retryMs)}`);
    this.#put(`${fields.join("\n")}\ndata: ${JSON.stringify(data)}\n\n`);
  }

  /** Keeps the connection, and is no event to anybody. */
  comment(text: string, { retryMs }: { retryMs?: number } = {}): void {
    this.#put(`: ${text}\n${retryMs === undefined ? "" : `retry: ${Math.round(retryMs)}\n`}\n`);
  }

  end(): void {
    const controller = this.#controller;
    this.#controller = null;
    try {
      controller?.close();
    } catch {
      // Cancelled already.
    }
  }

  #put(text: string): void {
    if (this.#controller === null) return;
    if ((this.#controller.desiredSize ?? 0) > 0) this.#controller.enqueue(this.#encoder.encode(text));
    else this.#gone();
  }
}
