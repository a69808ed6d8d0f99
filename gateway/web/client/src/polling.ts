// Requests that wait for something to say. Each one says how far the page is; between them the service
// keeps the connection's place.

import { connectFrame, endOf, isFarewell, post, type End, type Opening, type Transport, type TransportOwner } from "./transport.js";
import type { ClientFrame, ConnectedFrame, ServerFrame } from "./wire.js";

const WAIT_SECONDS = 25;
const GIVE_UP_AFTER_MS = (WAIT_SECONDS + 15) * 1000;
// So soon after an answer the page has shown what was in it, and its acks go with the next request.
const PAUSE_MS = 30;

/** What outlives a lost request: the same connection goes on. */
export class PollMemory {
  connected: ConnectedFrame | undefined;
  /** Threads of which the page was told `subscribed`. */
  told = new Set<string>();
  toldAll = false;
}

export class PollingTransport implements Transport {
  readonly kind = "polling";
  readonly #opening: Opening;
  readonly #owner: TransportOwner;
  readonly #memory: PollMemory;
  readonly #aborts = new Set<AbortController>();
  #token: string;
  #outbox: ClientFrame[] = [];
  // Asked for with a request that is not answered yet.
  readonly #asked = new Set<string>();
  #requests = 0;
  #answered: Promise<void> = Promise.resolve();
  #pause: unknown;
  #begun = false;
  #greeted = false;
  // What the gateway said before it ended the connection.
  #last: End | undefined;
  #ended = false;

  constructor(opening: Opening, owner: TransportOwner, memory: PollMemory) {
    this.#opening = opening;
    this.#owner = owner;
    this.#memory = memory;
    this.#token = opening.token;
    // Not before the owner has this object.
    this.#pollSoon(0);
  }

  send(frame: ClientFrame): void {
    if (frame.type === "pong") return;
    if (frame.type === "subscribe") {
      // What to follow each request says anew.
      this.#forget(frame.all ? "" : frame.thread_id!);
    } else {
      if (frame.type === "unsubscribe") this.#unsubscribed(frame.all ? "" : frame.thread_id!);
      this.#outbox.push(frame);
    }
    // A request that waits is answered at once when another one comes.
    if (this.#begun) this.#pollSoon(0);
  }

  renew(token: string): void {
    this.#token = token;
  }

  close(): void {
    this.#ended = true;
    this.#opening.environment.clearTimeout(this.#pause);
    for (const abort of this.#aborts) abort.abort();
  }

  #end(end: End): void {
    if (this.#ended) return;
    this.close();
    this.#owner.onEnd(end);
  }

  #unsubscribed(thread: string): void {
    this.#forget(thread);
    if (thread !== "") return;
    const named = new Set(this.#owner.subscriptions().map(({ thread_id }) => thread_id));
    for (const told of this.#memory.told) if (!named.has(told)) this.#memory.told.delete(told);
  }

  #forget(thread: string): void {
    this.#asked.delete(thread);
    if (thread === "") this.#memory.toldAll = false;
    else this.#memory.told.delete(thread);
  }

  #pollSoon(ms: number): void {
    const { environment } = this.#opening;
    environment.clearTimeout(this.#pause);
    this.#pause = environment.setTimeout(() => {
      this.#owner.flush();
      environment.clearTimeout(this.#pause); // flushing may have asked for another
      const before = this.#answered;
      this.#answered = this.#poll(before);
    }, ms);
  }

  // Answers are taken in the order of their requests; only the last request is followed by another.
  async #poll(before: Promise<void>): Promise<void> {
    if (this.#ended) return;
    const { environment } = this.#opening;
    const request = ++this.#requests;
    const said = this.#outbox;
    this.#outbox = [];
    const abort = new AbortController();
    this.#aborts.add(abort);
    this.#begun = true;
    const timer = environment.setTimeout(() => abort.abort(), GIVE_UP_AFTER_MS);
    let end: End | undefined;
    try {
      const response = await post(this.#opening, this.#token, "poll", this.#body(said), abort.signal);
      if (response.ok) {
        const answer = (await response.json()) as { frames: ServerFrame[] };
        await before;
        this.#receive(answer.frames);
      } else {
        end = await endOf(response);
      }
    } catch {
      end = { unreachable: true };
    }
    environment.clearTimeout(timer);
    this.#aborts.delete(abort);
    if (end) return this.#end(end);
    if (!this.#ended && request === this.#requests) this.#pollSoon(PAUSE_MS);
  }

  #body(said: ClientFrame[]): object {
    const { told, toldAll, connected } = this.#memory;
    const positions = [...this.#owner.positions()]
      .filter(([thread]) => told.has(thread))
      .map(([thread_id, at]) => ({ thread_id, ...at }));
    const subscribe = this.#owner.subscriptions().filter(({ all, thread_id }) => {
      const thread = all ? "" : thread_id!;
      const wanted = !this.#asked.has(thread) && !(all ? toldAll : told.has(thread));
      if (wanted) this.#asked.add(thread);
      return wanted;
    });
    return {
      ...(connected && { connection_id: connected.connection_id }),
      ...(toldAll && { all: true }),
      // What ends goes before what begins anew.
      messages: [connectFrame({ ...this.#opening, subscribe: [] }), ...said, ...subscribe],
      positions,
      // A connection that goes on says so at once.
      wait: connected && !this.#greeted ? 0 : WAIT_SECONDS,
    };
  }

  #receive(frames: ServerFrame[]): void {
    const { connected } = this.#memory;
    // The connection goes on, so the gateway does not say it again.
    if (connected && !this.#greeted) frames = [connected, ...frames];
    this.#greeted = true;
    for (const frame of frames) {
      if (this.#ended) return;
      this.#note(frame);
      this.#owner.onFrame(frame);
    }
    if (this.#last) this.#end(this.#last);
  }

  #note(frame: ServerFrame): void {
    if (frame.type === "connected") {
      this.#memory.connected = frame;
    } else if (frame.type === "subscribed") {
      if (frame.all) this.#memory.toldAll = true;
      else this.#memory.told.add(frame.thread_id!);
      this.#asked.delete(frame.all ? "" : frame.thread_id!);
    } else if (frame.type === "error") {
      if (frame.thread_id) {
        // With retry_after_ms the client asks again when it is time.
        if (!frame.retry_after_ms) this.#asked.delete(frame.thread_id);
        if (frame.code === "NOT_FOUND") this.#memory.told.delete(frame.thread_id);
      } else if (isFarewell(frame)) {
        this.#last = { code: 4000, error: frame };
      } else if (!frame.id) {
        this.#forget(""); // all threads are followed no longer
      }
    } else if (frame.type === "refreshed") {
      this.#memory.connected = { ...this.#memory.connected!, ...(frame.token_expires_at && { token_expires_at: frame.token_expires_at }) };
    } else if (frame.type === "going_away") {
      this.#last = { code: 1001 };
    }
  }
}
