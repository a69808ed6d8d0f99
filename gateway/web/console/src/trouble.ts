// Trouble on purpose, in development: so that anyone can watch the client get over it. The client's own
// network is what goes wrong, nothing is pretended.

import { browserEnvironment, type Environment } from "clarion-client";

export class Trouble {
  /** What the client runs on. */
  readonly environment: Environment;
  /** A proxy that does not let WebSockets through. */
  #blockWebSocket = false;
  /** A proxy that keeps streamed responses to itself until they end. */
  #holdStreams = false;
  #offline = false;
  readonly #sockets = new Set<WebSocket>();
  readonly #requests = new Set<AbortController>();
  #listeners = new Set<Parameters<Environment["watch"]>[0]>();

  constructor() {
    const real = browserEnvironment();
    const trouble = this;
    this.environment = {
      ...real,
      WebSocket: class extends WebSocket {
        constructor(url: string | URL, protocols?: string | string[]) {
          // Where nobody speaks WebSocket.
          super(trouble.#blockWebSocket || trouble.#offline ? new URL("blocked", url) : url, protocols);
          trouble.#sockets.add(this);
          this.addEventListener("close", () => trouble.#sockets.delete(this));
        }
      },
      fetch: (url, init) => this.#fetch(url as URL, init ?? {}),
      watch: (listener) => {
        this.#listeners.add(listener);
        const end = real.watch(listener);
        return () => {
          this.#listeners.delete(listener);
          end();
        };
      },
    };
  }

  /** Whatever is open breaks, without a word. */
  dropConnection(): void {
    for (const socket of this.#sockets) {
      const { onclose } = socket;
      socket.onclose = socket.onmessage = null;
      socket.close();
      onclose?.call(socket, new CloseEvent("close", { code: 1006 }));
    }
    for (const request of this.#requests) request.abort();
    this.#requests.clear();
  }

  blockWebSocket(on: boolean): void {
    this.#blockWebSocket = on;
    if (on) this.dropConnection();
    else this.#shown();
  }

  holdStreams(on: boolean): void {
    this.#holdStreams = on;
    if (on) this.dropConnection();
    else this.#shown();
  }

  offline(on: boolean): void {
    this.#offline = on;
    if (on) this.dropConnection();
    for (const listener of [...this.#listeners]) on ? listener.offline() : listener.online();
  }

  // As a page that comes into view does: what was broken is looked at again.
  #shown(): void {
    for (const listener of [...this.#listeners]) listener.shown();
  }

  async #fetch(url: URL, init: RequestInit): Promise<Response> {
    if (this.#offline) throw new TypeError("offline");
    const stream = url.pathname.endsWith("/v1/stream");
    const abort = new AbortController();
    this.#requests.add(abort);
    init.signal?.addEventListener("abort", () => abort.abort());
    const response = await fetch(url, { ...init, signal: abort.signal });
    // What a proxy holds back: the header has come, the rest does not.
    if (stream && this.#holdStreams && response.ok) return new Response(new ReadableStream());
    if (!stream) this.#requests.delete(abort);
    return response;
  }
}
