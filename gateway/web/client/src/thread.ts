// One conversation, as a page sees it: its events as they come, and what they make of it.

import { Emitter } from "./emitter.js";
import type { Environment, Timers } from "./environment.js";
import { ClarionError } from "./error.js";
import type { FollowOptions } from "./feed.js";
import { mergedOf, StateFold, type Entry, type ThreadState } from "./state.js";
import { isThenable, MAX_WAITING, overflow, Watermark } from "./watermark.js";
import type { ClarionEvent, EventOf, EventType, MissedRangeFrame, Position, StreamErrorFrame, SubscribedFrame } from "./wire.js";

export interface ThreadOptions extends FollowOptions {
  /**
   * "auto" (default): what handlers, iterations and state handlers have taken is acknowledged once they have
   * returned; "manual": only by ack().
   */
  ack?: "auto" | "manual" | undefined;
}

/** What a thread tells besides its events. */
export interface ThreadSignals {
  /** Every event, whatever its type. */
  event: ClarionEvent;
  /** It looks different now. Said once for all that came since it was last painted. */
  state: ThreadState;
  /** Events that nobody can show any more, before anything newer. */
  missed: MissedRangeFrame;
  /** Everything up to when it was subscribed to is here. */
  caught_up: Position;
  /** It is not followed; with retryAfterMs for the moment. */
  error: ClarionError;
}

type Handled = { [T in EventType]: EventOf<T> } & ThreadSignals;

/** @internal What a thread needs of its client. */
export interface ThreadHost {
  /**
   * Whether the thread is followed is the client's to know. `resume`: what the thread has seen is still there;
   * `anew`: also if it is followed, since something was missed.
   */
  follow(thread: Thread, resume: boolean, anew: boolean): void;
  unfollow(thread: Thread): void;
  forget(thread: Thread): void;
  /** It may be that more of the thread is processed now. */
  processed(thread: Thread): void;
  /** An ack by hand. */
  ack(thread: Thread, offset: number, epoch?: string): void;
  history(threadId: string, query: { before: number; limit: number }): Promise<{ events: ClarionEvent[]; missed: MissedRangeFrame[] }>;
  readonly timers: Timers;
  readonly environment: Environment;
  report(error: unknown): void;
}

// A page that takes its last handler away and adds another one soon does not notice.
const LINGER_MS = 1_000;

// Who hears these has not read the events.
const SIGNALS = new Set<string>(["missed", "caught_up", "error"]);

interface Reader {
  readonly done: number;
  backTo(last: number): void;
}

export class Thread {
  readonly id: string;
  /** @internal Those of the next call of Client.thread() after close(). */
  options: ThreadOptions;
  /** @internal Since close(), until it is asked for again. */
  closed = false;

  readonly #host: ThreadHost;
  readonly #emitter: Emitter<Handled>;
  readonly #fold: StateFold;
  // Who processes the thread; an ack goes no further than the last of them has come.
  readonly #readers = new Set<Reader>();
  readonly #iterations = new Set<Iteration>();
  // They are one reader together.
  // Their mark outlives them as long as the thread is followed: who comes next goes on where they were.
  #handlers: { readonly mark: Watermark; leave: () => void; count: number } | undefined;
  readonly #users = new Set<object>();
  #held = false;
  #begun = false;
  // The last event that handlers and iterations were given: what comes again up to there is for the state only.
  #given = 0;
  // Something came while nobody used it.
  #behind = false;
  #paintPlanned = false;
  #loading: Promise<boolean> | undefined;

  /** @internal Client.thread() makes them. */
  constructor(id: string, options: ThreadOptions, host: ThreadHost) {
    this.id = id;
    this.options = options;
    this.#host = host;
    this.#emitter = new Emitter<Handled>(host.report);
    this.#fold = new StateFold(id);
  }

  // --- For pages ---

  /**
   * Calls `handler` for each event of this type, in order, once; "event" is every event, "state" what the
   * thread looks like. Returns what takes the handler away. The thread is followed while there are handlers,
   * iterations or hooks. What a handler returns a promise for is processed when that settles; while 10,000
   * events wait for theirs, or once a handler has failed, nothing behind them is acknowledged, and
   * Environment.report() is told.
   */
  on<K extends keyof Handled>(name: K, handler: (value: Handled[K]) => unknown): () => void {
    if (SIGNALS.has(name)) return this.#onSignal(name, handler);
    return name === "state" ? this.#onState(handler as (state: ThreadState) => unknown) : this.#onEvents(name, handler);
  }

  /** What the thread looks like. Follows it from now on, until close(). */
  state(): ThreadState {
    this.#hold();
    return this.#fold.snapshot();
  }

  /** Its events, consecutive deltas of a message drawn together. Follows it from now on, until close(). */
  events(): readonly ClarionEvent[] {
    this.#hold();
    return this.#fold.events();
  }

  /** Every event from now on. One counts as processed when the next is asked for. */
  [Symbol.asyncIterator](): AsyncIterator<ClarionEvent, void> & AsyncIterable<ClarionEvent> {
    const iteration = new Iteration(this.#fold.last, this.id, () => this.#host.processed(this), () => leave());
    this.#iterations.add(iteration);
    const done = this.#read(iteration);
    const leave = () => {
      this.#iterations.delete(iteration);
      done();
    };
    return iteration;
  }

  /**
   * Everything up to this event or position has been processed. An event says no epoch: after a `missed` with
   * discard_after, name none that came before it.
   */
  ack(at: ClarionEvent | Position | number): void {
    if (typeof at === "number") return this.#host.ack(this, at);
    // A position of another epoch may not be what it was.
    this.#host.ack(this, at.offset, (at as Position).epoch);
  }

  /** Loads what came before what is here. Resolves to whether there is more. */
  async older(limit = 200): Promise<boolean> {
    this.#loading ??= this.#load(limit).finally(() => (this.#loading = undefined));
    return this.#loading;
  }

  /**
   * Follows it no longer, ends the iterations, and forgets what is known of it. Handlers stay: one more, a hook
   * or Client.open() follows it anew, for all of them.
   */
  close(): void {
    this.#host.timers.clear(this.#lingering);
    for (const iteration of [...this.#iterations]) iteration.finish();
    this.#host.forget(this);
    this.closed = true;
    this.#held = this.#behind = false;
    this.#forget();
    this.#changed();
  }

  // --- For hooks ---

  /** As state() and events(), without following. */
  get snapshot(): ThreadState {
    return this.#fold.snapshot();
  }

  get shownEvents(): readonly ClarionEvent[] {
    return this.#fold.events();
  }

  /** Who shows the thread says how far. */
  reader(changed: (state: ThreadState) => void): { shown(position: Position): void; close(): void } {
    const reader = {
      done: 0, // nothing was shown yet
      backTo(last: number): void {
        this.done = Math.min(this.done, last);
      },
    };
    const leave = this.#read(reader);
    const off = this.#emitter.on("state", changed);
    return {
      shown: ({ epoch, offset }) => {
        if (epoch !== this.snapshot.position?.epoch) return; // of what was rolled back, perhaps
        reader.done = Math.max(reader.done, offset);
        this.#host.processed(this);
      },
      close: () => {
        off();
        leave();
      },
    };
  }

  // --- For the client: not in the declarations ---

  /** @internal How far it is processed; undefined: nobody does. */
  get done(): number | undefined {
    if (this.options.ack === "manual" || this.#readers.size === 0) return undefined;
    let least = Infinity;
    for (const reader of this.#readers) least = Math.min(least, reader.done);
    return least;
  }

  // A thread that nobody uses takes nothing; who uses it next gets it from there.
  #idle(): boolean {
    this.#behind ||= !this.#used;
    return this.#behind;
  }

  /** @internal */
  reopen(options: ThreadOptions): void {
    this.closed = false;
    this.options = options;
  }

  /** @internal Follows it, if somebody would see it: it was not the user's for a while, or the client was closed. */
  again(): void {
    if (this.#used) this.#follow();
  }

  /** @internal */
  subscribed(frame: SubscribedFrame): void {
    if (this.#idle()) return;
    if (frame.claim) this.#forget();
    this.#fold.subscribed(frame);
    if (frame.missed || !this.#begun) this.#backTo((frame.from_offset ?? 1) - 1);
    this.#begun = !frame.claim;
    this.#changed();
  }

  /** @internal */
  event(event: ClarionEvent): void {
    if (this.#idle()) return;
    this.#fold.event(event);
    if (event.offset > this.#given) this.#give(event);
    for (const iteration of [...this.#iterations]) iteration.push(event);
    this.#changed();
  }

  #give(event: ClarionEvent): void {
    this.#given = event.offset;
    const before = (event.first_offset ?? event.offset) - 1;
    const results = [...this.#emitter.emit(event.type, event as never), ...this.#emitter.emit("event", event)];
    this.#handlers?.mark.take(before, event.offset, results);
  }

  /** @internal How far the thread is here afterwards. */
  missed(frame: MissedRangeFrame): number {
    if (this.#idle()) return Infinity;
    this.#fold.missed(frame);
    const kept = frame.discard_after ?? this.#fold.last;
    this.#backTo(kept);
    this.#handlers?.mark.skipTo(kept);
    const { last } = this.#fold;
    this.#emitter.emit("missed", frame);
    this.#changed();
    return last;
  }

  /** @internal */
  caughtUp(): void {
    if (this.#idle()) return;
    this.#fold.caughtUp();
    const { position } = this.#fold.snapshot();
    if (position) this.#emitter.emit("caught_up", position);
    this.#changed();
  }

  /** @internal */
  failed(frame: StreamErrorFrame): void {
    // What is gone is not shown.
    if (frame.code === "NOT_FOUND") this.#forget();
    const error = this.refused(frame);
    for (const iteration of [...this.#iterations]) iteration.finish(error);
  }

  /** @internal For the moment: the client asks again. */
  refused(frame: StreamErrorFrame): ClarionError {
    this.#fold.failed(frame);
    const error = new ClarionError(frame);
    this.#emitter.emit("error", error);
    this.#changed();
    return error;
  }

  // --- Inside ---

  #onEvents<K extends keyof Handled>(name: K, handler: (value: Handled[K]) => unknown): () => void {
    const handlers = (this.#handlers ??= {
      mark: new Watermark(this.id, this.#fold.last, () => this.#host.processed(this), this.#host.report),
      count: 0,
      leave: () => {},
    });
    if (handlers.count++ === 0) handlers.leave = this.#read(handlers.mark);
    this.#follow(); // it may have ended since the first of them came
    const off = this.#emitter.on(name, handler);
    return () => {
      if (off() && --handlers.count === 0) handlers.leave();
    };
  }

  #onSignal<K extends keyof Handled>(name: K, handler: (value: Handled[K]) => unknown): () => void {
    const off = this.#emitter.on(name, handler);
    const leave = this.#use();
    return () => {
      off();
      leave();
    };
  }

  #onState(handler: (state: ThreadState) => unknown): () => void {
    const reader = this.reader((state) => {
      const shown = () => state.position && reader.shown(state.position);
      // If it fails, the next state is another chance.
      try {
        const result = handler(state);
        if (isThenable(result)) result.then(shown, this.#host.report);
        else shown();
      } catch (error) {
        this.#host.report(error);
      }
    });
    if (this.#begun) this.#changed(); // there is something to show already
    return reader.close;
  }

  #hold(): void {
    if (this.#held) return;
    this.#held = true;
    this.#follow();
  }

  #read(reader: Reader): () => void {
    this.#readers.add(reader);
    const leave = this.#use();
    return () => {
      this.#readers.delete(reader);
      leave();
    };
  }

  #use(): () => void {
    const user = {};
    this.#users.add(user);
    this.#follow();
    return () => {
      if (!this.#users.delete(user) || this.#used) return;
      this.#host.timers.set(this.#lingering, LINGER_MS, () => {
        this.#handlers = undefined;
        this.#host.unfollow(this);
      });
    };
  }

  get #used(): boolean {
    return this.#users.size > 0 || this.#held;
  }

  get #lingering(): string {
    return `linger ${this.id}`;
  }

  #follow(): void {
    this.#host.timers.clear(this.#lingering);
    const anew = this.#behind;
    this.#behind = this.closed = false;
    this.#host.follow(this, this.#begun, anew);
  }

  #forget(): void {
    this.#begun = false;
    this.#fold.clear();
    this.#backTo(0);
  }

  #backTo(last: number): void {
    this.#given = Math.min(this.#given, last);
    for (const reader of this.#readers) reader.backTo(last);
  }

  #changed(): void {
    if (this.#paintPlanned || !this.#emitter.has("state")) return;
    this.#paintPlanned = true;
    this.#host.environment.beforePaint(() => {
      this.#paintPlanned = false;
      this.#emitter.emit("state", this.#fold.snapshot());
    });
  }

  async #load(limit: number): Promise<boolean> {
    const first = this.#fold.first;
    if (!this.#fold.snapshot().hasOlder) return false;
    const page = await this.#host.history(this.id, { before: first, limit });
    // What is here may have changed meanwhile; then this page does not fit any more.
    if (this.#fold.first !== first) return this.#fold.snapshot().hasOlder;
    const missed: Entry[] = page.missed.map((frame) => ({ missed: frame, end: frame.to_offset ?? 0 }));
    this.#fold.prepend([...missed, ...page.events.map((event) => ({ event }))]);
    this.#changed();
    return page.events.length > 0 && this.#fold.snapshot().hasOlder;
  }
}

class Iteration implements AsyncIterator<ClarionEvent, void>, AsyncIterable<ClarionEvent>, Reader {
  done: number;
  readonly #threadId: string;
  readonly #moved: () => void;
  readonly #leave: () => void;
  // What can be drawn together stays apart until it is given, since its end may be rolled back.
  #waiting: ClarionEvent[][] = [];
  #count = 0; // of the events in it
  #last: number;
  #given: ClarionEvent | undefined;
  readonly #asked: { resolve(result: IteratorResult<ClarionEvent, void>): void; reject(error: unknown): void }[] = [];
  #end: { error?: unknown } | undefined;

  constructor(done: number, threadId: string, moved: () => void, leave: () => void) {
    this.done = this.#last = done;
    this.#threadId = threadId;
    this.#moved = moved;
    this.#leave = leave;
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  next(): Promise<IteratorResult<ClarionEvent, void>> {
    if (this.#given) {
      this.done = Math.max(this.done, this.#given.offset);
      this.#given = undefined;
      this.#moved();
    }
    const events = this.#waiting.shift();
    if (events) {
      this.#count -= events.length;
      this.#given = events.reduce((all, next) => mergedOf(all, next) ?? next);
      return Promise.resolve({ done: false, value: this.#given });
    }
    if (this.#end) {
      this.#leave();
      const { error } = this.#end;
      this.#end = {};
      return error === undefined ? Promise.resolve({ done: true, value: undefined }) : Promise.reject(error);
    }
    return new Promise((resolve, reject) => this.#asked.push({ resolve, reject }));
  }

  return(): Promise<IteratorResult<ClarionEvent, void>> {
    this.#waiting = [];
    this.finish();
    this.#leave(); // also if it had ended, with something waiting
    return Promise.resolve({ done: true, value: undefined });
  }

  push(event: ClarionEvent): void {
    if (this.#end || event.offset <= this.#last) return;
    this.#last = event.offset;
    const asked = this.#asked.shift();
    if (asked) return asked.resolve({ done: false, value: (this.#given = event) });
    if (this.#count === MAX_WAITING) return this.finish(overflow(this.#threadId));
    this.#count += 1;
    const last = this.#waiting[this.#waiting.length - 1];
    if (last && mergedOf(last[last.length - 1]!, event)) last.push(event);
    else this.#waiting.push([event]);
  }

  finish(error?: unknown): void {
    if (this.#end) return;
    this.#end = { error };
    // What waits is still to be processed.
    if (this.#waiting.length === 0) this.#leave();
    for (const { resolve, reject } of this.#asked.splice(0)) {
      if (this.#end.error === undefined) resolve({ done: true, value: undefined });
      else reject(error);
      this.#end = {};
    }
  }

  // What waits of it goes too.
  backTo(last: number): void {
    this.done = Math.min(this.done, last);
    if (this.#given && this.#given.offset > last) this.#given = undefined;
    const lost = this.#waiting.flat().find(({ offset }) => offset > last);
    this.#last = Math.min(this.#last, last, (lost?.first_offset ?? Infinity) - 1);
    const kept = this.#waiting.map((events) => events.filter(({ offset }) => offset <= last));
    this.#waiting = kept.filter((events) => events.length > 0);
    this.#count = this.#waiting.flat().length;
  }
}
