// Requests that wait for something to say. Each one says how far the page is; between them the service
// keeps the connection's place.

import { endOf, exchange } from "./http.js";
import { connectFrame, isFarewell, type End, type Opening, type Transport, type TransportOwner } from "./transport.js";
import type { ClientFrame, ConnectedFrame, ServerFrame } from "./wire.js";

const WAIT_SECONDS = 25;
const GIVE_UP_AFTER_MS = (WAIT_SECONDS + 15) * 1000;
// So soon after an answer the page has shown what was in it, and its acks go with the next request.
const PAUSE_MS = 30;

/** What outlives a lost request: the same connection goes on. */
export class PollMemory {
  connected: ConnectedFrame | undefined;
  /**
   * Of each thread, and of all under "": to be asked for, with the next request; asked for; or the page was told
   * `subscribed`, and says where it is. Of what is not in here: to be asked for, if it is followed.
   */
  readonly known = new Map<string, "wanted" | "asked" | "told">();
}

export class PollingTransport implements Transport {
  readonly kind = "polling";
  readonly #opening: Opening;
  readonly #owner: TransportOwner;
  readonly #memory: PollMemory;
  readonly #aborts = new Set<AbortController>();
  #token: string;
  #outbox: ClientFrame[] = [];
  #requests = 0;
  #answered: Promise<void> = Promise.resolve();
  #pause: unknown;
  #begun = false;
  #greeted = false;
  // The gateway said that it ends the connection.
  #over = false;
  #ended = false;

  constructor(opening: Opening, owner: TransportOwner, memory: PollMemory) {
    this.#opening = opening;
    this.#owner = owner;
    this.#token = opening.token;
    this.#memory = memory;
    // What was asked for with a request that was lost.
    for (const [thread, how] of memory.known) if (how !== "told") memory.known.delete(thread);
    for (const { thread_id, id } of owner.subscriptions()) if (id && thread_id) memory.known.delete(thread_id);
    // Not before the owner has this object.
    this.#pollSoon(0);
  }

  send(frame: ClientFrame): void {
    const { known } = this.#memory;
    switch (frame.type) {
      case "pong":
        return;
      case "subscribe":
        // What to follow each request says anew. An answer that is being taken knows nothing of it.
        known.set(frame.thread_id ?? "", "wanted");
        break;
      case "unsubscribe":
        if (frame.all) {
          const named = new Set(this.#owner.subscriptions().map(({ thread_id }) => thread_id));
          for (const thread of known.keys()) if (!named.has(thread)) known.delete(thread);
        } else if (!known.has("")) {
          known.delete(frame.thread_id!);
        }
      // falls through
      default:
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

  #pollSoon(ms: number): void {
    const { environment } = this.#opening;
    environment.clearTimeout(this.#pause);
    this.#pause = environment.setTimeout(() => {
      this.#owner.flush();
      environment.clearTimeout(this.#pause); // flushing may have asked for another
      this.#answered = this.#poll(this.#answered);
    }, ms);
  }

  // Answers are taken in the order of their requests; only the last request is followed by another.
  async #poll(before: Promise<void>): Promise<void> {
    if (this.#ended) return;
    const request = ++this.#requests;
    const said = this.#outbox;
    this.#outbox = [];
    const abort = new AbortController();
    this.#aborts.add(abort);
    this.#begun = true;
    try {
      await exchange(this.#opening, this.#token, "poll", this.#body(said), GIVE_UP_AFTER_MS, async (response) => {
        if (!response.ok) return this.#end(await endOf(response));
        const { frames } = (await response.json()) as { frames: ServerFrame[] };
        await before;
        this.#receive(frames);
      }, abort);
    } catch {
      this.#end({ unreachable: true });
    }
    this.#aborts.delete(abort);
    if (!this.#ended && request === this.#requests) this.#pollSoon(PAUSE_MS);
  }

  #body(said: ClientFrame[]): object {
    const { known, connected } = this.#memory;
    const positions = [...this.#owner.positions()]
      .filter(([thread]) => known.get(thread) === "told")
      .map(([thread_id, at]) => ({ thread_id, ...at }));
    const subscribe = this.#owner.subscriptions().filter(({ thread_id = "" }) => (known.get(thread_id) ?? "wanted") === "wanted");
    for (const { thread_id = "" } of subscribe) known.set(thread_id, "asked");
    return {
      ...(connected && { connection_id: connected.connection_id }),
      ...(known.get("") === "told" && { all: true }),
      ...(this.#owner.subscriptions().some(({ history }) => history === "full") && { history: "full" }),
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
    if (this.#over) this.#end({});
  }

  #note(frame: ServerFrame): void {
    const { known, connected } = this.#memory;
    switch (frame.type) {
      case "connected":
        this.#memory.connected = frame;
        break;
      case "refreshed":
        this.#memory.connected = { ...connected!, ...(frame.token_expires_at && { token_expires_at: frame.token_expires_at }) };
        break;
      case "subscribed": {
        const { thread_id = "" } = frame;
        if (known.get(thread_id) !== "wanted") known.set(thread_id, "told");
        break;
      }
      case "error": {
        const { id, thread_id = "", retry_after_ms, code } = frame;
        if (isFarewell(frame)) this.#over = true;
        // All threads are followed no longer, or this one. With retry_after_ms the client asks again when it is time.
        else if (thread_id === "" ? !id : known.get(thread_id) === "asked" ? !retry_after_ms : code === "NOT_FOUND") known.delete(thread_id);
        break;
      }
      case "going_away":
        this.#over = true;
    }
  }
}
