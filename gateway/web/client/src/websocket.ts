// A WebSocket of subprotocol clarion.v1.json: a frame is a text message.

import { connectFrame, isFarewell, type End, type Opening, type Transport, type TransportOwner } from "./transport.js";
import type { ClientFrame, ServerFrame, StreamErrorFrame } from "./wire.js";

const SUBPROTOCOL = "clarion.v1.json";

export class WebSocketTransport implements Transport {
  readonly kind = "websocket";
  readonly #socket: WebSocket;
  #error: StreamErrorFrame | undefined;

  // Throws if the browser does not even try.
  constructor(opening: Opening, owner: TransportOwner) {
    const url = new URL("stream", opening.base);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new opening.environment.WebSocket!(url, [SUBPROTOCOL]);
    this.#socket = socket;
    socket.onopen = () => this.send({ ...connectFrame(opening), token: opening.token });
    socket.onmessage = ({ data }) => {
      const frame = JSON.parse(data as string) as ServerFrame;
      if (frame.type === "error" && isFarewell(frame)) this.#error = frame;
      owner.onFrame(frame);
    };
    socket.onerror = () => {}; // its end says it; some libraries throw what nobody listens to
    socket.onclose = ({ code, reason }) => {
      const end: End = code === 1006 ? {} : { code, reason };
      if (this.#error && (code >= 4000 || this.#error.reconnect)) end.error = this.#error;
      owner.onEnd(end);
    };
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
