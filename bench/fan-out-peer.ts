/** The floor: a bare `ws` server that also serves bare server-sent events. A POST sends its body, stamped, to every client. */
import { createServer, type ServerResponse } from "node:http";
import { WebSocketServer } from "ws";

const streams = new Set<ServerResponse>();

const server = createServer((request, response) => {
  if (request.method === "GET") {
    response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
    response.write("event: hello\ndata: {}\n\n");
    streams.add(response);
    response.on("close", () => streams.delete(response));
    return;
  }
  let body = "";
  request.on("data", (chunk) => {
    body += chunk;
  });
  request.on("end", () => {
    const text = JSON.stringify({ ...JSON.parse(body), publishedAt: Date.now() });
    for (const socket of sockets.clients) socket.send(text);
    for (const stream of streams) stream.write(`event: patch\ndata: ${text}\n\n`);
    response.end();
  });
});
const sockets = new WebSocketServer({ server, perMessageDeflate: false });
server.listen(0, "127.0.0.1", () => console.log(`READY ${(server.address() as { port: number }).port}`));
