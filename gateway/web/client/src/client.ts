// The client: one connection for all threads that a page follows.
//
// How far a thread has come is known in five places, in the order in which an event comes by:
//   Feed.position    has been delivered, whatever it was wanted for
//   StateFold.last   is in what the thread looks like
//   given            handlers have been called with, each event once; a thread and the client each have theirs
//   a reader's done  is processed: its handlers have returned, or its state has been shown
//   ack, acked       was said to the service, and answered
// A roll-back lowers all of them in one step, as the end of what is known of a thread does; and while a thread is asked for again, what comes is
// what an older subscription had under way: it moves the position alone, and nothing is acknowledged.

import { Connection, type ConnectionState, type TokenSource } from "./connection.js";
import { Emitter } from "./emitter.js";
import { browserEnvironment, Timers, type Environment } from "./environment.js";
import { ClarionError } from "./error.js";
import { Feed } from "./feed.js";
import { Thread, type ThreadHost, type ThreadOptions } from "./thread.js";
import { CONNECT_ID, isFarewell, type TransportKind } from "./transport.js";
import { backoffMs } from "./verdict.js";
import { Watermark } from "./watermark.js";
import type {
  ClarionEvent,
  MissedRangeFrame,
  Position,
  ServerFrame,
  StreamErrorFrame,
  SubscribedFrame,
  SubscribeFrame,
  ThreadSummary as Summary,
} from "./wire.js";

export interface ConnectOptions {
  /** Where the gateway is; absent: where the page came from. */
  url?: string | URL | undefined;
  /** The user's JSON Web Token, or what gets one; asked again when one is refused or about to end. */
  token: TokenSource;
  /** What this client is called in the service's lists. */
  client?: string | undefined;
  /** Which to use, the best first. */
  transports?: readonly TransportKind[] | undefined;
  /** Time, network and the rest; absent: the browser's. */
  environment?: Environment | undefined;
}

/** How all threads of the user are followed. */
export interface AllOptions {
  history?: "compacted" | "full";
  /**
   * "auto" (default): a thread is acknowledged once the client's "event" handlers have returned (and those
   * of its Thread, if there are any); "manual": by its Thread alone.
   */
  ack?: "auto" | "manual";
}

/** What a client tells. */
export interface ClientSignals {
  connection: ConnectionState;
  /** Every event of every thread that is followed, once, in the order of its thread. */
  event: ClarionEvent;
  /** A thread is followed from now on, or anew: also one that is new to the user. */
  subscribed: SubscribedFrame;
  missed: MissedRangeFrame;
  /** A thread is followed no longer, or something was refused. */
  error: ClarionError;
  /** Everything the gateway said, as it came, when all of the above is done. */
  frame: ServerFrame;
}

/** A thread in the list of the user's threads. */
export type ThreadSummary = Omit<Summary, "user_id" | "acknowledged_events">;

/** A page of a thread, deltas of a message drawn together. */
export interface EventPage {
  events: ClarionEvent[];
  /** What is missing in front of them. */
  missed: MissedRangeFrame[];
  /** The end of the thread. */
  last: Position;
}

// Acks of so long go together.
const ACK_EVERY_MS = 200;
// Threads that nobody uses; of more, the state is forgotten.
const MAX_RESTING = 32;
// Threads that were refused for the moment, as those beyond what the gateway allows a connection, are asked
// for again so many at a time.
const MAX_AGAIN = 16;
const AGAIN_AFTER_MS = 1_000; // the rest, at least
// At once; the gateway takes 200 frames a second on average.
const MAX_ACKS = 30;
const MAX_POSITIONS = 1024; // of one `connect`: stream.proto
const ACK_ID = "ack ";

// What the client knows of a thread.
interface Followed {
  readonly feed: Feed;
  thread: Thread | undefined;
  /** What the client's own "event" handlers have processed. */
  readonly mark: Watermark;
  /** What is to be acknowledged, and the id it was last said with; undefined: not said yet. */
  ack: (Position & { id?: string | undefined }) | undefined;
  /** What was answered. */
  acked: Position | undefined;
}

export class Client {
  readonly #environment: Environment;
  readonly #connection: Connection;
  readonly #emitter: Emitter<ClientSignals>;
  readonly #timers: Timers;
  // Most recently active last.
  readonly #followed = new Map<string, Followed>();
  readonly #threads = new Map<string, Thread>();
  // Are asked for again; and how often in a row that was refused too.
  readonly #refused = new Set<Feed>();
  #refusals = 0;
  // Nobody uses them, but they go on where they were if somebody does; the one that rests longest is first.
  readonly #resting = new Set<Thread>();
  readonly #host: ThreadHost;
  #all: (AllOptions & { id: string }) | undefined;
  #nextId = 1;
  #userId: string | undefined;
  readonly #report = (error: unknown) => this.#environment.report(error);

  constructor(options: ConnectOptions) {
    this.#environment = options.environment ?? browserEnvironment();
    this.#emitter = new Emitter<ClientSignals>(this.#report);
    this.#timers = new Timers(this.#environment);
    this.#connection = new Connection(
      {
        base: baseOf(options.url),
        token: options.token,
        client: options.client ?? "clarion-client",
        transports: options.transports ?? ["websocket", "sse", "polling"],
        environment: this.#environment,
      },
      {
        onState: (state) => this.#emitter.emit("connection", state),
        onFrame: (frame) => this.#receive(frame),
        onBegin: () => this.#beginAnew(),
        onMoved: () => {
          for (const frame of this.#subscriptions()) this.#connection.send(frame);
        },
        positions: () => this.#positions(),
        subscriptions: () => this.#subscriptions(),
        flush: () => this.#sendAcks(),
      },
    );
    this.#host = {
      follow: (thread, resume, anew) => this.#follow(thread, resume, anew),
      unfollow: (thread) => {
        this.#unfollow(thread);
        this.#resting.add(thread);
        if (this.#resting.size > MAX_RESTING) [...this.#resting][0]!.close();
      },
      forget: (thread) => this.#forget(thread),
      processed: (thread) => this.#processed(thread.id),
      ack: (thread, offset, epoch) => this.#planAck(thread.id, offset, epoch),
      history: (threadId, query) => this.history(threadId, query),
      timers: this.#timers,
      environment: this.#environment,
      report: this.#report,
    };
  }

  // --- For pages ---

  get connection(): ConnectionState {
    return this.#connection.state;
  }

  on<K extends keyof ClientSignals>(name: K, handler: (value: ClientSignals[K]) => unknown): () => void {
    return this.#emitter.on(name, handler);
  }

  /**
   * The same object for the same id. Options count with the first call, and with the first after Thread.close().
   * Throws CONTEXT_INVALID for what is no id: 1 to 128 printable characters of ASCII, without spaces.
   */
  thread(id: string, options: ThreadOptions = {}): Thread {
    // The gateway would end the connection, for all threads.
    if (!/^[!-~]{1,128}$/.test(id)) throw new ClarionError({ code: "CONTEXT_INVALID", message: `no thread id: ${id}` });
    let thread = this.#threads.get(id);
    if (!thread) this.#threads.set(id, (thread = new Thread(id, options, this.#host)));
    else if (thread.closed) thread.reopen(options);
    return thread;
  }

  /** Follows every thread of the user, also later ones, until close(). Returns what ends it sooner. */
  all(options: AllOptions = {}): () => void {
    const all = (this.#all = { ...options, id: this.#id() });
    this.#connection.open();
    this.#connection.send(this.#allFrame(all));
    return () => {
      if (this.#all !== all) return;
      this.#sendAcks();
      this.#all = undefined;
      this.#connection.send({ type: "unsubscribe", all: true });
      for (const [id, { feed, thread }] of this.#followed) {
        if (!thread) this.#followed.delete(id);
        if (!feed.named) continue;
        // It was followed by its name too, as long as nothing was missing; to be sure, anew.
        feed.ask(this.#id(), { after: feed.position ?? undefined, history: "full" });
        this.#connection.send(feed.subscription());
      }
    };
  }

  /** A page of the user's threads, most recently active first. */
  async threads(
    options: { limit?: number | undefined; pageToken?: string | undefined } = {},
  ): Promise<{ threads: ThreadSummary[]; nextPageToken?: string | undefined }> {
    const query = { limit: options.limit ?? 100, page_token: options.pageToken };
    const { threads, next_page_token } = (await this.#connection.ask("threads", query)) as {
      threads: ThreadSummary[];
      next_page_token?: string;
    };
    return { threads, nextPageToken: next_page_token };
  }

  /** A page of a thread's events that are kept, without following it: from the first on, or before an offset. */
  async history(threadId: string, query: { before?: number; limit?: number } = {}): Promise<EventPage> {
    return (await this.#connection.ask(`threads/${encodeURIComponent(threadId)}/events`, query)) as EventPage;
  }

  /** Connects, if nothing did yet, and follows what has handlers. Following does so by itself. */
  open(): void {
    this.#connection.open();
    for (const thread of this.#threads.values()) thread.again();
  }

  /** At once, instead of when it is planned; also after ERROR. */
  reconnect(): void {
    this.#connection.reconnect();
  }

  /** Ends the connection and forgets everything but the handlers; open() begins anew. */
  close(): void {
    for (const thread of [...this.#threads.values()]) thread.close();
    this.#all = this.#userId = undefined;
    this.#timers.clearAll();
    this.#followed.clear();
    this.#connection.close();
  }

  // --- Following ---

  #record(threadId: string): Followed {
    let followed = this.#followed.get(threadId);
    if (!followed) {
      const mark = new Watermark(threadId, 0, () => this.#processed(threadId), this.#report);
      followed = { feed: new Feed(threadId), thread: undefined, mark, ack: undefined, acked: undefined };
      this.#followed.set(threadId, followed);
    }
    return followed;
  }

  // What comes of a thread that was closed meanwhile is nobody's.
  #known(threadId = ""): Followed | undefined {
    return this.#all && threadId ? this.#record(threadId) : this.#followed.get(threadId);
  }

  #follow(thread: Thread, resume: boolean, anew: boolean): void {
    const followed = this.#record(thread.id);
    const { feed } = followed;
    if (feed.named && !anew) return;
    const { after, from, history } = thread.options;
    this.#resting.delete(thread);
    followed.thread = thread;
    feed.named = true;
    feed.history = history;
    // What all threads are followed by must not skip anything.
    const at = resume ? thread.snapshot.position : this.#all && from === "live" ? feed.position : null;
    // The client's handlers may have heard a part of what comes; of events drawn together they could not be
    // told the rest alone.
    const apart = followed.mark.given > 0 && this.#emitter.has("event") ? "full" : undefined;
    feed.ask(this.#id(), { ...(at?.epoch ? { after: at } : feed.firstPlace({ after, from })), history: apart });
    this.#connection.open();
    this.#connection.send(feed.subscription());
  }

  #unfollow(thread: Thread): void {
    const { id } = thread;
    const followed = this.#followed.get(id);
    if (!followed) return;
    this.#sendAcks();
    const { feed } = followed;
    feed.named = false;
    // With all others it goes on; also from where it was asked for, if that was not refused.
    if (this.#refused.delete(feed) || !this.#all) feed.request = undefined;
    this.#connection.send({ type: "unsubscribe", thread_id: id });
  }

  #forget(thread: Thread): void {
    const followed = this.#followed.get(thread.id);
    this.#resting.delete(thread);
    if (followed?.feed.named) this.#unfollow(thread);
    if (!followed) return;
    followed.thread = undefined;
    if (!this.#all) this.#followed.delete(thread.id);
  }

  #allFrame({ history, id }: AllOptions & { id: string }): SubscribeFrame {
    const after = [...this.#followed.values()]
      .filter(({ feed }) => feed.position?.epoch)
      .slice(-MAX_POSITIONS)
      .map(({ feed }) => ({ thread_id: feed.threadId, ...feed.position! }));
    return { type: "subscribe", id, all: true, after: after.length > 0 ? after : undefined, history };
  }

  // `connect` says what is followed.
  #beginAnew(): void {
    for (const { feed } of this.#followed.values()) {
      const { request } = feed;
      if (!request) continue;
      request.withConnect = true;
      if (feed.named) continue;
      // With all others it goes on from there.
      if (request.after) feed.position = request.after;
      feed.request = undefined;
    }
  }

  #subscriptions(): SubscribeFrame[] {
    const named = [...this.#followed.values()].filter(({ feed }) => feed.named || (this.#all && feed.request));
    const subscriptions = named.map(({ feed }) => feed.subscription());
    if (this.#all) subscriptions.unshift(this.#allFrame(this.#all));
    return subscriptions;
  }

  #positions(): Map<string, Position | null> {
    return new Map([...this.#followed].map(([id, { feed }]) => [id, feed.position]));
  }

  // --- What comes ---

  #receive(frame: ServerFrame): void {
    switch (frame.type) {
      case "connected":
        this.#greet(frame.user_id);
        this.#refused.clear(); // `connect` named them all
        this.#unsaid();
        break;
      case "bound":
        this.#record(frame.thread_id);
        this.#threads.get(frame.thread_id)?.again();
        break;
      case "subscribed":
        this.#subscribed(frame);
        break;
      case "unsubscribed":
        if (this.#refused.size > 0) this.#againAfter(0); // there may be room now
        break;
      case "caught_up":
        this.#caughtUp(frame.thread_id);
        break;
      case "missed":
        this.#missed(frame);
        break;
      case "acked":
        this.#acked(frame.thread_id, frame.id);
        break;
      case "error":
        this.#failed(frame);
        break;
      default:
        // Frames of later versions are nothing to us.
        if ("event_id" in frame && !this.#event(frame)) return;
    }
    this.#emitter.emit("frame", frame);
  }

  // What was another user's is not this one's to see.
  #greet(userId: string): void {
    const another = (this.#userId ??= userId) !== userId;
    this.#userId = userId;
    if (!another) return;
    this.#followed.clear();
    for (const thread of this.#threads.values()) {
      thread.close();
      thread.again();
    }
  }

  #subscribed(frame: SubscribedFrame): void {
    const followed = this.#known(frame.thread_id);
    if (!followed || !frame.thread_id) return;
    const { feed, thread, mark } = followed;
    const before = feed.position;
    this.#refusals = 0;
    const verdict = feed.subscribed(frame, CONNECT_ID);
    if (verdict === "in place") {
      feed.ask(this.#id(), feed.firstPlace({}));
      this.#connection.send(feed.subscription());
    }
    if (verdict === "begun" && (frame.claim || feed.position !== before)) {
      // Where it goes on for this page.
      thread?.subscribed({ ...frame, from_offset: (feed.position?.offset ?? 0) + 1 });
    }
    if (frame.claim && !feed.named) this.#followed.delete(frame.thread_id);
    if (frame.claim) mark.backTo(0);
    this.#emitter.emit("subscribed", frame);
  }

  #caughtUp(threadId: string): void {
    const followed = this.#followed.get(threadId);
    if (!followed) return;
    if (!followed.feed.request) followed.thread?.caughtUp();
    this.#processed(threadId); // what was done while it was asked for
    if (followed.ack) this.#ackSoon(); // the last one may have gone down with the connection before
  }

  #missed(frame: MissedRangeFrame): void {
    const followed = this.#known(frame.thread_id);
    if (!followed) return;
    const { feed, thread, mark } = followed;
    const { epoch = "", discard_after, to_offset = 0 } = frame;
    if (!feed.missed(frame)) return;
    const kept = discard_after ?? to_offset;
    if (discard_after !== undefined && mark.epoch !== epoch) mark.backTo(kept);
    mark.skipTo(kept);
    const last = Math.min(feed.position!.offset, thread && !feed.request ? thread.missed(frame) : Infinity);
    this.#emitter.emit("missed", frame);
    if (frame.reason === "deleted" || last >= kept) return;
    // An event that went whole, though only its end was lost. Handlers have heard its beginning.
    feed.ask(this.#id(), { after: { epoch, offset: last }, history: "full" });
    this.#connection.send(feed.subscription());
  }

  /** False: it is none that the page is to see. */
  #event(event: ClarionEvent): boolean {
    const followed = this.#known(event.thread_id);
    if (!followed) return false;
    const { feed, mark } = followed;
    const verdict = feed.take(event);
    if (verdict === "repeat") return false;
    if (verdict === "gap") {
      this.#askAgain(feed);
      return false;
    }
    // To the end: it is the most recently active one now.
    this.#followed.delete(event.thread_id);
    this.#followed.set(event.thread_id, followed);
    if (event.offset > mark.given) {
      mark.given = event.offset;
      mark.epoch = feed.position!.epoch;
      const results = this.#emitter.emit("event", event);
      mark.take((event.first_offset ?? event.offset) - 1, event.offset, results);
    }
    // What an older subscription still had under way comes again after the answer to the thread's own.
    if (!feed.request) followed.thread?.event(event);
    this.#processed(event.thread_id);
    return true;
  }

  // The protocol rules gaps out; should there be one all the same, nothing is lost but time.
  #askAgain(feed: Feed): void {
    // Asked already, or followed no longer: this was under way.
    if (feed.request || !(feed.named || this.#all)) return;
    const after = feed.position ?? undefined;
    feed.ask(this.#id(), { after });
    this.#connection.send(feed.subscription());
    const message = `a gap after ${after?.offset ?? 0}; asking again`;
    this.#emitter.emit("error", new ClarionError({ code: "GAP", message, thread_id: feed.threadId }));
  }

  #failed(frame: StreamErrorFrame): void {
    const { id, thread_id, retry_after_ms, code } = frame;
    if (thread_id && id?.startsWith(ACK_ID)) return this.#ackFailed(frame);
    if (thread_id) return this.#threadFailed(frame);
    this.#emitter.emit("error", new ClarionError(frame));
    // All threads were not to be had, so nothing is followed.
    const ofAll = id === CONNECT_ID || (this.#all && (id === this.#all.id || (!id && !isFarewell(frame))));
    if (this.#connection.live && ofAll) {
      this.#connection.restart(frame.user_message || frame.message || code, retry_after_ms ?? 0, code);
    }
  }

  #threadFailed(frame: StreamErrorFrame): void {
    const { thread_id: threadId = "", retry_after_ms, code } = frame;
    const followed = this.#followed.get(threadId);
    this.#emitter.emit("error", new ClarionError(frame));
    if (!followed) return;
    const { feed, thread } = followed;
    if (retry_after_ms) {
      // What was followed comes back by itself; what was only asked for does not.
      if (!feed.named) feed.request = undefined;
      if (!feed.named || !(feed.request || code === "RATE_LIMITED")) return;
      feed.request ??= { id: this.#id(), after: feed.position ?? undefined };
      this.#refused.add(feed);
      thread?.refused(frame);
      if (!this.#timers.has("again")) this.#againAfter(retry_after_ms);
      return;
    }
    feed.named = false;
    feed.request = undefined;
    thread?.failed(frame);
    if (code === "NOT_FOUND") this.#followed.delete(threadId);
  }

  #againAfter(leastMs: number): void {
    this.#timers.set("again", leastMs && backoffMs(this.#refusals++, leastMs, this.#environment), () => {
      let left = MAX_AGAIN;
      for (const feed of this.#refused) {
        if (left-- === 0) return this.#againAfter(AGAIN_AFTER_MS);
        this.#refused.delete(feed);
        if (feed.named && feed.request) this.#connection.send(feed.subscription());
      }
    });
  }

  // --- Acks ---

  #processed(threadId: string): void {
    const followed = this.#followed.get(threadId);
    if (!followed) return;
    const { feed, thread, mark } = followed;
    const ofThread = thread?.done;
    const ofClient = this.#all?.ack !== "manual" && this.#emitter.has("event") ? mark.done : undefined;
    if ((ofThread === undefined && ofClient === undefined) || thread?.options.ack === "manual") return;
    if (feed.request) return; // where it goes on is being settled
    this.#planAck(threadId, Math.min(ofThread ?? Infinity, ofClient ?? Infinity));
  }

  #planAck(threadId: string, upTo: number, of?: string): void {
    const followed = this.#followed.get(threadId);
    const position = followed?.feed.position;
    if (!followed || !position?.epoch || !(followed.feed.named || this.#all)) return;
    const { epoch } = position;
    if (of && of !== epoch) return;
    const offset = Math.min(upTo, position.offset);
    const known = followed.ack ?? followed.acked;
    if (offset <= 0 || (known?.epoch === epoch && known.offset >= offset)) return;
    followed.ack = { epoch, offset };
    this.#ackSoon();
  }

  #ackSoon(): void {
    if (!this.#timers.has("ack")) this.#timers.set("ack", ACK_EVERY_MS, () => this.#sendAcks());
  }

  #sendAcks(): void {
    this.#timers.clear("ack");
    if (!this.#connection.live) return; // the next one says it
    let left = MAX_ACKS;
    for (const [thread_id, { ack, feed }] of this.#followed) {
      if (!ack || ack.id !== undefined || !(feed.named || this.#all)) continue;
      if (--left < 0) return this.#ackSoon();
      ack.id = ACK_ID + this.#id();
      this.#connection.send({ type: "ack", id: ack.id, thread_id, epoch: ack.epoch, offset: ack.offset });
    }
  }

  // Acks that were said on a connection that is gone are said again.
  #unsaid(): void {
    for (const { ack } of this.#followed.values()) if (ack) ack.id = undefined;
  }

  #acked(threadId: string, id: string | undefined): void {
    const followed = this.#followed.get(threadId);
    if (!followed?.ack || followed.ack.id !== id) return;
    followed.acked = followed.ack;
    followed.ack = undefined;
  }

  #ackFailed({ id, thread_id: threadId = "", retry_after_ms, code }: StreamErrorFrame): void {
    const followed = this.#followed.get(threadId);
    if (!followed?.ack || followed.ack.id !== id) return;
    // Not followed on this connection yet: `caught_up` says it again. Otherwise it will never count.
    if (code === "NOT_FOUND") followed.ack.id = undefined;
    else if (!retry_after_ms) followed.ack = undefined;
    else {
      this.#timers.set(`ack ${threadId}`, retry_after_ms, () => {
        if (followed.ack?.id === id) followed.ack!.id = undefined;
        this.#sendAcks();
      });
    }
  }

  #id(): string {
    return String(this.#nextId++);
  }
}

/** A client for the user whom the token names. It connects when something is followed. */
export function connect(options: ConnectOptions): Client {
  return new Client(options);
}

// …/v1/, whether the gateway's address was given with or without the path, as http or as ws.
function baseOf(url: string | URL | undefined): URL {
  const page = globalThis as { document?: Document; location?: Location };
  // On a server nothing connects.
  const base = new URL(url ?? "/", (page.document ?? { baseURI: page.location?.href }).baseURI ?? "http://localhost");
  base.protocol = base.protocol.replace(/^ws/, "http");
  base.pathname = base.pathname.replace(/(\/v1(\/stream)?)?\/?$/, "/v1/");
  return base;
}
