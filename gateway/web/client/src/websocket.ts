// A WebSocket of subprotocol clarion.v1.json: a frame is a text message.

import { connectFrame, type Opening, type Transport, type TransportOwner } from "./transport.js";
import type { ClientFrame, ServerFrame } from "./wire.js";

const SUBPROTOCOL = "clarion.v1.json";

export class WebSocketTransport implements Transport {
  readonly kind = "websocket";
  readonly #socket: WebSocket;

  // Throws if the browser does not even try.
  constructor(opening: Opening, owner: TransportOwner) {
    const url = new URL("stream", opening.base);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new opening.environment.WebSocket!(url, [SUBPROTOCOL]);
    this.#socket = socket;
    socket.onopen = () => this.send({ ...connectFrame(opening), token: opening.token });
    socket.onmessage = ({ data }) => owner.onFrame(JSON.parse(data as string) as ServerFrame);
    socket.onerror = () => {}; // its end says it; some libraries throw what nobody listens to
    socket.onclose = ({ code, reason }) => owner.onEnd({ code, reason });
  }

  send(frame: ClientFrame): void {
    if (this.#socket.readyState === 1) this.#socket.send(JSON.stringify(frame));
  }

  renew(): void {}

  close(): void {
    const socket = this.#socket;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close(1000);
  }
}
