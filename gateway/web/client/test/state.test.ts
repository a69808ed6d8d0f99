// What events make of a thread.

import { describe, expect, it } from "vitest";

import { StateFold } from "../src/state.js";
import type { ClarionEvent, MissedRangeFrame } from "../src/wire.js";
import { delta, event, missed, rolledBack, subscribed } from "./world.js";

function fold(...events: ClarionEvent[]): StateFold {
  const state = new StateFold("t");
  state.subscribed(subscribed());
  for (const one of events) state.event(one);
  return state;
}

const lost = (frame: object) => frame as MissedRangeFrame;
const started = (offset: number, more: object = {}) => event(offset, { type: "agent_started", ...more });
const failure = { message: "m", user_message: "Sorry.", suggested_action: "Wait.", is_recoverable: true, retry_possible: true, estimated_recovery_time: 5 };

describe("a run", () => {
  it("has its text, tools and end", () => {
    const state = fold(
      started(1, { input: { question: "q" } }),
      delta(2, "Hel"),
      event(3, { type: "tool_executing", tool_call_id: "c", tool_name: "grep", arguments: { a: 1 } }),
      event(4, { type: "tool_progress", tool_call_id: "c", progress: 1, total: 4, message: "looking" }),
      delta(5, "lo", { is_final: true }),
      event(6, { type: "tool_completed", tool_call_id: "c", tool_name: "grep", status: "failed", error_type: "internal", duration_ms: 3 }),
      event(7, { type: "agent_completed", outcome: "incomplete", usage: [{ provider: "p", model: "m", input_tokens: 1, output_tokens: 2 }] }),
    ).snapshot();
    expect(state.runs).toHaveLength(1);
    expect(state.runs[0]).toMatchObject({ state: "incomplete", whole: true, input: { question: "q" }, firstOffset: 1, lastOffset: 7, usage: [{ output_tokens: 2 }] });
    expect(state.runs[0]!.items.map(({ kind }) => kind)).toEqual(["message", "tool"]);
    expect(state.messages).toMatchObject([{ text: "Hello", final: true, role: "assistant", runId: "r" }]);
    expect(state.tools[0]).not.toHaveProperty("message"); // the progress is over
    expect(state.tools).toMatchObject([{ name: "grep", status: "failed", arguments: { a: 1 }, progress: 1, total: 4, errorType: "internal", durationMs: 3 }]);
  });

  it("knows who called it, and what it tries again", () => {
    const state = fold(started(1), started(2, { run_id: "s", parent_run_id: "r", parent_tool_call_id: "c", retry_of_run_id: "q" })).snapshot();
    expect(state.runs[1]).toMatchObject({ runId: "s", parentRunId: "r", parentToolCallId: "c", retryOfRunId: "q", state: "running" });
  });

  it("that began before what is here is not whole", () => {
    expect(fold(delta(1, "x")).snapshot().runs[0]!.whole).toBe(false);
  });

  it("has steps that begin and end, also twice under one name", () => {
    const step = (offset: number, type: string) => event(offset, { type, step_name: "plan" });
    const state = fold(step(1, "step_started"), step(2, "step_completed"), step(3, "step_started")).snapshot();
    expect(state.runs[0]!.items).toMatchObject([{ kind: "step", done: true }, { kind: "step", done: false }]);
  });

  it("that failed says so", () => {
    const state = fold(started(1), event(2, { type: "agent_error", error_type: "llm_timeout", synthetic: false, ...failure })).snapshot();
    expect(state.runs[0]).toMatchObject({ state: "error" });
    expect(state.errors).toMatchObject([{ runId: "r", event: { user_message: "Sorry.", error_type: "llm_timeout" } }]);
  });

  describe("goes without something", () => {
    const without = (offset: number, capability: string) => event(offset, { type: "graceful_degradation", capability, level: "off", ...failure });
    const back = (offset: number, recovered: string[]) => event(offset, { type: "system_recovered", recovered, downtime_seconds: 1, ...failure });
    const missing = (state: StateFold) => state.snapshot().degradations.map(({ event: { type }, event: e }) => (type === "graceful_degradation" && "capability" in e ? e.capability : ""));

    it("until that is back, or it ends", () => {
      const state = fold(started(1), without(2, "search"), without(3, "memory"));
      expect(missing(state)).toEqual(["search", "memory"]);
      state.event(back(4, ["search"]));
      expect(missing(state)).toEqual(["memory"]);
      state.event(event(5, { type: "agent_completed", outcome: "success" }));
      expect(missing(state)).toEqual([]);
    });

    it("until everything is back", () => {
      expect(missing(fold(started(1), without(2, "search"), without(3, "memory"), back(4, [])))).toEqual([]);
    });

    it("again, though it was back before", () => {
      expect(missing(fold(started(1), without(2, "search"), back(3, ["search"]), without(4, "search")))).toEqual(["search"]);
    });
  });

  it("keeps events of types that nobody here knows", () => {
    const state = fold(event(1, { type: "weather_changed" })).snapshot();
    expect(state.runs[0]!.items).toMatchObject([{ kind: "other", event: { type: "weather_changed" } }]);
  });

  it("whose end was missed does not run for ever", () => {
    const state = new StateFold("t");
    state.subscribed(subscribed({ last_offset: 5, active_runs: [] }));
    state.event(started(1));
    state.missed(lost(missed(2, 5)));
    state.caughtUp();
    expect(state.snapshot().runs[0]!.state).toBe("ended");
    state.event(started(6, { run_id: "s" }));
    state.caughtUp();
    expect(state.snapshot().runs[1]!.state).toBe("running");
  });
});

describe("a thread", () => {
  it("draws deltas together, as the service would", () => {
    const state = fold(
      delta(1, "a"),
      delta(2, "b"),
      delta(3, "c", { message_id: "n" }),
      delta(4, "d", { message_id: "n", is_final: true }),
      delta(5, "e", { message_id: "n" }),
      delta(6, "f", { message_id: "n", role: "user" }),
      delta(7, "g", { message_id: "n", role: "user", run_id: "s" }),
    );
    expect(state.events().map((one) => [one.first_offset ?? one.offset, one.offset])).toEqual([[1, 2], [3, 4], [5, 5], [6, 6], [7, 7]]);
  });

  it("has its end rolled back, and says so", () => {
    const state = fold(delta(1, "kept"), delta(2, "lost", { message_id: "n" }), delta(3, "too", { message_id: "n" }));
    state.subscribed(subscribed({ epoch: "f", from_offset: 2, missed: true }));
    state.missed(lost(rolledBack(1, 3)));
    state.event(delta(2, "again", { message_id: "o" }));
    const { runs, messages, position } = state.snapshot();
    expect(runs[0]!.items.map(({ kind }) => kind)).toEqual(["message", "missed", "message"]);
    expect(messages.map(({ text }) => text)).toEqual(["kept", "again"]);
    expect(position).toEqual({ epoch: "f", offset: 2 });
    expect(state.last).toBe(2);
  });

  it("gives a message back whole of which the end is rolled back", () => {
    const state = fold(event(1), ...Array.from({ length: 10 }, (_, i) => delta(i + 2, "x")), event(12));
    state.missed(lost(rolledBack(5, 12)));
    expect(state.last).toBe(1); // to be asked for again from there
    expect(state.snapshot().messages).toEqual([]);
  });

  it("keeps what it has when it goes on, and repeats nothing when it begins again", () => {
    const state = fold(event(1), event(2));
    state.subscribed(subscribed({ from_offset: 3 }));
    state.event(event(3));
    expect(state.events().map(({ offset }) => offset)).toEqual([1, 2, 3]);
    state.subscribed(subscribed({ from_offset: 1 }));
    state.event(event(1));
    expect(state.events().map(({ offset }) => offset)).toEqual([1]);
  });

  it("says once what is missing at one place, however often it is subscribed", () => {
    const state = new StateFold("t");
    for (let time = 0; time < 3; time += 1) {
      state.subscribed(subscribed({ from_offset: 5, missed: true }));
      state.missed(lost(missed(1, 4)));
      state.event(event(5));
    }
    expect(state.snapshot().blocks.map(({ kind }) => kind)).toEqual(["missed", "run"]);
    expect(state.snapshot().hasOlder).toBe(false);
  });

  it("says what expired while the page was away, and keeps what it has", () => {
    const state = fold(event(1));
    state.subscribed(subscribed({ from_offset: 5, missed: true }));
    state.missed(lost(missed(2, 4)));
    state.event(event(5));
    expect(state.events().map(({ offset }) => offset)).toEqual([1, 5]);
    expect(state.snapshot().runs[0]!.items).toMatchObject([{ kind: "other" }, { kind: "missed", fromOffset: 2, toOffset: 4 }, { kind: "other" }]);
  });
});

describe("a snapshot", () => {
  it("stays what it was, and shares what did not change", () => {
    const state = fold(started(1, { run_id: "a" }), event(2, { type: "agent_completed", run_id: "a", outcome: "success" }), started(3, { run_id: "b" }));
    const before = state.snapshot();
    expect(state.snapshot()).toBe(before);
    state.event(delta(4, "x", { run_id: "b" }));
    const after = state.snapshot();
    expect(before.messages).toEqual([]);
    expect(after.runs[0]).toBe(before.runs[0]);
    expect(after.runs[1]).not.toBe(before.runs[1]);
    state.event(delta(5, "y", { run_id: "b" }));
    expect(after.messages[0]!.text).toBe("x");
    expect(state.snapshot().messages[0]!.text).toBe("xy");
  });

  it("shares the lists in which nothing changed, and the notes in them", () => {
    const state = new StateFold("t");
    state.subscribed(subscribed({ from_offset: 5, missed: true }));
    state.missed(lost(missed(1, 4)));
    state.event(delta(5, "x"));
    const before = state.snapshot();
    state.event(event(6, { type: "tool_executing", tool_call_id: "c", tool_name: "g", arguments: {} }));
    const after = state.snapshot();
    expect(after.messages).toBe(before.messages);
    expect(after.missed).toBe(before.missed);
    expect(after.blocks[0]).toBe(after.missed[0]);
    expect(after.tools).not.toBe(before.tools);
  });
});
