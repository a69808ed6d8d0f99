// Where the connection stands: always visible, and said aloud when it changes.

import type { Client, ConnectionState } from "clarion-client";

import { $, setAttribute, setText } from "./dom.js";
import { moment } from "./format.js";

const TRANSPORTS = { websocket: "WebSocket", sse: "event stream", polling: "polling" };
const WORDS = {
  CONNECTING: "Connecting",
  CONNECTED: "Live",
  DISCONNECTED: "Disconnected",
  ERROR: "Not connected",
};
// A token that ends so soon, and that nobody renews, is worth a word.
const ENDS_SOON_MS = 120_000;

export class ConnectionView {
  #state: ConnectionState;
  readonly #renewsTokens: () => boolean;

  constructor(client: Client, renewsTokens: () => boolean) {
    this.#state = client.connection;
    this.#renewsTokens = renewsTokens;
    $("retry").addEventListener("click", () => client.reconnect());
  }

  draw(state: ConnectionState): void {
    this.#state = state;
    setAttribute($("connection"), "data-state", state.state);
    setAttribute($("connection"), "data-transport", state.transport);
    setText($("connection-label"), WORDS[state.state]);
    setText($("connection-transport"), TRANSPORTS[state.transport]);
    $("connection-transport").hidden = state.state === "ERROR";
    this.#offerRetry(state);
    this.tick(Date.now());
  }

  // It stays while it is tried, and whoever has pressed it is told how that ends.
  #offerRetry({ state, retryAt }: ConnectionState): void {
    const retry = $("retry");
    if (state === "CONNECTING") return;
    const offered = state === "ERROR" || (state === "DISCONNECTED" && retryAt !== undefined);
    if (!offered && document.activeElement === retry) $("connection").focus();
    retry.hidden = !offered;
  }

  /** Counts down. */
  tick(now: number): void {
    const { state, reason, retryAt, tokenExpiresAt } = this.#state;
    const parts = reason === "" ? [] : [reason.replace(/\.$/, "")];
    if (state === "DISCONNECTED" && retryAt) parts.push(`trying again in ${Math.max(0, Math.ceil((retryAt - now) / 1000))}\u00a0s`);
    if (state === "CONNECTED" && !this.#renewsTokens() && Date.parse(tokenExpiresAt ?? "") - now < ENDS_SOON_MS) {
      parts.push(`the token ends at ${moment(tokenExpiresAt)}`);
    }
    setText($("connection-reason"), parts.join(", "));
  }
}
