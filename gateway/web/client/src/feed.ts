// One thread as the connection delivers it: remembers how far it came, checks that every event follows the
// one before, and asks again for what does not. Outlives connections; knows no page.

import type { ClarionEvent, MissedRangeFrame, Position, SubscribedFrame, SubscribeFrame } from "./wire.js";

export type From = "unfinished" | "start" | "live";

/** How a thread is followed. */
export interface FollowOptions {
  /** Where a page that kept its own state goes on. */
  after?: Position | undefined;
  /** Otherwise: with what is unfinished or not acknowledged (default), everything, or only what comes. */
  from?: From | undefined;
  /** Whether replayed deltas of a message come drawn together (default) or one by one. */
  history?: "compacted" | "full" | undefined;
}

interface Request extends FollowOptions {
  id: string;
  /** The thread is not the user's yet: a second answer follows if it becomes so. */
  claimed?: boolean;
  /** It went with `connect`, whose id the answer has. */
  withConnect?: boolean;
}

function isUnfinished({ after, from }: FollowOptions): boolean {
  return !after && (from ?? "unfinished") === "unfinished";
}

/** Ranges of compacted events that are remembered; beyond, the oldest are drawn together. */
const MAX_MERGED = 64;

export class Feed {
  readonly threadId: string;
  /** Followed by name, not only with all threads. */
  named = false;
  /** Nothing is known, or the thread is not the user's. */
  position: Position | null = null;
  claim = false;
  /** Where the first subscription began: what a page that has seen nothing yet wants to see. */
  began: Position | null = null;
  history: FollowOptions["history"];
  // Asked for and not answered yet.
  request: Request | undefined;
  // Of the last `subscribed`, which began in front of what was here already: what is missing up to there was told.
  #seen = -1;
  // [first_offset, offset] of compacted events that were seen.
  #merged: [number, number][] = [];

  constructor(threadId: string) {
    this.threadId = threadId;
  }

  /** What to say to follow it, or to go on. */
  subscription(): SubscribeFrame {
    const { threadId: thread_id, history, request } = this;
    // A thread without events has no epoch yet, and nothing to go on after.
    const place = request?.after ?? (request?.from ? undefined : this.position);
    const after = place?.epoch ? place : undefined;
    return {
      type: "subscribe",
      thread_id,
      id: request?.id,
      history,
      after,
      from: after ? undefined : (request?.from ?? (place ? "start" : undefined)),
    };
  }

  /** It is to begin anew, after a place or at one. */
  ask(id: string, options: FollowOptions): void {
    this.request = { ...options, id };
    if (options.history) this.history = options.history;
  }

  /**
   * "older": the answer that is waited for is still to come, and this one is of an older subscription.
   * "in place": it went on where that was, though what came of it is gone by; firstPlace() says what to ask.
   */
  subscribed(frame: SubscribedFrame, connectId: string): "begun" | "older" | "in place" {
    const { request } = this;
    this.#seen = -1;
    this.claim = frame.claim === true;
    if (this.claim) {
      if (request) request.claimed = true;
      this.#forget();
      return "begun";
    }
    const answers = request && (request.claimed || frame.id === request.id || (request.withConnect && frame.id === connectId));
    if (answers) this.request = undefined;
    const before = this.position;
    const offset = Math.max(0, (frame.from_offset ?? 1) - 1);
    this.position = { epoch: frame.epoch ?? "", offset };
    if (!this.began || this.began.offset > offset) this.began = this.position;
    if (answers && isUnfinished(request) && this.began.offset < offset && !frame.missed) return "in place";
    // Asked for by nobody but an older subscription, or by a poll beside another: what was seen stays seen.
    if (!answers && before?.epoch === this.position.epoch && before.offset >= offset) {
      this.position = before;
      this.#seen = before.offset;
    }
    return this.request ? "older" : "begun";
  }

  /** Where a page begins that has seen nothing of the thread, which may be followed already. */
  firstPlace(options: FollowOptions): FollowOptions {
    const { began } = this;
    if (!began || !isUnfinished(options)) return options;
    return began.epoch ? { after: began } : { from: "start" };
  }

  /**
   * A compacted event of which the end is lost goes whole, and the position is in front of it then. False: it
   * is known, and what came in its place, or behind it, is here.
   */
  missed({ epoch = "", from_offset = 1, to_offset = 0, reason, discard_after: kept }: MissedRangeFrame): boolean {
    if (reason !== "deleted" && (kept ?? to_offset) <= this.#seen) return false;
    this.position = { epoch, offset: kept ?? to_offset };
    if (reason === "deleted") this.#merged = [];
    // Who begins there is to hear of it too.
    const begin = kept ?? from_offset - 1;
    if (!this.began || this.began.offset > begin) this.began = { epoch, offset: begin };
    if (kept === undefined) return true;
    const cut = this.#merged.find(([first, last]) => first <= kept && kept < last);
    this.#merged = this.#merged.filter(([, last]) => last <= kept);
    if (cut) this.position = { epoch, offset: cut[0] - 1 };
    return true;
  }

  /** Whether the event is the next one. One that overlaps what is here is asked for again from there on. */
  take(event: ClarionEvent): "next" | "repeat" | "gap" {
    const at = this.position;
    const first = event.first_offset ?? event.offset;
    if (at && event.offset <= at.offset) return "repeat";
    if (!at || first !== at.offset + 1) return "gap";
    this.position = { epoch: at.epoch, offset: event.offset };
    if (event.first_offset !== undefined) this.#remember(event.first_offset, event.offset);
    return "next";
  }

  /** The subscription ended, and what is known of the thread with it. */
  #forget(): void {
    this.position = this.began = null;
    this.#merged = [];
  }

  #remember(first: number, last: number): void {
    const merged = this.#merged;
    while (merged.length > 0 && merged[merged.length - 1]![1] >= first) merged.pop(); // seen again
    merged.push([first, last]);
    // If a part of two is lost, both are asked for again.
    if (merged.length > MAX_MERGED) merged.splice(0, 2, [merged[0]![0], merged[1]![1]]);
  }
}
