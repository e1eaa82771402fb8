/** HTTP on connections that are kept, cheaper than fetch: the load generator shares its cores with what it loads. */
import { Agent, type IncomingHttpHeaders, request } from "node:http";

/** `status` 0: no answer, the connection broke or the time was out. */
export type Answer = { status: number; headers: IncomingHttpHeaders; text: string };

export type Ask = (method: string, path: string, headers: Record<string, string>, body?: unknown) => Promise<Answer>;

/** Longer than any answer of ours may take: what is not there by then is lost. */
const DEADLINE_MS = 30_000;
const LOST: Answer = { status: 0, headers: {}, text: "" };

export function requester(url: string, maxSockets = 256): { ask: Ask; close(): void } {
  const agent = new Agent({ keepAlive: true, maxSockets });
  const ask: Ask = (method, path, headers, body) =>
    new Promise((resolve) => {
      const text = body === undefined ? undefined : JSON.stringify(body);
      const typed =
        text === undefined ? {} : { "content-type": "application/json", "content-length": Buffer.byteLength(text) };
      const sent = request(`${url}${path}`, { method, agent, headers: { ...headers, ...typed }, timeout: DEADLINE_MS });
      sent.on("response", (response) => {
        let received = "";
        response.setEncoding("utf8");
        response.on("data", (chunk) => {
          received += chunk;
        });
        response.on("end", () =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, text: received }),
        );
        response.on("error", () => resolve(LOST));
        response.on("close", () => resolve(LOST));
      });
      sent.on("timeout", () => sent.destroy());
      sent.on("error", () => resolve(LOST));
      sent.end(text);
    });
  return { ask, close: () => agent.destroy() };
}
