// The list of threads.

import { $, el, setAttribute, setText } from "./dom.js";
import { ago } from "./format.js";
import type { ListedThread, Threads } from "./threads.js";

interface Row {
  item: HTMLElement;
  link: HTMLAnchorElement;
  title: HTMLElement;
  activity: HTMLElement;
  time: HTMLElement;
  unread: HTMLElement;
}

const WORDS = {
  missing: "Loading …",
  failed: "The threads could not be loaded. They appear here as soon as the service answers.",
  loaded: "No threads yet. The first one appears here by itself.",
};

export class ThreadList {
  readonly #list = $("thread-list");
  #rows = new Map<string, Row>();
  readonly #visible = new Set<string>();
  readonly #observer = new IntersectionObserver((entries) => this.#look(entries));
  #threads: Threads | undefined;
  // Somebody is pressing a row: none moves until the finger is off, or another one would be taken, or none.
  #pressed = false;

  constructor() {
    this.#list.addEventListener("keydown", (event) => this.#move(event));
    this.#list.addEventListener("pointerdown", () => (this.#pressed = true));
    for (const type of ["pointerup", "pointercancel"]) window.addEventListener(type, () => (this.#pressed = false));
  }

  clear(): void {
    this.#observer.disconnect();
    this.#visible.clear();
    this.#rows.clear();
    this.#list.replaceChildren();
  }

  /** The thread's row; the title, if there is none. */
  focus(threadId: string | null): void {
    (this.#rows.get(threadId ?? "")?.link ?? $("threads-title")).focus();
  }

  draw(threads: Threads, shownId: string | null, now: number): void {
    this.#threads = threads;
    for (const threadId of this.#visible) threads.peek(threadId);
    const sorted = threads.sorted();
    const focused = document.activeElement;
    sorted.forEach((thread, index) => {
      const row = this.#rows.get(thread.id) ?? this.#make(thread.id);
      drawRow(row, thread, thread.id === shownId, now);
      if (this.#pressed) {
        if (!row.item.isConnected) this.#list.append(row.item);
      } else if (this.#list.children[index] !== row.item) {
        this.#list.insertBefore(row.item, this.#list.children[index] ?? null);
      }
    });
    for (const [threadId, { item }] of this.#rows) {
      if (threads.byId.has(threadId)) continue;
      item.remove();
      this.#observer.unobserve(item);
      this.#visible.delete(threadId);
      this.#rows.delete(threadId);
    }
    // A row that moves loses the focus.
    if (focused instanceof HTMLElement && focused !== document.activeElement && this.#list.contains(focused)) focused.focus();
    const words = threads.state === "failed" ? WORDS.failed : sorted.length > 0 ? "" : WORDS[threads.state];
    $("threads-empty").hidden = words === "";
    setText($("threads-empty"), words);
  }

  #make(threadId: string): Row {
    const title = el("span.title");
    const activity = el("span.activity");
    const time = el("span.time");
    const unread = el("span.unread", { hidden: true });
    const link = el("a", { href: addressOf(threadId), "data-thread-id": threadId }, el("span.dot", { "aria-hidden": "true" }), title, time, activity, unread);
    const row = { item: el("li", {}, link), link, title, activity, time, unread };
    this.#rows.set(threadId, row);
    this.#observer.observe(row.item);
    return row;
  }

  #look(entries: IntersectionObserverEntry[]): void {
    for (const { target, isIntersecting } of entries) {
      const { threadId } = target.querySelector("a")!.dataset;
      if (isIntersecting) this.#visible.add(threadId!);
      else this.#visible.delete(threadId!);
      if (isIntersecting) this.#threads?.peek(threadId!);
    }
  }

  // Up and down, first and last.
  #move(event: KeyboardEvent): void {
    const links = [...this.#list.querySelectorAll("a")];
    const at = links.indexOf(document.activeElement as HTMLAnchorElement);
    if (at < 0) return;
    const to: Record<string, number> = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: links.length - 1 };
    const next = links[to[event.key] ?? -1];
    if (!next) return;
    event.preventDefault();
    next.focus();
  }
}

export function addressOf(threadId: string): string {
  return `#thread=${encodeURIComponent(threadId)}`;
}

function drawRow(row: Row, thread: ListedThread, shown: boolean, now: number): void {
  const unread = shown || thread.read < 0 ? 0 : thread.last - thread.read;
  setText(row.title, thread.title || thread.id);
  setText(row.activity, thread.activity || "Nothing new");
  setText(row.time, thread.at > 0 ? ago(now - thread.at) : "");
  row.unread.hidden = unread === 0;
  setText(row.unread, unread > 999 ? "999+" : String(unread));
  setAttribute(row.unread, "aria-label", `${unread} unread`);
  setAttribute(row.link, "aria-current", shown ? "true" : null);
  setAttribute(row.link, "data-live", thread.activeRuns.size > 0);
  setAttribute(row.link, "data-unread", unread > 0);
  setAttribute(row.link, "title", thread.id);
}
