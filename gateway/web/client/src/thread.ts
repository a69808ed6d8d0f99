// One conversation, as a page sees it: its events as they come, and what they make of it.

import { Emitter } from "./emitter.js";
import { ClarionError } from "./error.js";
import type { FollowOptions } from "./feed.js";
import { mergedOf, StateFold, type Entry, type ThreadState } from "./state.js";
import { Watermark } from "./watermark.js";
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
  /** It is followed no longer. */
  error: ClarionError;
}

type Handled = { [T in EventType]: EventOf<T> } & ThreadSignals;

/** What a thread needs of its client. */
export interface ThreadHost {
  /** `resume`: what the thread has seen is still there. */
  follow(thread: Thread, resume: boolean): void;
  unfollow(thread: Thread): void;
  forget(thread: Thread): void;
  /** It may be that more of the thread is processed now. */
  processed(thread: Thread): void;
  /** An ack by hand. */
  ack(thread: Thread, offset: number): void;
  page(threadId: string, before: number, limit: number): Promise<{ events: ClarionEvent[]; missed: MissedRangeFrame[] }>;
  later(name: string, ms: number, action: () => void): void;
  notLater(name: string): void;
  beforePaint(action: () => void): void;
  report(error: unknown): void;
}

// A page that takes its last handler away and adds another one soon does not notice.
const LINGER_MS = 1_000;
/** Events that an iteration has not asked for yet; beyond, it ends with BUFFER_OVERFLOW. */
const MAX_WAITING = 10_000;

// Who hears these has not read the events.
const SIGNALS = new Set<string>(["missed", "caught_up", "error"]);

interface Reader {
  readonly done: number;
  backTo(last: number): void;
}

export class Thread {
  readonly id: string;
  readonly options: ThreadOptions;

  readonly #host: ThreadHost;
  readonly #emitter: Emitter<Handled>;
  readonly #fold: StateFold;
  // Who processes the thread; an ack goes no further than the last of them has come.
  readonly #readers = new Set<Reader>();
  readonly #iterations = new Set<Iteration>();
  // They are one reader together.
  #handlers: { readonly mark: Watermark; readonly leave: () => void; count: number } | undefined;
  #users = 0;
  #held = false;
  #followed = false;
  #begun = false;
  #paintPlanned = false;
  #loading: Promise<boolean> | undefined;

  /** Made by Client.thread(). */
  constructor(id: string, options: ThreadOptions, host: ThreadHost) {
    this.id = id;
    this.options = options;
    this.#host = host;
    this.#emitter = new Emitter<Handled>((error) => host.report(error));
    this.#fold = new StateFold(id);
  }

  // --- For pages ---

  /**
   * Calls `handler` for each event of this type, in order, once; "event" is every event, "state" what the
   * thread looks like. Returns what takes the handler away. The thread is followed while there are handlers,
   * iterations or hooks.
   */
  on<K extends keyof Handled>(name: K, handler: (value: Handled[K]) => unknown): () => void {
    const leave = SIGNALS.has(name)
      ? this.#onSignal(name, handler)
      : name === "state"
        ? this.#onState(handler as (state: ThreadState) => unknown)
        : this.#onEvents(name, handler);
    let left = false;
    return () => {
      if (left) return;
      left = true;
      leave();
    };
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

  /** Everything up to this event or position has been processed. */
  ack(at: ClarionEvent | Position | number): void {
    this.#host.ack(this, typeof at === "number" ? at : at.offset);
  }

  /** Loads what came before what is here. Resolves to whether there is more. */
  async older(limit = 200): Promise<boolean> {
    this.#loading ??= this.#load(limit).finally(() => (this.#loading = undefined));
    return this.#loading;
  }

  /** Follows it no longer, and forgets what is known of it. */
  close(): void {
    this.#host.notLater(this.#lingering);
    for (const iteration of [...this.#iterations]) iteration.finish();
    this.#host.forget(this);
    this.#held = false;
    this.#followed = false;
    this.#begun = false;
    this.#fold.clear();
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
  reader(changed: () => void): { shown(offset: number): void; close(): void } {
    const reader = new Mark(this.#fold.last);
    const leave = this.#read(reader);
    const off = this.#emitter.on("state", changed);
    return {
      shown: (offset) => {
        reader.done = Math.max(reader.done, offset);
        this.#host.processed(this);
      },
      close: () => {
        off();
        leave();
      },
    };
  }

  // --- For the client ---

  /** How far it is processed; undefined: nobody does. */
  get done(): number | undefined {
    if (this.options.ack === "manual" || this.#readers.size === 0) return undefined;
    let least = Infinity;
    for (const reader of this.#readers) least = Math.min(least, reader.done);
    return least;
  }

  subscribed(frame: SubscribedFrame): void {
    this.#fold.subscribed(frame);
    this.#begun = !frame.claim;
    this.#backTo((frame.from_offset ?? 1) - 1);
    this.#changed();
  }

  event(event: ClarionEvent): void {
    const before = (event.first_offset ?? event.offset) - 1;
    this.#fold.event(event);
    const results = [...this.#emitter.emit(event.type, event as never), ...this.#emitter.emit("event", event)];
    this.#handlers?.mark.take(
      before,
      event.offset,
      results,
      () => this.#host.processed(this),
      (error) => this.#host.report(error),
    );
    for (const iteration of [...this.#iterations]) iteration.push(event);
    this.#host.processed(this);
    this.#changed();
  }

  /** How far the thread is here afterwards. */
  missed(frame: MissedRangeFrame): number {
    this.#fold.missed(frame);
    const { last } = this.#fold;
    this.#backTo(last);
    this.#handlers?.mark.skipTo(last);
    this.#emitter.emit("missed", frame);
    this.#changed();
    return last;
  }

  caughtUp(): void {
    this.#fold.caughtUp();
    const { position } = this.#fold.snapshot();
    if (position) this.#emitter.emit("caught_up", position);
    this.#changed();
  }

  failed(frame: StreamErrorFrame): void {
    this.#followed = false;
    this.#fold.failed(frame);
    const error = new ClarionError(frame);
    this.#emitter.emit("error", error);
    for (const iteration of [...this.#iterations]) iteration.finish(error);
    this.#changed();
  }

  // --- Inside ---

  #onEvents<K extends keyof Handled>(name: K, handler: (value: Handled[K]) => unknown): () => void {
    let handlers = this.#handlers;
    if (!handlers) {
      const mark = new Watermark(this.#fold.last);
      handlers = this.#handlers = { mark, count: 0, leave: this.#read(mark) };
    }
    const { leave } = handlers;
    handlers.count += 1;
    const off = this.#emitter.on(name, handler);
    return () => {
      off();
      handlers.count -= 1;
      if (handlers.count > 0) return;
      this.#handlers = undefined;
      leave();
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
    const mark = new Watermark(this.#fold.last);
    const leave = this.#read(mark);
    const show = (state: ThreadState) => {
      const before = mark.done;
      let result: unknown;
      try {
        result = handler(state);
      } catch (error) {
        this.#host.report(error);
        return; // the next state is another chance
      }
      const last = state.position?.offset ?? 0;
      mark.take(before, last, [result], () => this.#host.processed(this), (error) => this.#host.report(error));
      this.#host.processed(this);
    };
    const off = this.#emitter.on("state", show);
    if (this.#begun) this.#changed(); // there is something to show already
    return () => {
      off();
      leave();
    };
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
    this.#users += 1;
    this.#follow();
    return () => {
      this.#users -= 1;
      if (this.#users > 0 || this.#held) return;
      this.#host.later(this.#lingering, LINGER_MS, () => {
        this.#followed = false;
        this.#host.unfollow(this);
      });
    };
  }

  get #lingering(): string {
    return `linger ${this.id}`;
  }

  #follow(): void {
    this.#host.notLater(this.#lingering);
    if (this.#followed) return;
    this.#followed = true;
    this.#host.follow(this, this.#begun);
  }

  #backTo(last: number): void {
    for (const reader of this.#readers) reader.backTo(last);
  }

  #changed(): void {
    if (this.#paintPlanned || !this.#emitter.has("state")) return;
    this.#paintPlanned = true;
    this.#host.beforePaint(() => {
      this.#paintPlanned = false;
      this.#emitter.emit("state", this.#fold.snapshot());
    });
  }

  async #load(limit: number): Promise<boolean> {
    const first = this.#fold.first;
    if (!this.#fold.snapshot().hasOlder) return false;
    const page = await this.#host.page(this.id, first, limit);
    // What is here may have changed meanwhile; then this page does not fit any more.
    if (this.#fold.first !== first) return this.#fold.snapshot().hasOlder;
    const missed: Entry[] = page.missed.map((frame) => ({ missed: frame, end: frame.to_offset ?? 0 }));
    this.#fold.prepend([...missed, ...page.events.map((event) => ({ event }))]);
    this.#changed();
    return page.events.length > 0 && this.#fold.snapshot().hasOlder;
  }
}

class Mark implements Reader {
  done: number;

  constructor(done: number) {
    this.done = done;
  }

  backTo(last: number): void {
    this.done = Math.min(this.done, last);
  }
}

class Iteration implements AsyncIterator<ClarionEvent, void>, AsyncIterable<ClarionEvent>, Reader {
  done: number;
  readonly #threadId: string;
  readonly #moved: () => void;
  readonly #leave: () => void;
  #waiting: ClarionEvent[] = [];
  #given: ClarionEvent | undefined;
  #asked: { resolve(result: IteratorResult<ClarionEvent, void>): void; reject(error: unknown): void } | undefined;
  #end: { error?: unknown } | undefined;

  constructor(done: number, threadId: string, moved: () => void, leave: () => void) {
    this.done = done;
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
    const event = this.#waiting.shift();
    if (event) return Promise.resolve({ done: false, value: (this.#given = event) });
    if (this.#end) {
      const { error } = this.#end;
      this.#end = {};
      return error === undefined ? Promise.resolve({ done: true, value: undefined }) : Promise.reject(error);
    }
    return new Promise((resolve, reject) => (this.#asked = { resolve, reject }));
  }

  return(): Promise<IteratorResult<ClarionEvent, void>> {
    this.#waiting = [];
    this.finish();
    return Promise.resolve({ done: true, value: undefined });
  }

  push(event: ClarionEvent): void {
    if (this.#end) return;
    const asked = this.#asked;
    if (asked) {
      this.#asked = undefined;
      asked.resolve({ done: false, value: (this.#given = event) });
      return;
    }
    const last = this.#waiting.length - 1;
    const merged = last >= 0 ? mergedOf(this.#waiting[last]!, event) : undefined;
    if (merged) this.#waiting[last] = merged;
    else this.#waiting.push(event);
    if (this.#waiting.length <= MAX_WAITING) return;
    const message = `${MAX_WAITING} events wait for the iteration`;
    this.finish(new ClarionError({ code: "BUFFER_OVERFLOW", message, thread_id: this.#threadId }));
  }

  finish(error?: unknown): void {
    if (this.#end) return;
    this.#end = { error };
    this.#leave();
    const asked = this.#asked;
    this.#asked = undefined;
    if (!asked) return;
    this.#end = {};
    if (error === undefined) asked.resolve({ done: true, value: undefined });
    else asked.reject(error);
  }

  // What waits of it goes too.
  backTo(last: number): void {
    this.done = Math.min(this.done, last);
    this.#waiting = this.#waiting.filter(({ offset }) => offset <= last);
  }
}
