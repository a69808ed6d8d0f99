// Handlers by what they wait for. What one throws does not keep the others from being called.

export class Emitter<Signals extends object> {
  readonly #handlers = new Map<keyof Signals, Set<(value: never) => unknown>>();
  readonly #failed: (error: unknown) => void;

  constructor(failed: (error: unknown) => void) {
    this.#failed = failed;
  }

  /** Returns what takes the handler away; it says whether it was still there. */
  on<K extends keyof Signals>(name: K, handler: (value: Signals[K]) => unknown): () => boolean {
    const handlers = this.#handlers.get(name) ?? new Set();
    this.#handlers.set(name, handlers);
    const own = (value: Signals[K]) => handler(value); // the same handler may be added twice
    handlers.add(own);
    return () => handlers.delete(own);
  }

  has(name: keyof Signals): boolean {
    return (this.#handlers.get(name)?.size ?? 0) > 0;
  }

  /** Calls them in the order in which they were added. What each returned; FAILED for what it threw. */
  emit<K extends keyof Signals>(name: K, value: Signals[K]): unknown[] {
    const results: unknown[] = [];
    const handlers = this.#handlers.get(name);
    for (const handler of [...(handlers ?? [])]) {
      if (!handlers!.has(handler)) continue; // taken away by one before it
      try {
        results.push(handler(value as never));
      } catch (error) {
        this.#failed(error);
        results.push(FAILED);
      }
    }
    return results;
  }
}

/** Stands for what a handler would have returned. */
export const FAILED = Symbol("failed");
