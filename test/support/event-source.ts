/** A client of server-sent events in workerd that keeps everything it receives, also as text. */
import { fetchPath } from "./data-plane.ts";

type Event = {
  event: string;
  id: string | null;
  // biome-ignore lint/suspicious/noExplicitAny: tests look into messages of every shape
  data: any;
};

export class EventClient {
  readonly events: Event[] = [];
  readonly response: Response;
  /** Everything that was received. */
  text = "";
  ended = false;
  readonly #reader: ReadableStreamDefaultReader<string>;

  private constructor(response: Response) {
    this.response = response;
    if (response.body === null) throw new Error(`The stream answered ${response.status}`);
    this.#reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    void this.#read();
  }

  static async open(path: string, init: RequestInit = {}): Promise<EventClient> {
    const response = await fetchPath(path, init);
    if (response.status !== 200) throw new Error(`The stream answered ${response.status}: ${await response.text()}`);
    return new EventClient(response);
  }

  async #read(): Promise<void> {
    for (let rest = ""; ; ) {
      const { value, done } = await this.#reader.read().catch(() => ({ value: undefined, done: true as const }));
      if (done) break;
      this.text += value;
      rest += value;
      const blocks = rest.split("\n\n");
      rest = blocks.pop() ?? "";
      for (const block of blocks) if (!block.startsWith(":")) this.events.push(parse(block));
    }
    this.ended = true;
  }

  /** Events of these names, in order. */
  of(...names: string[]): Event[] {
    return this.events.filter(({ event }) => names.includes(event));
  }

  async close(): Promise<void> {
    await this.#reader.cancel();
  }
}

function parse(block: string): Event {
  const fields = new Map(
    block
      .split("\n")
      .map((line) =>
        line.split(": ", 2).length === 2
          ? ([line.slice(0, line.indexOf(": ")), line.slice(line.indexOf(": ") + 2)] as const)
          : ([line, ""] as const),
      ),
  );
  return {
    event: fields.get("event") ?? "message",
    id: fields.get("id") ?? null,
    data: JSON.parse(fields.get("data") ?? "null"),
  };
}
