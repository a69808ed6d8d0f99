// How far a page has come in a thread: everything up to `done` is processed, whatever is processed beyond it.

import { FAILED } from "./emitter.js";
import { ClarionError } from "./error.js";

/** Events that wait to be processed; beyond, BUFFER_OVERFLOW. */
export const MAX_WAITING = 10_000;

export function overflow(threadId: string): ClarionError {
  return new ClarionError({ code: "BUFFER_OVERFLOW", message: `${MAX_WAITING} events wait to be processed`, thread_id: threadId });
}

export class Watermark {
  /** The last event that its handlers were given. */
  given = 0;
  epoch = "";
  #last: number;
  // What is being processed, in order, with what was done before it.
  #open: { before: number; left: number }[] = [];
  // A handler failed, or too many never finished: what they were given, and all behind it, stays unprocessed.
  #stuckBefore = Infinity;
  readonly #threadId: string;
  readonly #moved: () => void;
  readonly #failed: (error: unknown) => void;

  /** `moved`: `done` may be higher now. `failed`: a promise was rejected, or too many are not settled. */
  constructor(threadId: string, last: number, moved: () => void, failed: (error: unknown) => void) {
    this.#threadId = threadId;
    this.#last = last;
    this.#moved = moved;
    this.#failed = failed;
  }

  get done(): number {
    return Math.min(this.#stuckBefore, this.#open[0]?.before ?? this.#last);
  }

  /** Handlers were given what is behind `before` up to `last`, and returned this; promises count when they settle. */
  take(before: number, last: number, results: unknown[]): void {
    if (this.#stuckBefore !== Infinity) return;
    this.#last = last;
    if (results.includes(FAILED)) {
      this.#stuckBefore = before;
      return;
    }
    const waits = results.filter(isThenable);
    if (waits.length === 0) return;
    if (this.#open.length === MAX_WAITING) {
      this.#stuckBefore = before;
      this.#failed(overflow(this.#threadId));
      return;
    }
    const entry = { before, left: waits.length };
    this.#open.push(entry);
    for (const wait of waits) {
      wait.then(
        () => {
          entry.left -= 1;
          while (this.#open[0]?.left === 0) this.#open.shift();
          this.#moved();
        },
        (error: unknown) => {
          // Of what was rolled back nothing is held.
          if (this.#open.includes(entry)) this.#stuckBefore = Math.min(this.#stuckBefore, before);
          this.#failed(error);
        },
      );
    }
  }

  /** What was behind `last` never happened, or comes again. */
  backTo(last: number): void {
    this.given = Math.min(this.given, last);
    this.#last = Math.min(this.#last, last);
    this.#open = this.#open.filter(({ before }) => before < last);
    if (this.#stuckBefore >= last) this.#stuckBefore = Infinity;
  }

  /** Nothing up to `last` was given to anybody, and nobody waits for it. */
  skipTo(last: number): void {
    this.#last = Math.max(this.#last, last);
  }
}

export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | null)?.then === "function";
}
