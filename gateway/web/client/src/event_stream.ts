// One response of text/event-stream that goes on, and numbered requests for what the page says meanwhile.

import { LONGEST_TIMER_MS } from "./environment.js";
import { endOf, exchange } from "./http.js";
import { connectFrame, type End, type Opening, type Transport, type TransportOwner } from "./transport.js";
import type { ClientFrame, ServerFrame } from "./wire.js";

const ANSWER_WITHIN_MS = 15_000;
// Doubled each time, up to this.
const SAY_AGAIN_AFTER_MS = 500;
const SAY_AGAIN_AT_MOST_MS = 10_000;

export class EventStreamTransport implements Transport {
  readonly kind = "sse";
  readonly #opening: Opening;
  readonly #owner: TransportOwner;
  readonly #abort = new AbortController();
  #token: string;
  #connectionId = "";
  #outbox: ClientFrame[] = [];
  #sequence = 0;
  #saying = false;
  #ended = false;

  constructor(opening: Opening, owner: TransportOwner) {
    this.#opening = opening;
    this.#owner = owner;
    this.#token = opening.token;
    void this.#listen();
  }

  send(frame: ClientFrame): void {
    if (frame.type === "pong") return; // nobody waits for it here
    this.#outbox.push(frame);
    void this.#say();
  }

  renew(token: string): void {
    this.#token = token;
  }

  // What is being said gets through all the same.
  close(): void {
    this.#ended = true;
    this.#abort.abort();
  }

  #end(end: End): void {
    if (this.#ended) return;
    this.close();
    this.#owner.onEnd(end);
  }

  async #listen(): Promise<void> {
    try {
      await exchange(this.#opening, this.#token, "stream", [connectFrame(this.#opening)], LONGEST_TIMER_MS, async (response) => {
        if (!response.ok) return this.#end(await endOf(response));
        const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
        let rest = "";
        for (;;) {
          const { done, value } = await reader.read();
          if (done || this.#ended) return;
          const events = (rest + value).split("\n\n");
          rest = events.pop()!;
          for (const event of events) this.#receive(event);
        }
      }, this.#abort);
      this.#end({});
    } catch {
      this.#end({ unreachable: !this.#connectionId });
    }
  }

  #receive(event: string): void {
    const lines = event.match(/^data:[^\n]*/gm);
    if (!lines || this.#ended) return;
    const frame = JSON.parse(lines.map((line) => line.slice(5)).join("\n")) as ServerFrame;
    if (frame.type === "connected") {
      this.#connectionId = frame.connection_id;
      void this.#say();
    }
    this.#owner.onFrame(frame);
  }

  // One request at a time; without an answer the same again, under the same number.
  async #say(): Promise<void> {
    if (this.#saying || !this.#connectionId) return;
    this.#saying = true;
    while (this.#outbox.length > 0 && !this.#ended) {
      const body = { sequence: ++this.#sequence, messages: this.#outbox };
      this.#outbox = [];
      for (let wait = SAY_AGAIN_AFTER_MS; !this.#ended && !(await this.#passOn(body)); wait *= 2) {
        const ms = Math.min(wait, SAY_AGAIN_AT_MOST_MS);
        await new Promise<void>((resolve) => this.#opening.environment.setTimeout(resolve, ms));
      }
    }
    this.#saying = false;
  }

  async #passOn(body: object): Promise<boolean> {
    try {
      const path = `connections/${encodeURIComponent(this.#connectionId)}`;
      return await exchange(this.#opening, this.#token, path, body, ANSWER_WITHIN_MS, async ({ ok, status }) => {
        if (ok) return true;
        if (status === 429 || status >= 500) return false;
        // The gateway knows no such connection any more: what was said is lost with it.
        this.#end({});
        return true;
      });
    } catch {
      return false;
    }
  }
}
