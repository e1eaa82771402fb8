/** A stream over WebSocket. */
import { PONG } from "@bunting/core/wire";
import type { Patch, Put } from "../sync/state.ts";
import type { Sink, Transport } from "../sync/transport.ts";
import { messageOf, oneAtATime } from "./connection.ts";
import type { Protocol, Socket } from "./protocol.ts";

/** Private-use close codes that mirror 401 and 403; 1008 is "policy violation" (RFC 6455, 7.4.1). */
const REFUSALS = [4401, 4403, 1008];

export function webSocketTransport<P extends Put, D extends Patch>(protocol: Protocol<P, D>): Transport<P, D> {
  let socket: Socket | undefined;
  return {
    ...oneAtATime<P, D>(({ since }, sink) => {
      let opened: Socket | undefined;
      let stopped = false;
      const open = async () => {
        opened = await protocol.socket(since);
        listen(opened, protocol, sink);
        if (stopped) opened.close(1000);
        else socket = opened;
      };
      open().catch((error: unknown) => sink.closed({ reason: `WebSocket: ${messageOf(error)}` }));
      return () => {
        stopped = true;
        opened?.close(1000);
      };
    }),
    send(text) {
      // Platforms throw while connecting and drop silently once closing; both mean that the text no longer matters.
      try {
        socket?.send(text);
      } catch {}
    },
  };
}

function listen<P extends Put, D extends Patch>(socket: Socket, protocol: Protocol<P, D>, sink: Sink<P, D>): void {
  let failure = "";
  const { greeting } = protocol;
  if (greeting) socket.addEventListener("open", () => socket.send(greeting()));
  socket.addEventListener("message", ({ data }) =>
    sink.message(data === PONG ? { type: "alive" } : protocol.readMessage(String(data))),
  );
  socket.addEventListener("error", (event) => {
    failure = messageOf((event as { error?: unknown }).error ?? (event as { message?: unknown }).message);
  });
  socket.addEventListener("close", ({ code, reason }) =>
    sink.closed({
      reason: `WebSocket closed (${[code, reason, failure].filter(Boolean).join(", ")})`,
      refused: REFUSALS.includes(code),
    }),
  );
}
