// What one thread looks like: its events in order, and the runs they make. No DOM in here.
//
// Feed it the frames of one thread (`subscribed`, `missed`, events). `dirty` names what changed since
// the view last took it; `generation` changes when everything did.

const FAILURES = new Set([
  "agent_error",
  "circuit_breaker_triggered",
  "partial_result_preserved",
  "graceful_degradation",
  "recovery_attempt",
  "resource_cleanup",
  "system_recovered",
]);

export class Timeline {
  constructor(threadId) {
    this.threadId = threadId;
    this.generation = 0;
    this.epoch = "";
    this.last = 0; // offset of the last event or missed range; 0: none
    this.started = false;
    this.activeRuns = new Set();
    this.openAtBegin = 0;
    this.entries = []; // {event, text} and {missed}, ascending
    this.#clear();
  }

  // A subscription begins, or goes on in a new epoch: what it sends starts at from_offset.
  begin(subscribed) {
    const from = subscribed.from_offset ?? 1;
    this.epoch = subscribed.epoch ?? "";
    const missed = subscribed.missed === true; // `missed` follows and says what
    const ahead = from > this.last + 1;
    // A note that stands right before `from` is said again if something is missing there.
    const stays = (entry) => endOf(entry) < from - (entry.missed && missed ? 1 : 0);
    if (!this.started || (ahead && !missed)) this.#rebuild([], from - 1);
    else if (!ahead && (missed || from <= this.last)) this.#rebuild(this.entries.filter(stays), from - 1);
    this.started = true;
    this.activeRuns = new Set((subscribed.active_runs ?? []).map((run) => run.run_id));
    this.openAtBegin = subscribed.last_offset ?? 0;
  }

  // Everything up to the subscription's last_offset is here. A run whose end was missed is not shown as
  // running for ever.
  caughtUp() {
    for (const run of this.openRuns) {
      if (run.firstOffset > this.openAtBegin || this.activeRuns.has(run.runId)) continue;
      run.state = "ended";
      run.endedAt = run.lastAt;
      this.dirty.add(run);
    }
  }

  missed(frame) {
    const keepUpTo = frame.discard_after;
    if (keepUpTo !== undefined && keepUpTo < this.last) {
      this.#rebuild(this.entries.filter((entry) => endOf(entry) <= keepUpTo), keepUpTo);
    }
    this.epoch = frame.epoch ?? this.epoch;
    const entry = { missed: frame, end: keepUpTo ?? frame.to_offset ?? 0 };
    this.entries.push(entry);
    this.#applyMissed(entry);
  }

  // The event follows the one before: stream.js sees to that.
  event(event, text) {
    const entry = { event, text };
    this.entries.push(entry);
    this.#applyEvent(entry);
  }

  // What changed: {generation, blocks: Set of runs and notes, entries: new ones}. Forgets it.
  takeChanges() {
    const changes = {
      generation: this.generation,
      blocks: this.dirty,
      firstNewEntry: this.shownEntries,
    };
    this.dirty = new Set();
    this.shownEntries = this.entries.length;
    return changes;
  }

  get position() {
    return { epoch: this.epoch, offset: this.last };
  }

  get openRuns() {
    return [...this.runs.values()].filter((run) => run.state === "running");
  }

  #clear() {
    this.blocks = []; // runs and notes, in order of their first event
    this.runs = new Map();
    this.dirty = new Set();
    this.shownEntries = 0;
    this.generation += 1;
  }

  #rebuild(entries, last) {
    this.#clear();
    this.entries = entries;
    this.last = last;
    for (const entry of entries) {
      if (entry.event) this.#applyEvent(entry);
      else this.#applyMissed(entry);
    }
    this.last = last;
  }

  #applyMissed(entry) {
    this.last = entry.end;
    const note = { ...entry.missed, kind: "missed" };
    // Where the reader looks: inside what was going on, or between the runs.
    for (const run of this.openRuns) this.#add(run, { ...note });
    if (this.openRuns.length > 0) return;
    this.blocks.push(note);
    this.dirty.add(note);
  }

  #applyEvent({ event }) {
    this.last = event.offset;
    const run = this.#run(event);
    this.dirty.add(run);
    run.lastAt = event.timestamp;
    switch (event.type) {
      case "agent_started":
        run.startedAt = event.timestamp;
        run.input = event.input;
        run.parentRunId = event.parent_run_id;
        run.retryOfRunId = event.retry_of_run_id;
        run.whole = true;
        break;
      case "agent_thinking":
        this.#append(run, "thinking", event);
        break;
      case "agent_message_delta":
        this.#append(run, "message", event);
        break;
      case "tool_executing":
      case "tool_progress":
      case "tool_completed":
        this.#tool(run, event);
        break;
      case "step_started":
        this.#add(run, { kind: "step", name: event.step_name, done: false });
        break;
      case "step_completed":
        this.#completeStep(run, event);
        break;
      case "agent_completed":
        run.state = event.outcome ?? "success";
        run.endedAt = event.timestamp;
        run.result = event.result;
        run.usage = event.usage ?? [];
        for (const interrupt of event.interrupts ?? []) this.#add(run, { kind: "interrupt", interrupt });
        break;
      default:
        if (FAILURES.has(event.type)) this.#failure(run, event);
        else this.#add(run, { kind: "other", event });
    }
  }

  #run(event) {
    let run = this.runs.get(event.run_id);
    if (!run) {
      run = {
        kind: "run",
        runId: event.run_id,
        agent: event.agent_name,
        state: "running",
        startedAt: event.timestamp,
        firstOffset: event.first_offset ?? event.offset,
        whole: false, // its agent_started is here
        items: [],
        byId: new Map(),
        dirtyItems: new Set(),
      };
      this.runs.set(event.run_id, run);
      this.blocks.push(run);
    }
    return run;
  }

  #add(run, item) {
    run.items.push(item);
    this.#touch(run, item);
    return item;
  }

  #touch(run, item) {
    run.dirtyItems.add(item);
    this.dirty.add(run);
  }

  #append(run, kind, event) {
    const key = `${kind} ${event.message_id}`;
    let item = run.byId.get(key);
    if (!item) {
      item = this.#add(run, { kind, messageId: event.message_id, role: event.role, text: "", final: false });
      run.byId.set(key, item);
    }
    item.text += event.delta ?? "";
    item.final ||= event.is_final === true;
    this.#touch(run, item);
  }

  #tool(run, event) {
    const key = `tool ${event.tool_call_id}`;
    let item = run.byId.get(key);
    if (!item) {
      item = this.#add(run, {
        kind: "tool",
        callId: event.tool_call_id,
        name: event.tool_name ?? "tool",
        status: "running",
        startedAt: event.timestamp,
      });
      run.byId.set(key, item);
    }
    if (event.type === "tool_executing") {
      item.arguments = event.arguments;
    } else if (event.type === "tool_progress") {
      item.progress = event.progress;
      item.total = event.total;
      item.message = event.message;
    } else {
      item.name = event.tool_name ?? item.name;
      item.status = event.status;
      item.result = event.result;
      item.errorType = event.error_type;
      item.message = event.message;
      item.durationMs = event.duration_ms ?? 0;
    }
    this.#touch(run, item);
  }

  #completeStep(run, event) {
    const open = run.items.findLast?.((item) => item.kind === "step" && item.name === event.step_name && !item.done);
    if (!open) {
      this.#add(run, { kind: "step", name: event.step_name, done: true });
      return;
    }
    open.done = true;
    this.#touch(run, open);
  }

  #failure(run, event) {
    this.#add(run, { kind: "failure", event });
    if (event.type !== "agent_error") return;
    run.state = "error";
    run.endedAt = event.timestamp;
  }
}

function endOf(entry) {
  return entry.event ? entry.event.offset : entry.end;
}
