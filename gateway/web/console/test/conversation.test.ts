// @vitest-environment jsdom
// A thread as a conversation.

import type { Run, RunItem, ThreadState } from "clarion-client";
import { emptyThread } from "clarion-client";
import { beforeEach, describe, expect, it } from "vitest";

import { Conversation } from "../src/conversation.js";

let root: HTMLElement;
let conversation: Conversation;

beforeEach(() => {
  root = document.createElement("div");
  conversation = new Conversation(root);
});

function run(runId: string, more: Partial<Run> = {}): Run {
  return {
    kind: "run", runId, agentName: runId, state: "running", whole: true, startedAt: "2026-01-01T00:00:00Z", firstOffset: 1,
    lastOffset: 1, items: [], usage: [], interrupts: [], ...more,
  };
}

function draw(...runs: Run[]): void {
  const state: ThreadState = { ...emptyThread("t"), blocks: runs, runs };
  conversation.draw(state);
}

const within = (element: Element): string[] => [...element.querySelectorAll<HTMLElement>(".run")].map((one) => one.dataset["runId"]!);
const top = () => [...root.children].map((one) => (one as HTMLElement).dataset["runId"]);

describe("what a run did", () => {
  it("stays as it is, details open, when what came before is loaded", () => {
    const tool = (toolCallId: string): RunItem => ({ kind: "tool", runId: "a", toolCallId, name: toolCallId, status: "running", startedAt: "2026-01-01T00:00:00Z" });
    const [later, latest] = [tool("later"), tool("latest")];
    draw(run("a", { items: [later, latest] }));
    const details = root.querySelector("details")!;
    details.open = true;
    draw(run("a", { items: [tool("early"), { ...later }, latest] })); // all of it was made anew
    expect([...root.querySelectorAll<HTMLElement>(".tool")].map((one) => one.dataset["toolCallId"])).toEqual(["early", "later", "latest"]);
    expect([root.contains(details), details.open]).toEqual([true, true]);
  });
});

describe("a call", () => {
  const tool: RunItem = { kind: "tool", runId: "a", toolCallId: "c", name: "look", status: "running", startedAt: "2026-01-01T00:00:00Z" };
  const badge = () => root.querySelector(".tool .badge")!.textContent;

  it("without an end has no result when its run is over, whichever came first", () => {
    draw(run("a", { items: [tool] }));
    expect(badge()).toBe("running");
    draw(run("a", { items: [tool], state: "interrupted" }));
    expect(badge()).toBe("waiting");
    draw(run("a", { items: [tool], state: "error" }));
    expect([badge(), root.querySelector(".tool .elapsed")!.textContent]).toEqual(["no result", ""]);
    draw(run("a", { items: [{ ...tool, message: "3 of 8" }], state: "error" }));
    expect(badge()).toBe("no result");
    draw(run("a", { items: [{ ...tool, status: "succeeded" }], state: "error" }));
    expect(badge()).toBe("succeeded");
  });

  it("shows arguments only if they are here", () => {
    const shown = () => root.querySelector<HTMLElement>(".arguments")!.closest("[hidden]") === null;
    draw(run("a", { items: [tool] }));
    expect(shown()).toBe(false);
    draw(run("a", { items: [{ ...tool, arguments: {} }] }));
    expect(shown()).toBe(true);
  });
});

describe("runs", () => {
  it("that others called stand inside those", () => {
    draw(run("a"), run("b", { parentRunId: "a" }), run("c", { parentRunId: "b" }), run("d"));
    expect([top(), within(root)]).toEqual([["a", "d"], ["a", "b", "c", "d"]]);
  });

  it("move into the run that called them when that is loaded later", () => {
    const child = run("b", { parentRunId: "a" });
    draw(child, run("c"));
    expect(top()).toEqual(["b", "c"]);
    draw(run("a"), child, run("c"));
    expect([top(), within(root.firstElementChild!)]).toEqual([["a", "c"], ["b"]]);
  });

  it("that name each other as parents stand beside each other", () => {
    draw(run("a", { parentRunId: "b" }), run("b", { parentRunId: "a" }), run("c", { parentRunId: "c" }));
    draw(run("a", { parentRunId: "b" }), run("b", { parentRunId: "a" }), run("c", { parentRunId: "c" }));
    expect(top()).toEqual(["a", "b", "c"]);
  });

  it("that are gone are taken away", () => {
    draw(run("a"), run("b"));
    draw(run("b"));
    expect(top()).toEqual(["b"]);
  });
});
