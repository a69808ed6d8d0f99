// What the client needs of its surroundings: time, chance, the network and the life of the page. Tests
// bring their own; so may programs outside of browsers.

export interface Environment {
  /** Milliseconds since 1970. */
  now(): number;
  setTimeout(action: () => void, ms: number): unknown;
  clearTimeout(timer: unknown): void;
  /** From 0 to 1, without 1. */
  random(): number;
  fetch: typeof fetch;
  /** Absent: event streams and polling remain. */
  WebSocket?: typeof WebSocket | undefined;
  /** Says when the network goes and comes, and when the page is looked at or thawed. Returns the end of it. */
  watch(listener: { online(): void; offline(): void; shown(): void }): () => void;
  /** Before the next paint; soon, where nothing is painted. */
  beforePaint(action: () => void): void;
  /** An error that nobody catches, of a handler for instance. */
  report(error: unknown): void;
}

// Nothing here is touched before it is used, so that a page can be rendered on a server.
export function browserEnvironment(): Environment {
  const page = globalThis as typeof globalThis & { reportError?: (error: unknown) => void };
  return {
    now: () => Date.now(),
    setTimeout: (action, ms) => setTimeout(action, ms),
    clearTimeout: (timer) => clearTimeout(timer as ReturnType<typeof setTimeout>),
    random: Math.random,
    fetch: (...request) => page.fetch(...request),
    get WebSocket() {
      return page.WebSocket;
    },
    watch(listener) {
      if (typeof page.addEventListener !== "function") return () => {};
      const document = page.document as Document | undefined;
      const visible = () => {
        if (document?.visibilityState === "visible") listener.shown();
      };
      const listeners: [EventTarget | undefined, string, () => void][] = [
        [page, "online", listener.online],
        [page, "offline", listener.offline],
        [page, "pageshow", listener.shown],
        [document, "visibilitychange", visible],
        [document, "resume", listener.shown],
      ];
      for (const [target, type, action] of listeners) target?.addEventListener(type, action);
      return () => {
        for (const [target, type, action] of listeners) target?.removeEventListener(type, action);
      };
    },
    beforePaint(action) {
      if (page.document?.visibilityState !== "visible") return void setTimeout(action, 20);
      // A page that is hidden meanwhile is not painted.
      let done = false;
      const once = () => {
        if (!done) action();
        done = true;
      };
      page.requestAnimationFrame(once);
      setTimeout(once, 200);
    },
    report(error) {
      if (page.reportError) page.reportError(error);
      else console.error(error);
    },
  };
}

/** setTimeout knows no longer ones: they would end at once. */
export const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Timers by name: one that is set again begins anew. */
export class Timers {
  readonly #environment: Environment;
  readonly #timers = new Map<string, unknown>();

  constructor(environment: Environment) {
    this.#environment = environment;
  }

  set(name: string, ms: number, action: () => void): void {
    this.clear(name);
    const timer = this.#environment.setTimeout(() => {
      this.#timers.delete(name);
      action();
    }, Math.min(ms, LONGEST_TIMER_MS));
    this.#timers.set(name, timer);
  }

  has(name: string): boolean {
    return this.#timers.has(name);
  }

  clear(name: string): void {
    this.#environment.clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }

  clearAll(): void {
    for (const name of [...this.#timers.keys()]) this.clear(name);
  }
}
