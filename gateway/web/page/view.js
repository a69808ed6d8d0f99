// Draws one thread's timeline. Only what changed is touched, so that streaming text, open details and
// the reader's selection stay as they are.

import { clock, compactJson, duration, el, growText, prettyJson, setAttribute, setText } from "./dom.js";
import { prose } from "./prose.js";
import { titleOf } from "./threads.js";

const REASONS = {
  expired: "they were kept no longer",
  deleted: "they were deleted",
  log_rolled_back: "the server lost them in a crash",
};

const STATE_WORDS = {
  running: "running",
  success: "finished",
  interrupted: "waiting for an answer",
  cancelled: "cancelled",
  incomplete: "ended early",
  error: "failed",
  ended: "ended",
};

export class TimelineView {
  constructor(root) {
    this.root = root;
    this.generation = -1;
    this.blocks = new Map(); // run or note -> its drawing
  }

  clear() {
    this.root.replaceChildren();
    this.blocks.clear();
    this.generation = -1;
  }

  draw(timeline, changes) {
    if (changes.generation !== this.generation) {
      this.clear();
      this.generation = changes.generation;
      for (const block of timeline.blocks) this.#draw(timeline, block, true);
      return;
    }
    for (const block of changes.blocks) this.#draw(timeline, block, false);
  }

  // Moves the clocks of what is running.
  tick(now) {
    for (const drawing of this.blocks.values()) drawing.tick?.(now);
  }

  #draw(timeline, block, all) {
    let drawing = this.blocks.get(block);
    if (!drawing) {
      drawing = block.kind === "run" ? new RunDrawing(timeline, block) : { element: missedNote(block) };
      this.blocks.set(block, drawing);
      this.root.append(drawing.element);
    }
    drawing.update?.(all);
  }
}

class RunDrawing {
  constructor(timeline, run) {
    this.run = run;
    this.items = new Map();
    this.badge = el("span.badge");
    this.elapsed = el("span.elapsed");
    this.question = el("blockquote.question", { hidden: true });
    this.origin = el("p.origin", { hidden: true });
    this.list = el("ol.items");
    this.outcome = el("div.outcome");
    this.parent = () => timeline.runs.get(run.parentRunId)?.agent;
    this.element = el("article.run", { "data-run-id": run.runId, "aria-label": `Run of ${run.agent}` },
      el("header", {},
        el("span.agent", {}, run.agent ?? "agent"),
        this.badge,
        this.elapsed,
        el("time", { datetime: run.startedAt }, clock(run.startedAt))),
      this.origin, this.question, this.list, this.outcome);
  }

  update(all) {
    const { run } = this;
    setAttribute(this.element, "data-state", run.state);
    setText(this.badge, STATE_WORDS[run.state] ?? run.state);
    this.tick(Date.now());
    this.#origin();
    this.#question();
    for (const item of all ? run.items : run.dirtyItems) this.#item(item);
    run.dirtyItems.clear();
    this.#outcome();
  }

  tick(now) {
    const { run } = this;
    const end = run.endedAt ? Date.parse(run.endedAt) : now;
    setText(this.elapsed, duration(Math.max(0, end - Date.parse(run.startedAt))));
    for (const drawing of this.items.values()) drawing.tick?.(now);
  }

  #origin() {
    const { run } = this;
    let text = "";
    if (run.parentRunId) text = `Called by ${this.parent() ?? run.parentRunId}`;
    else if (run.retryOfRunId) text = `Another try at ${run.retryOfRunId}`;
    else if (!run.whole) text = "The beginning of this run is no longer available.";
    this.origin.hidden = text === "";
    setText(this.origin, text);
    setAttribute(this.element, "data-nested", Boolean(run.parentRunId));
  }

  #question() {
    const { run } = this;
    if (run.input === undefined) return;
    this.question.hidden = false;
    setText(this.question, titleOf(run.input) || compactJson(run.input));
  }

  #item(item) {
    let drawing = this.items.get(item);
    if (!drawing) {
      drawing = DRAWINGS[item.kind](item);
      this.items.set(item, drawing);
      drawing.element = el("li.item", { "data-kind": item.kind }, ...[drawing.body].flat());
      this.list.append(drawing.element);
    }
    drawing.update?.(item, drawing.element);
  }

  #outcome() {
    const { run } = this;
    if (this.drawnOutcome || run.state === "running") return;
    this.drawnOutcome = true;
    if (run.result !== undefined) this.outcome.append(folded("Result", prettyJson(run.result), "result"));
    for (const use of run.usage ?? []) {
      this.outcome.append(el("p.usage", {},
        `${use.provider} ${use.model}: ${use.input_tokens ?? 0} tokens read, ${use.output_tokens ?? 0} written`));
    }
  }
}

// --- One drawing for each kind of item: {body, update(item, li), tick?(now)} ---

const DRAWINGS = {
  message(item) {
    const body = el("div.message", { "data-message-id": item.messageId, "data-role": item.role });
    return {
      body,
      update() {
        body.replaceChildren(...prose(item.text));
        setAttribute(body, "data-final", item.final);
      },
    };
  },

  thinking(item) {
    const text = el("p.thought");
    const peek = el("span.peek");
    const body = el("details.thinking", { "data-message-id": item.messageId },
      el("summary", {}, el("span.label", {}, "Thinking"), peek), text);
    return {
      body,
      update() {
        growText(text, item.text);
        setText(peek, lastLine(item.text));
        setAttribute(body, "data-final", item.final);
      },
    };
  },

  tool(item) {
    const badge = el("span.badge");
    const time = el("span.elapsed");
    const message = el("p.tool-message", { hidden: true });
    const bar = el("progress", { hidden: true });
    const input = el("pre.arguments", { tabindex: 0 });
    const output = el("div.tool-result");
    const body = el("details.tool", { "data-tool-call-id": item.callId },
      el("summary", {},
        el("span.tool-name", {}, item.name),
        el("code.brief", {}, ""),
        badge, time),
      el("h4", {}, "Arguments"), input, output);
    const brief = body.querySelector(".brief");
    const showMessage = () => {
      const text = item.message ?? "";
      message.hidden = text === "";
      setText(message, text);
    };
    return {
      body: [body, bar, message],
      update() {
        setAttribute(body, "data-status", item.status);
        setText(badge, item.status);
        setText(brief, briefly(item.arguments));
        setText(input, prettyJson(item.arguments));
        showMessage();
        bar.hidden = item.status !== "running" || item.progress === undefined;
        if (item.total !== undefined) {
          bar.max = item.total || 1;
          bar.value = item.progress;
        } else {
          bar.removeAttribute("value");
        }
        if (item.status === "running") return;
        output.replaceChildren();
        if (item.errorType) output.append(el("p.error-type", {}, item.errorType));
        if (item.result !== undefined) {
          output.append(el("h4", {}, "Result"), el("pre.result", { tabindex: 0 }, prettyJson(item.result)));
        }
        setText(time, duration(item.durationMs));
      },
      tick(now) {
        if (item.status === "running") setText(time, duration(Math.max(0, now - Date.parse(item.startedAt))));
      },
    };
  },

  step(item) {
    const body = el("p.step", {}, item.name);
    return { body, update: () => setAttribute(body, "data-done", item.done) };
  },

  failure({ event }) {
    const facts = [];
    if (event.retry_possible) facts.push("You can try again");
    if (event.is_recoverable) facts.push("This usually mends itself");
    if (typeof event.estimated_recovery_time === "number") {
      facts.push(`expected in about ${duration(event.estimated_recovery_time * 1000)}`);
    }
    const tone = event.type === "agent_error" || event.type === "circuit_breaker_triggered" ? "bad" : "calm";
    const body = el("div.failure", { "data-type": event.type, "data-tone": tone },
      el("p.user-message", {}, event.user_message || event.message || event.type),
      event.suggested_action ? el("p.suggested-action", {}, event.suggested_action) : null,
      facts.length > 0 ? el("p.facts", {}, `${facts.join(", ")}.`) : null,
      folded(event.error_type || event.type.replaceAll("_", " "), details(event), "details"));
    return { body };
  },

  interrupt({ interrupt }) {
    return {
      body: el("div.failure", { "data-type": "interrupt", "data-tone": "calm" },
        el("p.user-message", {}, interrupt.message || interrupt.reason)),
    };
  },

  missed(item) {
    return { body: missedNote(item) };
  },

  other({ event }) {
    return { body: folded(event.name || event.type, prettyJson(event.value ?? event), "other") };
  },
};

function folded(title, text, name) {
  return el("details.folded", { "data-name": name },
    el("summary", {}, title), el("pre", { tabindex: 0 }, text));
}

// A failure's own fields, without what every event carries.
function details(event) {
  const hidden = new Set(["offset", "first_offset", "type", "event_id", "thread_id", "run_id", "user_id", "agent_name",
    "timestamp", "accepted_at", "traceparent", "tracestate", "user_message", "suggested_action"]);
  return prettyJson(Object.fromEntries(Object.entries(event).filter(([key]) => !hidden.has(key))));
}

function missedNote(missed) {
  const why = REASONS[missed.reason] ?? missed.reason ?? "no reason was given";
  const from = missed.from_offset ?? 0;
  const to = missed.to_offset ?? 0;
  const what = from === to ? `Update ${from} is missing` : `Updates ${from} to ${to} are missing`;
  return el("p.missed", { "data-from": from, "data-to": to, "data-reason": missed.reason }, `${what}: ${why}.`);
}

function lastLine(text) {
  return text.trimEnd().split("\n").at(-1)?.slice(0, 200) ?? "";
}

// Arguments as a line: {"pattern": "epoch"} as pattern: epoch.
function briefly(args) {
  if (args === undefined) return "";
  if (args === null || typeof args !== "object" || Array.isArray(args)) return compactJson(args);
  return Object.entries(args)
    .map(([key, value]) => `${key}: ${typeof value === "string" ? value : compactJson(value)}`)
    .join("  ");
}
