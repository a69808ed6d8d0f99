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

const LIST_WORDS = {
  awaited: "Loading …",
  here: "No threads yet. The first one appears here by itself.",
  failed: "The list cannot be loaded at the moment. It is tried again.",
};

export class ThreadList {
  readonly #list = $("thread-list");
  #rows = new Map<string, Row>();
  readonly #visible = new Set<string>();
  readonly #observer = new IntersectionObserver((entries) => this.#look(entries));
  #threads: Threads | undefined;

  constructor() {
    this.#list.addEventListener("keydown", (event) => this.#move(event));
  }

  clear(): void {
    this.#observer.disconnect();
    this.#visible.clear();
    this.#rows.clear();
    this.#list.replaceChildren();
  }

  draw(threads: Threads, shownId: string | null, now: number): void {
    this.#threads = threads;
    for (const threadId of this.#visible) threads.peek(threadId);
    const sorted = threads.sorted();
    const focused = document.activeElement;
    sorted.forEach((thread, index) => {
      const row = this.#rows.get(thread.id) ?? this.#make(thread.id);
      drawRow(row, thread, thread.id === shownId, now);
      if (this.#list.children[index] !== row.item) this.#list.insertBefore(row.item, this.#list.children[index] ?? null);
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
    $("threads-empty").hidden = sorted.length > 0 && threads.list !== "failed";
    setText($("threads-empty"), LIST_WORDS[threads.list]);
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

  /** The row of this thread gets the focus. */
  focus(threadId: string | null): void {
    (this.#rows.get(threadId ?? "")?.link ?? $("threads-title")).focus();
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
