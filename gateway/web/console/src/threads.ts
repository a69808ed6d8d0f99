// The user's threads: what the list shows of each. No DOM in here.

import type { ClarionEvent, Client, SubscribedFrame, ThreadSummary } from "clarion-client";

import { questionOf } from "./format.js";

export interface ListedThread {
  readonly id: string;
  /** Of the last event that is known, milliseconds. */
  at: number;
  /** Of the last run that is known: the list's order, which deltas do not shuffle. */
  startedAt: number;
  /** The first question that is known. */
  title: string;
  titleOffset: number;
  activity: string;
  /** The last offset that is known, and up to where it was shown or acknowledged; -1: nobody knows yet. */
  last: number;
  read: number;
  activeRuns: Set<string>;
  /** What it is about was asked for. */
  peeked: boolean;
}

const PAGE = 200;
// The list ends there, with those that were active last.
const MOST_LISTED = 2_000;
const PEEKS_AT_A_TIME = 4;

export class Threads {
  readonly byId = new Map<string, ListedThread>();
  /** The service's list: not here yet, here, or not to be had at the moment. */
  list: "awaited" | "here" | "failed" = "awaited";
  #loading = false;
  #peeks: string[] = [];
  #peeking = 0;
  // What was asked for before the list was cleared is another user's.
  #generation = 0;
  readonly #client: Client;
  readonly #changed: () => void;

  constructor(client: Client, changed: () => void) {
    this.#client = client;
    this.#changed = changed;
  }

  get(threadId: string | null): ListedThread | undefined {
    return this.byId.get(threadId ?? "");
  }

  /** Forgets all of them, also those that are being asked for. */
  clear(): void {
    this.#generation += 1;
    this.byId.clear();
    this.list = "awaited";
    this.#loading = false;
    this.#peeks = [];
    this.#peeking = 0;
  }

  /** Asks for the list as the service has it: what is unread, and what goes on. */
  async load(): Promise<void> {
    if (this.#loading || this.list === "here") return;
    this.#loading = true;
    const generation = this.#generation;
    let list: Threads["list"] = "here";
    try {
      await this.#loadPages(generation);
    } catch {
      list = "failed";
    }
    if (generation !== this.#generation) return;
    this.#loading = false;
    this.list = list;
    this.#changed();
  }

  async #loadPages(generation: number): Promise<void> {
    let pageToken: string | undefined;
    do {
      const page = await this.#client.threads({ limit: PAGE, pageToken });
      if (generation !== this.#generation) return;
      for (const summary of page.threads) this.#summary(summary);
      this.#changed();
      pageToken = page.nextPageToken;
    } while (pageToken && this.byId.size < MOST_LISTED);
  }

  /** Somebody sees it: asks what it is about, once. */
  peek(threadId: string): void {
    const thread = this.byId.get(threadId);
    if (!thread || thread.peeked || thread.last <= 0) return;
    thread.peeked = true;
    this.#peeks.push(threadId);
    this.#peekNext();
  }

  #summary({ thread_id, last, last_event_at, acknowledged, floor, active_runs }: ThreadSummary): void {
    const thread = this.join(thread_id);
    thread.at = Math.max(thread.at, Date.parse(last_event_at ?? "") || 0);
    thread.startedAt ||= thread.at;
    thread.last = Math.max(thread.last, last.offset);
    thread.read = Math.max(thread.read, acknowledged, floor - 1);
    for (const { run_id } of active_runs) thread.activeRuns.add(run_id);
  }

  // The first question, and what happened last.
  #peekNext(): void {
    while (this.#peeking < PEEKS_AT_A_TIME && this.#peeks.length > 0) {
      this.#peeking += 1;
      const generation = this.#generation;
      void this.#peek(this.#peeks.shift()!).finally(() => {
        if (generation !== this.#generation) return;
        this.#peeking -= 1;
        this.#peekNext();
      });
    }
  }

  async #peek(threadId: string): Promise<void> {
    const thread = this.byId.get(threadId);
    if (!thread) return; // deleted meanwhile
    try {
      const first = await this.#client.history(threadId, { limit: 1 });
      for (const event of first.events) this.#title(thread, event);
      const lastOffset = first.last.offset;
      const { events } = await this.#client.history(threadId, { before: lastOffset + 1, limit: 1 });
      for (const event of events) thread.activity ||= activityOf(event);
    } catch {
      // The thread stays listed by its id.
    }
    this.#changed();
  }

  join(threadId: string): ListedThread {
    let thread = this.byId.get(threadId);
    if (!thread) {
      thread = { id: threadId, at: 0, startedAt: 0, title: "", titleOffset: Infinity, activity: "", last: 0, read: -1, activeRuns: new Set(), peeked: false };
      this.byId.set(threadId, thread);
    }
    return thread;
  }

  subscribed(frame: SubscribedFrame): void {
    if (!frame.thread_id || frame.claim) return;
    this.join(frame.thread_id).activeRuns = new Set((frame.active_runs ?? []).map((run) => run.run_id));
  }

  event(event: ClarionEvent, shown: boolean): void {
    const thread = this.join(event.thread_id);
    thread.at = Math.max(thread.at, Date.parse(event.accepted_at) || 0);
    thread.last = Math.max(thread.last, event.offset);
    if (thread.read < 0) thread.read = (event.first_offset ?? event.offset) - 1;
    if (shown) thread.read = thread.last;
    if (event.type === "agent_started" || thread.startedAt === 0) thread.startedAt = thread.at;
    if (event.type === "agent_started") thread.activeRuns.add(event.run_id);
    if (event.type === "agent_completed" || event.type === "agent_error") thread.activeRuns.delete(event.run_id);
    this.#title(thread, event);
    thread.activity = activityOf(event);
  }

  #title(thread: ListedThread, event: ClarionEvent): void {
    if (event.type !== "agent_started" || event.offset >= thread.titleOffset) return;
    const title = questionOf(event.input);
    if (title === "") return;
    thread.title = title;
    thread.titleOffset = event.offset;
  }

  /** It is looked at. */
  show(threadId: string | null): void {
    const thread = this.get(threadId);
    if (thread) thread.read = thread.last;
  }

  /** Most recently started first; those of which nothing is known yet as they came. */
  sorted(): ListedThread[] {
    return [...this.byId.values()].sort((a, b) => b.startedAt - a.startedAt);
  }
}

function activityOf(event: ClarionEvent): string {
  switch (event.type) {
    case "agent_started":
      return `${event.agent_name} started`;
    case "agent_thinking":
      return `${event.agent_name} is thinking`;
    case "agent_message_delta":
      return `${event.agent_name} is writing`;
    case "tool_executing":
      return `${event.tool_name} is running`;
    case "tool_progress":
      return event.message || "a tool is running";
    case "tool_completed":
      return `${event.tool_name} ${event.status}`;
    case "agent_completed":
      return event.outcome === "success" ? `${event.agent_name} finished` : `${event.agent_name}: ${event.outcome}`;
    case "step_started":
    case "step_completed":
    case "custom":
      return event.type.replaceAll("_", " ");
    default:
      return event.user_message || (event as { type: string }).type.replaceAll("_", " ");
  }
}
