/** The floor: a bare `ws` server. A POST sends its body, stamped, to every socket. */
import { createServer } from "node:http";
import { WebSocketServer } from "ws";

const server = createServer((request, response) => {
  let body = "";
  request.on("data", (chunk) => {
    body += chunk;
  });
  request.on("end", () => {
    const text = JSON.stringify({ ...JSON.parse(body), publishedAt: Date.now() });
    for (const socket of sockets.clients) socket.send(text);
    response.end();
  });
});
const sockets = new WebSocketServer({ server, perMessageDeflate: false });
server.listen(0, "127.0.0.1", () => console.log(`READY ${(server.address() as { port: number }).port}`));
