// @vitest-environment jsdom
// The thread that is shown, on the real page's elements.

import { ClarionError, emptyThread, type Client, type Thread } from "clarion-client";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import page from "../index.html?raw";
import { ThreadView } from "../src/thread_view.js";

const $ = (id: string) => document.getElementById(id)!;

let resized = () => {};
let handlers: Record<string, (value: unknown) => void>;
let thread: { [K in "snapshot" | "older"]: Thread[K] };
let view: ThreadView;

beforeEach(() => {
  vi.useFakeTimers();
  vi.stubGlobal("ResizeObserver", class {
    constructor(callback: () => void) {
      resized = callback;
    }
    observe() {}
  });
  document.body.innerHTML = /<body[^>]*>(.*)<\/body>/s.exec(page)![1]!;
  handlers = {};
  const fake = {
    id: "t",
    snapshot: { ...emptyThread("t"), caughtUp: true },
    shownEvents: Array(200).fill({}),
    on: (name: string, handler: (value: unknown) => void) => {
      handlers[name] = handler;
      return () => {};
    },
    older: vi.fn(() => Promise.resolve(true)),
    close: () => {},
  };
  thread = fake;
  view = new ThreadView({ thread: () => fake } as unknown as Client);
  view.show("t");
});
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

function scrollTo(top: number, height = 1000): void {
  Object.defineProperties($("scroller"), {
    scrollHeight: { value: height, configurable: true },
    clientHeight: { value: 400, configurable: true },
  });
  $("scroller").scrollTop = top;
  $("scroller").dispatchEvent(new Event("scroll"));
}

function hasOlder(value: boolean): void {
  thread.snapshot = { ...thread.snapshot, hasOlder: value };
  handlers["state"]!(thread.snapshot);
}

describe("a thread", () => {
  it("announces the same words again", () => {
    handlers["agent_completed"]!({ agent_name: "a", outcome: "success" });
    const [first] = $("announcer").children;
    handlers["agent_completed"]!({ agent_name: "a", outcome: "success" });
    expect($("announcer").textContent).toBe("a: success");
    expect($("announcer").children[0]).not.toBe(first);
  });

  it("offers its end only to who can go there", () => {
    scrollTo(600);
    scrollTo(100);
    expect($("to-end").hidden).toBe(false);
    scrollTo(0); // filtered since, so that there is nothing to scroll
    Object.defineProperty($("scroller"), "scrollHeight", { value: 400, configurable: true });
    resized();
    expect($("to-end").hidden).toBe(true);
  });

  it("keeps the focus when a button that was pressed goes", () => {
    scrollTo(600);
    scrollTo(100);
    $("to-end").focus();
    $("to-end").click();
    expect([$("to-end").hidden, document.activeElement]).toEqual([true, $("scroller")]);
    hasOlder(true);
    $("older").focus();
    hasOlder(false);
    expect([$("older").hidden, document.activeElement]).toEqual([true, $("scroller")]);
  });

  it("is in use while somebody reads further up, looks at its events, selects or has the focus in it", () => {
    expect(view.inUse).toBe(false);
    scrollTo(600);
    scrollTo(100);
    expect(view.inUse).toBe(true);
    scrollTo(600);
    expect(view.inUse).toBe(false);
    $("show-events").click();
    expect(view.inUse).toBe(true);
    $("show-timeline").click();
    expect(view.inUse).toBe(false);
    $("older").focus();
    expect(view.inUse).toBe(true);
    $("older").blur();
    getSelection()!.selectAllChildren($("thread-waiting"));
    expect(view.inUse).toBe(true);
    getSelection()!.removeAllRanges();
    expect(view.inUse).toBe(false);
  });

  it("whose older events cannot be loaded says so, and tries again by itself and at once", async () => {
    const error = new ClarionError({ code: "GATEWAY_UNAVAILABLE", message: "TypeError: Failed to fetch" });
    vi.mocked(thread.older).mockRejectedValueOnce(error).mockRejectedValueOnce(error);
    hasOlder(true);
    $("older").click();
    await vi.advanceTimersByTimeAsync(0);
    expect($("thread-error").textContent).toBe("Earlier updates could not be loaded. Trying again in a moment.");
    expect([$("thread-error").hidden, $("thread-loading").hidden, $("older").textContent]).toEqual([false, true, "Try now"]);
    $("older").click();
    await vi.advanceTimersByTimeAsync(0);
    expect(thread.older).toHaveBeenCalledTimes(2);
    await vi.advanceTimersByTimeAsync(5_000);
    expect(thread.older).toHaveBeenCalledTimes(3);
    expect([$("thread-error").hidden, $("older").textContent]).toEqual([true, "Show earlier"]);
  });
});
