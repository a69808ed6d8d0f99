// The thread that is shown: as a conversation or as events, at its end or where the reader is.

import { ClarionError, type Client, type Thread, type ThreadState } from "clarion-client";

import { Conversation, failureLine } from "./conversation.js";
import { $, el, setAttribute, setText, stayingAt } from "./dom.js";
import { EventsView } from "./events_view.js";

// Closer to the end than this, the reader is taken along.
const FOLLOW_PX = 80;
// What came before is loaded by itself until there is so much, and when the reader comes so near.
const FILL_EVENTS = 100;
const OLDER_PX = 300;
const PAGE = 200;
const OLDER_AGAIN_MS = 5_000;

export class ThreadView {
  readonly #client: Client;
  readonly #conversation = new Conversation($("timeline"));
  readonly #events = new EventsView();
  readonly #scroller = $("scroller");
  #thread: Thread | null = null;
  #leave = () => {};
  #raw = false;
  #following = true;
  #top = 0; // of the scroller, the last time it moved
  // Of older events of the thread that is shown.
  #loading: Thread | null = null;
  #failed: string | null = null;
  #again: ReturnType<typeof setTimeout> | undefined;
  #banner: unknown;

  constructor(client: Client) {
    this.#client = client;
    $("show-timeline").addEventListener("click", () => this.#showRaw(false));
    $("show-events").addEventListener("click", () => this.#showRaw(true));
    $("older").addEventListener("click", () => void this.#older());
    $("to-end").addEventListener("click", () => this.#toTheEnd());
    // Sizes are guesses until a run comes into view.
    const observer = new ResizeObserver(() => {
      if (this.#following || this.#left < 2) this.#toTheEnd();
    });
    for (const node of [this.#scroller, $("timeline"), $("events")]) observer.observe(node);
    this.#scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    // Who unfolds something wants to read it, and not what comes at the end.
    this.#scroller.addEventListener("click", ({ target }) => {
      const details = (target as Element).closest("summary")?.parentElement as HTMLDetailsElement | undefined;
      if (!details || details.open) return;
      this.#following = false;
      this.#offer($("to-end"), true);
    });
  }

  get threadId(): string | null {
    return this.#thread?.id ?? null;
  }

  /** Somebody reads in it, further up perhaps, looks something up or marks something. */
  get inUse(): boolean {
    const { activeElement } = document;
    const selection = document.getSelection();
    const marked = selection !== null && !selection.isCollapsed && this.#scroller.contains(selection.anchorNode);
    return !this.#following || this.#raw || marked || (activeElement !== this.#scroller && this.#scroller.contains(activeElement));
  }

  /** null: none. */
  show(threadId: string | null): void {
    if (threadId === this.threadId) return;
    this.#leave();
    this.#thread?.close();
    this.#conversation.clear();
    this.#events.clear();
    this.#following = true;
    this.#failed = null;
    this.#loading = null;
    clearTimeout(this.#again);
    this.#thread = threadId === null ? null : this.#client.thread(threadId);
    $("thread-empty").hidden = this.#thread !== null;
    $("thread-body").hidden = this.#thread === null;
    setAttribute($("thread"), "data-thread-id", threadId);
    setAttribute($("thread"), "data-offset", 0);
    setAttribute($("thread"), "data-caught-up", null);
    if (!this.#thread) return;
    const thread = this.#thread;
    const leave = [
      // What was drawn counts as seen.
      thread.on("state", (state) => this.#draw(state)),
      thread.on("agent_completed", ({ agent_name, outcome }) => this.#announce(`${agent_name}: ${outcome}`)),
      thread.on("agent_error", ({ user_message }) => this.#announce(user_message)),
    ];
    this.#leave = () => leave.forEach((off) => off());
    this.#draw(thread.snapshot);
  }

  tick(now: number): void {
    if (!this.#raw) this.#conversation.tick(now);
  }

  title(text: string): void {
    setText($("thread-title"), text);
    setAttribute($("thread-title"), "title", this.threadId);
    document.title = text === "" ? "Clarion" : `${text} – Clarion`;
  }

  // Not what had happened before somebody looked.
  #announce(text: string): void {
    // A new element, so that the same words are said again.
    if (this.#thread?.snapshot.caughtUp) $("announcer").replaceChildren(el("span", {}, text));
  }

  #draw(state: ThreadState): void {
    const thread = this.#thread;
    if (!thread || state.threadId !== thread.id) return;
    if (this.#raw) this.#events.draw(thread.shownEvents, state.missed);
    else this.#conversation.draw(state);
    const nothing = state.blocks.length === 0;
    $("thread-claim").hidden = !state.claim;
    $("thread-waiting").hidden = !nothing || state.claim || state.error !== null || !state.caughtUp || state.hasOlder;
    $("thread-loading").hidden = !nothing || state.claim || state.error !== null || this.#failed !== null || (state.caughtUp && !state.hasOlder);
    $("thread-error").hidden = state.error === null && this.#failed === null;
    setText($("thread-error"), state.error?.user_message || state.error?.message || this.#failed || "");
    this.#offer($("older"), state.hasOlder);
    setText($("older"), this.#failed === null ? "Show earlier" : "Try now");
    const offset = state.position?.offset ?? 0;
    setAttribute($("thread"), "data-caught-up", state.caughtUp);
    setAttribute($("thread"), "data-offset", offset);
    const { length: runs } = state.runs;
    setText($("thread-facts"), state.claim ? "" : `${runs} ${runs === 1 ? "run" : "runs"} · position ${offset}`);
    this.#drawBanner(state);
    if (this.#following) this.#toTheEnd();
    if (state.caughtUp && thread.shownEvents.length < FILL_EVENTS) this.#olderByItself();
  }

  // What the agent does without at the moment.
  #drawBanner({ degradations }: ThreadState): void {
    if (degradations === this.#banner) return; // a list that stayed the same is the same
    this.#banner = degradations;
    const top = this.#scroller.getBoundingClientRect().top;
    $("degradation").hidden = degradations.length === 0;
    $("degradation").replaceChildren(...degradations.map(failureLine));
    // What somebody reads further up stays where it is.
    this.#scroller.scrollTop += this.#scroller.getBoundingClientRect().top - top;
  }

  // In front of what is here, which stays where the reader sees it.
  async #older(): Promise<void> {
    const thread = this.#thread;
    if (!thread || this.#loading === thread) return;
    clearTimeout(this.#again);
    this.#loading = thread;
    let failed: string | null = null;
    try {
      await thread.older(PAGE);
    } catch (error) {
      const why = error instanceof ClarionError && error.userMessage ? `: ${error.userMessage}` : ".";
      failed = `Earlier updates could not be loaded${why} Trying again in a moment.`;
    }
    if (this.#loading === thread) this.#loading = null;
    if (thread !== this.#thread) return;
    this.#failed = failed;
    if (failed !== null) this.#again = setTimeout(() => void this.#older(), OLDER_AGAIN_MS);
    const shown = $(this.#raw ? "event-list" : "timeline");
    stayingAt(shown.querySelector(".item, .event") ?? shown.firstElementChild, this.#scroller, () => this.#draw(thread.snapshot));
  }

  #olderByItself(): void {
    if (this.#thread?.snapshot.hasOlder && this.#failed === null) void this.#older();
  }

  #showRaw(on: boolean): void {
    this.#raw = on;
    setAttribute($("show-timeline"), "aria-pressed", String(!on));
    setAttribute($("show-events"), "aria-pressed", String(on));
    $("timeline").hidden = on;
    $("events").hidden = !on;
    this.#following = true;
    if (this.#thread) this.#draw(this.#thread.snapshot);
  }

  #toTheEnd(): void {
    this.#following = true;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#offer($("to-end"), false);
  }

  // Below what the reader sees.
  get #left(): number {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    return scrollHeight - scrollTop - clientHeight;
  }

  // Who has pressed a button that goes is left where it was, not outside of everything.
  #offer(button: HTMLElement, offered: boolean): void {
    if (!offered && document.activeElement === button) this.#scroller.focus({ preventScroll: true });
    button.hidden = !offered;
  }

  #scrolled(): void {
    const { scrollTop } = this.#scroller;
    const left = this.#left;
    // Who moves up, however little, wants to stay there; what grows meanwhile moves nobody.
    this.#following = left < 2 || (scrollTop >= this.#top && (this.#following || left < FOLLOW_PX));
    this.#top = scrollTop;
    this.#offer($("to-end"), !this.#following);
    if (scrollTop < OLDER_PX && !this.#following) this.#olderByItself();
  }
}
