// Draws a thread as a conversation. Only what changed is touched, so that streaming text, open details and
// the reader's selection stay as they are.

import type { Failure, Message, Missed, Other, Run, RunItem, Step, ThreadState, Tool } from "clarion-client";

import { el, growText, setAttribute, setText } from "./dom.js";
import { briefly, compactJson, duration, lastLine, moment, prettyJson, questionOf } from "./format.js";
import { Prose } from "./prose.js";

const REASONS = {
  expired: "they were kept no longer",
  deleted: "they were deleted",
  log_rolled_back: "the server lost them in a crash",
};

const STATE_WORDS: Record<Run["state"], string> = {
  running: "running",
  success: "finished",
  interrupted: "waiting for an answer",
  cancelled: "cancelled",
  incomplete: "ended early",
  error: "failed",
  ended: "ended",
};

/** Something on the page that follows a value as it changes. */
interface Drawing<T> {
  readonly element: HTMLElement;
  update(value: T): void;
  /** Moves its clock, if it has one that runs. */
  tick?(now: number): void;
  /** Its run does not go on: what is still open stays so, for this reason. */
  over?(why: string): void;
}

export class Conversation {
  readonly #root: HTMLElement;
  #shown: ThreadState | undefined;
  #runs = new Map<string, RunDrawing>();
  #notes = new Map<Missed, HTMLElement>();

  constructor(root: HTMLElement) {
    this.#root = root;
  }

  clear(): void {
    this.#root.replaceChildren();
    this.#runs.clear();
    this.#notes.clear();
    this.#shown = undefined;
  }

  draw(state: ThreadState): void {
    if (state === this.#shown) return;
    const before = this.#shown;
    this.#shown = state;
    if (before?.blocks !== state.blocks) this.#drawBlocks(state);
  }

  tick(now: number): void {
    for (const drawing of this.#runs.values()) drawing.tick(now);
  }

  #drawBlocks({ blocks, runs }: ThreadState): void {
    const known = new Map(runs.map((run) => [run.runId, run]));
    let at = this.#root.firstElementChild;
    const place = (element: HTMLElement) => {
      if (at === element) at = at.nextElementSibling;
      else this.#root.insertBefore(element, at);
    };
    for (const block of blocks) {
      if (block.kind === "missed") {
        place(this.#note(block));
        continue;
      }
      const drawing = this.#run(block);
      // What a run called stands inside it, behind the call.
      const parent = isNested(block, known) ? this.#runs.get(block.parentRunId!) : undefined;
      if (!parent) place(drawing.element);
      else {
        if (at === drawing.element) at = at.nextElementSibling; // stood alone until its parent came
        parent.nest(drawing.element, block.parentToolCallId);
      }
      drawing.update(block, parent !== undefined);
    }
    while (at) {
      const next = at.nextElementSibling;
      at.remove();
      at = next;
    }
    for (const [runId, drawing] of this.#runs) {
      if (known.has(runId)) continue;
      drawing.element.remove();
      this.#runs.delete(runId);
    }
  }

  #run(run: Run): RunDrawing {
    let drawing = this.#runs.get(run.runId);
    if (!drawing) this.#runs.set(run.runId, (drawing = new RunDrawing(run)));
    return drawing;
  }

  #note(missed: Missed): HTMLElement {
    let note = this.#notes.get(missed);
    if (!note) this.#notes.set(missed, (note = missedNote(missed)));
    return note;
  }
}

// Unless its parents are not here, or go round in a circle.
function isNested(run: Run, known: ReadonlyMap<string, Run>): boolean {
  const seen = new Set<string>();
  for (let at: Run | undefined = run; at?.parentRunId !== undefined; at = known.get(at.parentRunId)) {
    if (seen.has(at.runId)) return false;
    seen.add(at.runId);
  }
  return run.parentRunId !== undefined && known.has(run.parentRunId);
}

class RunDrawing {
  readonly element: HTMLElement;
  #run: Run;
  #drawn: Run | undefined;
  #items: DrawnItem[] = [];
  readonly #badge = el("span.badge");
  readonly #elapsed = el("span.elapsed");
  readonly #started = el("time");
  readonly #question = el("blockquote.question", { hidden: true });
  readonly #origin = el("p.origin", { hidden: true });
  readonly #list = el("ol.items");
  readonly #outcome = el("div.outcome");

  constructor(run: Run) {
    this.#run = run;
    this.element = el(
      "article.run",
      { "data-run-id": run.runId, "aria-label": `Run of ${run.agentName}` },
      this.#question,
      el("div.answer", {}, el("header", {}, el("span.agent", {}, run.agentName), this.#badge, this.#elapsed, this.#started), this.#origin, this.#list, this.#outcome),
    );
  }

  update(run: Run, nested: boolean): void {
    setAttribute(this.element, "data-nested", nested);
    if (run === this.#drawn) return;
    this.#run = this.#drawn = run;
    setAttribute(this.element, "data-state", run.state);
    setText(this.#badge, STATE_WORDS[run.state]);
    setAttribute(this.#started, "datetime", run.startedAt);
    setText(this.#started, moment(run.startedAt));
    this.#drawOrigin(run);
    this.#question.hidden = run.input === undefined;
    if (run.input !== undefined) setText(this.#question, questionOf(run.input) || compactJson(run.input));
    this.#drawItems(run.items);
    const why = run.state === "interrupted" ? "waiting" : "no result";
    if (run.state !== "running") for (const { drawing } of this.#items) drawing.over?.(why);
    this.#drawOutcome(run);
    this.tick(Date.now());
  }

  /** Puts the run that was called behind the call, or at the end. */
  nest(element: HTMLElement, toolCallId: string | undefined): void {
    const row = this.#items.find(({ item }) => item.kind === "tool" && item.toolCallId === toolCallId)?.row;
    const host = row ?? this.#list.parentElement!;
    if (element.parentElement === host) return;
    if (row) row.append(element);
    else host.insertBefore(element, this.#outcome);
  }

  tick(now: number): void {
    const { state, startedAt, endedAt } = this.#run;
    const end = endedAt ? Date.parse(endedAt) : state === "running" ? now : NaN;
    setText(this.#elapsed, duration(Math.max(0, end - Date.parse(startedAt))));
    if (state === "running") for (const { drawing } of this.#items) drawing.tick?.(now);
  }

  #drawOrigin(run: Run): void {
    let text = "";
    if (run.retryOfRunId) text = `Another try at ${run.retryOfRunId}`;
    else if (!run.whole) text = "The beginning of this run is not here.";
    this.#origin.hidden = text === "";
    setText(this.#origin, text);
  }

  #drawItems(items: readonly RunItem[]): void {
    this.#drawEarlier(items);
    items.forEach((item, index) => {
      const drawn = this.#items[index];
      if (drawn?.item === item) return;
      if (drawn && sameThing(drawn.item, item)) {
        drawn.item = item;
        drawn.drawing.update(item);
        return;
      }
      // From here on it is another story: what was rolled back, or what came before.
      for (const { row } of this.#items.splice(index)) row.remove();
      const made = itemOf(item);
      this.#items.push(made);
      this.#list.append(made.row);
    });
    for (const { row } of this.#items.splice(items.length)) row.remove();
  }

  // In front of what is here, which stays as it is.
  #drawEarlier(items: readonly RunItem[]): void {
    const [first] = this.#items;
    const count = first ? items.findIndex((item) => sameThing(item, first.item)) : 0;
    if (count <= 0) return;
    const earlier = items.slice(0, count).map(itemOf);
    this.#items.unshift(...earlier);
    this.#list.prepend(...earlier.map(({ row }) => row));
  }

  #drawOutcome(run: Run): void {
    const parts: HTMLElement[] = [];
    for (const interrupt of run.interrupts) {
      parts.push(
        el("div.failure", { "data-type": "interrupt", "data-tone": "calm" },
          el("p.user-message", {}, interrupt.message || interrupt.reason),
          interrupt.expires_at ? el("p.facts", {}, `Until ${moment(interrupt.expires_at)}.`) : null),
      );
    }
    if (run.result !== undefined) parts.push(folded("Result", prettyJson(run.result), "result"));
    for (const use of run.usage) {
      parts.push(el("p.usage", {}, el("bdi", {}, `${use.provider} ${use.model}`), `: ${use.input_tokens.toLocaleString()} tokens read, ${use.output_tokens.toLocaleString()} written`));
    }
    if (parts.length > 0 || this.#outcome.childElementCount > 0) this.#outcome.replaceChildren(...parts);
  }
}

interface DrawnItem {
  item: RunItem;
  readonly drawing: Drawing<RunItem>;
  readonly row: HTMLElement;
}

function itemOf(item: RunItem): DrawnItem {
  const drawing = drawingOf(item);
  drawing.update(item);
  return { item, drawing, row: el("li.item", { "data-kind": item.kind }, drawing.element) };
}

function sameThing(a: RunItem, b: RunItem): boolean {
  if (a === b) return true;
  if (a.kind !== b.kind) return false;
  if ("event" in a) return a.event === (b as Failure).event;
  if (a.kind === "message" || a.kind === "thinking") return a.messageId === (b as Message).messageId;
  if (a.kind === "tool") return a.toolCallId === (b as Tool).toolCallId;
  return a.kind === "step" && a.name === (b as Step).name;
}

function drawingOf(item: RunItem): Drawing<RunItem> {
  const drawing = (() => {
    switch (item.kind) {
      case "message":
        return messageDrawing(item);
      case "thinking":
        return thinkingDrawing(item);
      case "tool":
        return toolDrawing(item);
      case "step":
        return stepDrawing(item);
      case "failure":
        return still(failureNote(item));
      case "missed":
        return still(missedNote(item));
      case "other":
        return still(otherNote(item));
    }
  })();
  return drawing as Drawing<RunItem>;
}

function still(element: HTMLElement): Drawing<RunItem> {
  return { element, update: () => {} };
}

function messageDrawing({ messageId, role }: Message): Drawing<Message> {
  const element = el("div.message", { "data-message-id": messageId, "data-role": role });
  const prose = new Prose(element);
  return {
    element,
    update: ({ text, final }) => {
      prose.draw(text);
      setAttribute(element, "data-final", final);
    },
  };
}

function thinkingDrawing({ messageId }: Message): Drawing<Message> {
  const text = el("p.thought");
  const peek = el("span.peek");
  const element = el("details.thinking", { "data-message-id": messageId }, el("summary", {}, el("span.label", {}, "Thinking"), peek), text);
  return {
    element,
    update: (item) => {
      growText(text, item.text);
      setText(peek, lastLine(item.text));
      setAttribute(element, "data-final", item.final);
    },
  };
}

function toolDrawing(tool: Tool): Drawing<Tool> {
  let shown = tool;
  const badge = el("span.badge");
  const time = el("span.elapsed");
  const name = el("span.tool-name");
  const brief = el("code.brief");
  const message = el("p.tool-message", { hidden: true });
  const bar = el("progress", { hidden: true, "aria-label": `Progress of ${tool.name}` });
  const input = el("div", {}, el("h4", {}, "Arguments"), el("pre.arguments", { tabindex: 0 }));
  const output = el("div.tool-result");
  const details = el("details.tool", { "data-tool-call-id": tool.toolCallId }, el("summary", {}, name, brief, badge, time), input, output);
  return {
    element: el("div", {}, details, bar, message),
    update: (next) => {
      shown = next;
      setAttribute(details, "data-status", next.status);
      setText(badge, next.status);
      setText(name, next.name);
      setText(brief, briefly(next.arguments));
      input.hidden = next.arguments === undefined; // its beginning is not here
      setText(input.lastElementChild!, prettyJson(next.arguments));
      setText(message, next.message ?? "");
      message.hidden = !next.message;
      bar.hidden = next.status !== "running" || next.progress === undefined;
      if (next.total !== undefined) {
        bar.max = next.total || 1;
        bar.value = next.progress ?? 0;
      } else {
        bar.removeAttribute("value");
      }
      if (next.status === "running") return;
      setText(time, duration(next.durationMs ?? NaN));
      output.replaceChildren();
      if (next.errorType) output.append(el("p.error-type", {}, next.errorType));
      if (next.result !== undefined) output.append(el("h4", {}, "Result"), el("pre.result", { tabindex: 0 }, prettyJson(next.result)));
    },
    over: (why) => {
      if (shown.status !== "running") return;
      setAttribute(details, "data-status", "open");
      setText(badge, why);
      setText(time, "");
      bar.hidden = true;
    },
    tick: (now) => {
      if (shown.status === "running") setText(time, duration(Math.max(0, now - Date.parse(shown.startedAt))));
    },
  };
}

function stepDrawing({ name }: Step): Drawing<Step> {
  const element = el("p.step", {}, name);
  return { element, update: ({ done }) => setAttribute(element, "data-done", done) };
}

// --- What does not change ---

/** A failure, or what the system does about one: what happened, what to do, when it is over. */
export function failureNote({ event }: Failure): HTMLElement {
  const facts: string[] = [];
  if (event.type === "recovery_attempt") facts.push(`Attempt ${event.attempt} of ${event.max_attempts}`);
  const tone = toneOf(event);
  if (event.type === "circuit_breaker_triggered") facts.push(`Try again after ${after(event, event.retry_after_seconds)}`);
  else if (tone !== "good" && event.retry_possible) facts.push("You can try again");
  if (tone !== "good" && event.is_recoverable) facts.push("This usually mends itself");
  facts.push(...expectedBack(event));
  return el(
    "div.failure",
    { "data-type": event.type, "data-tone": tone },
    el("p.user-message", {}, event.user_message || event.message || event.type),
    event.suggested_action !== "" && el("p.suggested-action", {}, event.suggested_action),
    facts.length > 0 && el("p.facts", {}, `${facts.join(" · ")}`),
    event.type === "partial_result_preserved" && folded("What was saved", prettyJson(event.result), "partial"),
    folded("error_type" in event ? event.error_type : event.type.replaceAll("_", " "), detailsOf(event), "details"),
  );
}

/** The same in a line, for as long as it lasts. */
export function failureLine({ event }: Failure): HTMLElement {
  return el(
    "p.failure-line",
    { "data-type": event.type },
    el("strong.user-message", {}, event.user_message),
    event.suggested_action !== "" && el("span.suggested-action", {}, event.suggested_action),
    ...expectedBack(event).map((text) => el("span.facts", {}, text)),
  );
}

function expectedBack(event: Failure["event"]): string[] {
  const { estimated_recovery_time: seconds } = event;
  return typeof seconds === "number" && toneOf(event) !== "good" ? [`Expected back at about ${after(event, seconds)}`] : [];
}

// Counted from when it happened, not from when it is read.
function after({ timestamp }: Failure["event"], seconds: number): string {
  return moment(Date.parse(timestamp) + seconds * 1000);
}

function toneOf(event: Failure["event"]): string {
  switch (event.type) {
    case "agent_error":
    case "circuit_breaker_triggered":
      return "bad";
    case "resource_cleanup":
      return event.status === "failed" ? "bad" : "good";
    case "system_recovered":
    case "partial_result_preserved":
      return "good";
    default:
      return "calm";
  }
}

function missedNote({ fromOffset, toOffset, reason }: Missed): HTMLElement {
  const why = REASONS[reason] ?? "no reason was given";
  const what = fromOffset === toOffset ? `Update ${fromOffset} is missing` : `Updates ${fromOffset} to ${toOffset} are missing`;
  return el("p.missed", { "data-from": fromOffset, "data-to": toOffset, "data-reason": reason }, `${what}: ${why}.`);
}

function otherNote({ event }: Other): HTMLElement {
  const custom = event.type === "custom";
  return folded(custom ? event.name : event.type, prettyJson(custom ? event.value : event), "other");
}

function folded(title: string, text: string, name: string): HTMLElement {
  return el("details.folded", { "data-name": name }, el("summary", {}, title), el("pre", { tabindex: 0 }, text));
}

// A failure's own fields, without what every event carries.
function detailsOf(event: Failure["event"]): string {
  const hidden = new Set([
    "offset", "first_offset", "type", "event_id", "thread_id", "run_id", "user_id", "agent_name", "timestamp",
    "accepted_at", "traceparent", "tracestate", "user_message", "suggested_action", "result",
  ]);
  return prettyJson(Object.fromEntries(Object.entries(event).filter(([key]) => !hidden.has(key))));
}
