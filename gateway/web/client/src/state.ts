// What a thread's events make of it: runs with their messages, tools, steps and failures.
//
// Events go in in order; snapshots come out. A snapshot never changes, and shares with the one before all
// that stayed the same, so that a page compares by identity what it has to draw anew.

import type {
  AgentStartedEvent,
  ClarionEvent,
  EventOf,
  Interrupt,
  Json,
  MissedRangeFrame,
  Position,
  StreamErrorFrame,
  SubscribedFrame,
  Usage,
} from "./wire.js";

export type FailureEvent = EventOf<
  | "agent_error"
  | "circuit_breaker_triggered"
  | "partial_result_preserved"
  | "graceful_degradation"
  | "recovery_attempt"
  | "resource_cleanup"
  | "system_recovered"
>;

/** Text that grows while it streams. */
export interface Message {
  kind: "message" | "thinking";
  runId: string;
  messageId: string;
  /** "assistant", "user" …; of thinking: "". */
  role: string;
  text: string;
  final: boolean;
}

export interface Tool {
  kind: "tool";
  runId: string;
  toolCallId: string;
  name: string;
  status: "running" | EventOf<"tool_completed">["status"];
  arguments?: Json;
  progress?: number;
  total?: number;
  /** The last line for people; of the progress only while it runs. */
  message?: string;
  result?: Json;
  errorType?: string;
  startedAt: string;
  durationMs?: number;
}

export interface Step {
  kind: "step";
  runId: string;
  name: string;
  done: boolean;
}

export interface Failure {
  kind: "failure";
  runId: string;
  event: FailureEvent;
}

/** Events that cannot be shown any more. */
export interface Missed {
  kind: "missed";
  fromOffset: number;
  toOffset: number;
  reason: MissedRangeFrame["reason"];
}

/** A custom event, or one of a type that only later versions know. */
export interface Other {
  kind: "other";
  runId: string;
  event: ClarionEvent;
}

export type RunItem = Message | Tool | Step | Failure | Missed | Other;

export interface Run {
  kind: "run";
  runId: string;
  agentName: string;
  /** "ended": its end was among what was missed. */
  state: "running" | EventOf<"agent_completed">["outcome"] | "error" | "ended";
  /** False: it began before the first event that is here. */
  whole: boolean;
  input?: Json;
  parentRunId?: string;
  parentToolCallId?: string;
  retryOfRunId?: string;
  startedAt: string;
  endedAt?: string;
  firstOffset: number;
  lastOffset: number;
  /** In the order in which they began. */
  items: readonly RunItem[];
  result?: Json;
  usage: readonly Usage[];
  interrupts: readonly Interrupt[];
}

export interface ThreadState {
  threadId: string;
  /** How far it has come; null: nothing is known yet. */
  position: Position | null;
  /** Everything up to when it was subscribed to is here. */
  caughtUp: boolean;
  /** The thread is not the user's, as far as anybody is told. If it becomes so, it fills by itself. */
  claim: boolean;
  /** There is something before the first event that is here: see Thread.older(). */
  hasOlder: boolean;
  /** Runs, and what was missed between them, in order. */
  blocks: readonly (Run | Missed)[];
  runs: readonly Run[];
  messages: readonly Message[];
  tools: readonly Tool[];
  /** Runs that failed. */
  errors: readonly Failure[];
  /** What the agent does without at the moment. */
  degradations: readonly Failure[];
  /** Every range that is missing, in order. */
  missed: readonly Missed[];
  /** Why the thread is not followed; with retry_after_ms it is asked for again. */
  error: StreamErrorFrame | null;
}

/** An event, or a range that is missing. */
export type Entry = EventEntry | MissedEntry;

interface MissedEntry {
  missed: MissedRangeFrame;
  /** The last offset behind it. */
  end: number;
  note?: Missed;
}

// Deltas of one message make one event. If its end is rolled back it goes whole, and is asked for again.
interface EventEntry {
  event: ClarionEvent;
}

// A run as it is worked on; `shown` is its last snapshot, none if something changed since.
interface Draft {
  run: Omit<Run, "items">;
  items: RunItem[];
  // Where an item is that more may come for.
  places: Map<string, number>;
  shown: Run | undefined;
}

export class StateFold {
  readonly #threadId: string;
  #entries: Entry[] = [];
  #events: readonly ClarionEvent[] | undefined;
  #blocks: (Draft | Missed)[] = [];
  #runs = new Map<string, Draft>();
  #shown: ThreadState | undefined;
  #before: object = {};

  #epoch = "";
  #last = 0;
  #begun = false;
  #caughtUp = false;
  #claim = false;
  #error: StreamErrorFrame | null = null;
  // Of the last `subscribed`: runs that go on, and up to where that is known.
  #activeRuns = new Set<string>();
  #activeUpTo = 0;

  constructor(threadId: string) {
    this.#threadId = threadId;
  }

  get last(): number {
    return this.#last;
  }

  // --- What comes ---

  /** What follows starts at from_offset; what is here from there on comes again. */
  subscribed(frame: SubscribedFrame): void {
    this.#changed();
    this.#error = null;
    this.#claim = frame.claim === true;
    this.#caughtUp = false;
    if (this.#claim) return this.clear();
    const from = frame.from_offset ?? 1;
    const ahead = from > this.#last + 1;
    if (!this.#begun || (ahead && !frame.missed)) this.#rebuild([], from - 1);
    else if (!ahead && (frame.missed || from <= this.#last)) this.#cut(from - 1, frame.missed === true);
    this.#epoch = frame.epoch ?? "";
    this.#begun = true;
    this.#activeRuns = new Set((frame.active_runs ?? []).map((run) => run.run_id));
    this.#activeUpTo = frame.last_offset ?? 0;
  }

  missed(frame: MissedRangeFrame): void {
    this.#changed();
    this.#epoch = frame.epoch ?? this.#epoch;
    if (frame.reason === "deleted") return this.clear();
    const keep = frame.discard_after;
    if (keep !== undefined && keep < this.#last) this.#cut(keep, false);
    this.#add({ missed: frame, end: keep === undefined ? frame.to_offset ?? 0 : Math.min(keep, this.#last) });
  }

  event(event: ClarionEvent): void {
    this.#changed();
    this.#add({ event });
  }

  /** A run whose end was missed is not shown as running for ever. */
  caughtUp(): void {
    this.#changed();
    this.#caughtUp = true;
    for (const draft of this.#runs.values()) {
      const { run } = draft;
      if (run.state !== "running" || run.firstOffset > this.#activeUpTo || this.#activeRuns.has(run.runId)) continue;
      this.#touch(draft).state = "ended";
    }
  }

  failed(error: StreamErrorFrame): void {
    this.#changed();
    this.#error = error;
  }

  clear(): void {
    this.#changed();
    this.#begun = false;
    this.#caughtUp = false;
    this.#rebuild([], 0);
  }

  /** What came before what is here. */
  prepend(older: Entry[]): void {
    this.#changed();
    const [head, ...rest] = this.#entries;
    const last = this.#last;
    this.#rebuild([], 0);
    for (const entry of older) this.#add(entry);
    // A message may go on over the border.
    if (head) this.#add(head);
    this.#rebuild([...this.#entries, ...rest], last);
    if (this.#caughtUp) this.caughtUp();
  }

  // --- What is shown ---

  /** The first offset that is here. */
  get first(): number {
    const [entry] = this.#entries;
    if (!entry) return this.#last + 1;
    return "event" in entry ? firstOf(entry.event) : entry.missed.from_offset ?? 1;
  }

  /** Consecutive deltas of one message are one event, with the first one's `first_offset`. */
  events(): readonly ClarionEvent[] {
    this.#events ??= this.#entries.flatMap((entry) => ("event" in entry ? [entry.event] : []));
    return this.#events;
  }

  snapshot(): ThreadState {
    if (this.#shown) return this.#shown;
    const shown = this.#show() as ThreadState & Record<string, unknown>;
    for (const [name, before] of Object.entries(this.#before)) if (sameList(before, shown[name])) shown[name] = before;
    return (this.#before = this.#shown = shown);
  }

  #show(): ThreadState {
    const blocks = this.#blocks.map((block) => ("run" in block ? showRun(block) : block));
    const runs = blocks.filter((block): block is Run => block.kind === "run");
    const items = runs.flatMap((run) => run.items);
    const failures = items.filter((item): item is Failure => item.kind === "failure");
    return {
      threadId: this.#threadId,
      position: this.#begun ? { epoch: this.#epoch, offset: this.#last } : null,
      caughtUp: this.#caughtUp,
      claim: this.#claim,
      hasOlder: this.#begun && this.first > 1 && !("missed" in (this.#entries[0] ?? {})),
      blocks,
      runs,
      messages: items.filter((item): item is Message => item.kind === "message"),
      tools: items.filter((item): item is Tool => item.kind === "tool"),
      errors: failures.filter((failure) => failure.event.type === "agent_error"),
      degradations: openDegradations(failures, runs),
      missed: this.#entries.flatMap((entry) => ("missed" in entry ? [noteOf(entry)] : [])),
      error: this.#error,
    };
  }

  // --- How it is made ---

  #changed(): void {
    this.#shown = undefined;
    this.#events = undefined;
  }

  // Takes away what is behind `keep`. An event of which the end is behind it goes whole, and `last` is in front
  // of it then.
  #cut(keep: number, saidAgain: boolean): void {
    const entries: Entry[] = [];
    let last = keep;
    for (const entry of this.#entries) {
      // A note that stands right before is said again if something is missing there.
      if (endOf(entry) <= keep - ("missed" in entry && saidAgain ? 1 : 0)) entries.push(entry);
      else if ("event" in entry) last = Math.min(last, firstOf(entry.event) - 1);
    }
    this.#rebuild(entries, last);
  }

  #rebuild(entries: Entry[], last: number): void {
    this.#entries = [];
    this.#blocks = [];
    this.#runs.clear();
    for (const entry of entries) {
      this.#entries.push(entry);
      if ("event" in entry) this.#apply(entry.event);
      else this.#addMissed(entry);
    }
    this.#last = last;
  }

  #add(entry: Entry): void {
    this.#last = endOf(entry);
    if ("missed" in entry) {
      this.#entries.push(entry);
      this.#addMissed(entry);
      return;
    }
    const before = this.#entries[this.#entries.length - 1];
    const merged = before && "event" in before && mergedOf(before.event, entry.event);
    if (merged) before.event = merged;
    else this.#entries.push(entry);
    this.#apply(entry.event);
  }

  // Where the reader looks: inside what was going on, or between the runs.
  #addMissed(entry: MissedEntry): void {
    const note = noteOf(entry);
    const open = [...this.#runs.values()].filter(({ run }) => run.state === "running");
    for (const draft of open) {
      this.#touch(draft);
      draft.items.push(note);
    }
    if (open.length === 0) this.#blocks.push(note);
  }

  #touch(draft: Draft): Draft["run"] {
    draft.shown = undefined;
    return draft.run;
  }

  #draft(event: ClarionEvent): Draft {
    let draft = this.#runs.get(event.run_id);
    if (!draft) {
      const run: Draft["run"] = {
        kind: "run",
        runId: event.run_id,
        agentName: event.agent_name,
        state: "running",
        whole: false,
        startedAt: event.timestamp,
        firstOffset: firstOf(event),
        lastOffset: event.offset,
        usage: [],
        interrupts: [],
      };
      draft = { run, items: [], places: new Map(), shown: undefined };
      this.#runs.set(event.run_id, draft);
      this.#blocks.push(draft);
    }
    return draft;
  }

  #apply(event: ClarionEvent): void {
    const draft = this.#draft(event);
    const run = this.#touch(draft);
    run.lastOffset = event.offset;
    switch (event.type) {
      case "agent_started":
        Object.assign(run, { whole: true }, fieldsOf(event, RUN_FIELDS));
        return;
      case "agent_thinking":
      case "agent_message_delta":
        return this.#text(draft, event);
      case "tool_executing":
      case "tool_progress":
      case "tool_completed":
        return this.#tool(draft, event);
      case "step_started":
      case "step_completed":
        return this.#step(draft, event.step_name, event.type === "step_completed");
      case "agent_completed":
        run.state = event.outcome;
        run.endedAt = event.timestamp;
        run.usage = event.usage ?? [];
        run.interrupts = event.interrupts ?? [];
        if (event.result !== undefined) run.result = event.result;
        return;
    }
    if (event.type === "agent_error") {
      run.state = "error";
      run.endedAt = event.timestamp;
    }
    const { runId } = run;
    draft.items.push(isFailure(event) ? { kind: "failure", runId, event } : { kind: "other", runId, event });
  }

  // The item that is known by this key, or a new one. It is replaced, never changed.
  #place<T extends RunItem>(draft: Draft, key: string, first: () => T, change: (item: T) => T): void {
    const at = draft.places.get(key);
    if (at !== undefined) {
      draft.items[at] = change(draft.items[at] as T);
    } else {
      draft.places.set(key, draft.items.length);
      draft.items.push(change(first()));
    }
  }

  #text(draft: Draft, event: EventOf<"agent_thinking" | "agent_message_delta">): void {
    const { runId } = draft.run;
    const kind = event.type === "agent_thinking" ? "thinking" : "message";
    const role = event.type === "agent_thinking" ? "" : event.role;
    const { message_id: messageId } = event;
    this.#place<Message>(
      draft,
      `${kind} ${messageId}`,
      () => ({ kind, runId, messageId, role, text: "", final: false }),
      (item) => ({ ...item, text: item.text + event.delta, final: item.final || event.is_final }),
    );
  }

  #tool(draft: Draft, event: EventOf<"tool_executing" | "tool_progress" | "tool_completed">): void {
    const { runId } = draft.run;
    const { tool_call_id: toolCallId, timestamp: startedAt } = event;
    this.#place<Tool>(
      draft,
      `tool ${toolCallId}`,
      () => ({ kind: "tool", runId, toolCallId, name: "tool", status: "running", startedAt }),
      (tool) => {
        const next: Tool = { ...tool, ...fieldsOf(event, TOOL_FIELDS) };
        // What it said on its way is over.
        if (event.type === "tool_completed" && event.message === undefined) delete next.message;
        return next;
      },
    );
  }

  #step(draft: Draft, name: string, done: boolean): void {
    const key = `step ${name}`;
    const { runId } = draft.run;
    this.#place<Step>(draft, key, () => ({ kind: "step", runId, name, done }), (step) => ({ ...step, done }));
    if (done) draft.places.delete(key); // the next one of this name is another
  }
}

/** A thread of which nothing is known yet: what a page shows at first, or on a server. */
export function emptyThread(threadId: string): ThreadState {
  return new StateFold(threadId).snapshot();
}

function endOf(entry: Entry): number {
  return "event" in entry ? entry.event.offset : entry.end;
}

function noteOf(entry: MissedEntry): Missed {
  const { missed, end } = entry;
  entry.note ??= { kind: "missed", fromOffset: missed.from_offset ?? 1, toOffset: missed.to_offset ?? end, reason: missed.reason };
  return entry.note;
}

function sameList(before: unknown, now: unknown): boolean {
  return Array.isArray(before) && Array.isArray(now) && before.length === now.length && before.every((one, i) => one === now[i]);
}

function firstOf(event: ClarionEvent): number {
  return event.first_offset ?? event.offset;
}

// What says something to the user is one of the seven.
function isFailure(event: ClarionEvent): event is FailureEvent {
  return "user_message" in event;
}

// What the snapshots call the fields of events; those that an event does not have are left as they are.
const RUN_FIELDS = {
  timestamp: "startedAt",
  input: "input",
  parent_run_id: "parentRunId",
  parent_tool_call_id: "parentToolCallId",
  retry_of_run_id: "retryOfRunId",
} satisfies Partial<Record<keyof AgentStartedEvent, keyof Run>>;

const TOOL_FIELDS = {
  tool_name: "name",
  arguments: "arguments",
  progress: "progress",
  total: "total",
  message: "message",
  result: "result",
  status: "status",
  error_type: "errorType",
  duration_ms: "durationMs",
} satisfies Record<string, keyof Tool>;

function fieldsOf(event: object, names: Record<string, string>): object {
  return Object.fromEntries(Object.entries(event).flatMap(([field, value]) => (names[field] ? [[names[field], value]] : [])));
}

/** As the service would compact them: deltas of one message, run, agent and role. */
export function mergedOf(before: ClarionEvent, next: ClarionEvent): ClarionEvent | undefined {
  if (before.type !== "agent_thinking" && before.type !== "agent_message_delta") return undefined;
  if (next.type !== before.type || next.message_id !== before.message_id || next.run_id !== before.run_id) return undefined;
  if (next.agent_name !== before.agent_name || before.is_final) return undefined;
  if ("role" in next && "role" in before && next.role !== before.role) return undefined;
  return { ...next, first_offset: firstOf(before), delta: before.delta + next.delta };
}

function showRun(draft: Draft): Run {
  draft.shown ??= { ...draft.run, items: draft.items.slice() };
  return draft.shown;
}

// Until the run ends or says that it has recovered.
function openDegradations(failures: Failure[], runs: Run[]): Failure[] {
  const running = new Set(runs.filter((run) => run.state === "running").map((run) => run.runId));
  return failures.filter(({ runId, event }) => {
    if (event.type !== "graceful_degradation" || !running.has(runId)) return false;
    const { capability, offset } = event;
    return !failures.some(
      (later) =>
        later.runId === runId &&
        later.event.type === "system_recovered" &&
        later.event.offset > offset &&
        (later.event.recovered.length === 0 || later.event.recovered.includes(capability)),
    );
  });
}
