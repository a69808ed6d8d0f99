// What a browser is to the client: its events, its paints, its timers.

import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { browserEnvironment } from "../src/index.js";

/** What of a browser the client looks at. */
class FakePage {
  readonly window = new EventTarget();
  readonly document = Object.assign(new EventTarget(), { visibilityState: "visible" });
  #frames: (() => void)[] = [];

  constructor() {
    const { window } = this;
    vi.stubGlobal("document", this.document);
    vi.stubGlobal("addEventListener", window.addEventListener.bind(window));
    vi.stubGlobal("removeEventListener", window.removeEventListener.bind(window));
    vi.stubGlobal("requestAnimationFrame", (action: () => void) => this.#frames.push(action));
  }

  says(type: string): void {
    this.window.dispatchEvent(new Event(type));
  }

  documentSays(type: string): void {
    this.document.dispatchEvent(new Event(type));
  }

  becomes(visibilityState: "visible" | "hidden"): void {
    this.document.visibilityState = visibilityState;
    this.documentSays("visibilitychange");
  }

  paint(): void {
    for (const action of this.#frames.splice(0)) action();
  }
}

let page: FakePage;

beforeEach(() => {
  vi.useFakeTimers();
  page = new FakePage();
});

afterEach(() => {
  vi.unstubAllGlobals();
  vi.useRealTimers();
});

describe("a browser's page", () => {
  function watched(): { heard: string[]; end: () => void } {
    const heard: string[] = [];
    const end = browserEnvironment().watch({
      online: () => heard.push("online"),
      offline: () => heard.push("offline"),
      shown: () => heard.push("shown"),
    });
    return { heard, end };
  }

  it("says when the network goes and comes", () => {
    const { heard } = watched();
    page.says("offline");
    page.says("online");
    expect(heard).toEqual(["offline", "online"]);
  });

  it("says when it is looked at, and not when it is left", () => {
    const { heard } = watched();
    page.becomes("hidden");
    expect(heard).toEqual([]);
    page.becomes("visible");
    expect(heard).toEqual(["shown"]);
  });

  it("says when it is thawed, or comes back out of the history", () => {
    const { heard } = watched();
    page.documentSays("resume");
    page.says("pageshow");
    expect(heard).toEqual(["shown", "shown"]);
  });

  it("says nothing more when nobody watches", () => {
    const { heard, end } = watched();
    end();
    for (const type of ["online", "offline", "pageshow"]) page.says(type);
    page.documentSays("resume");
    page.becomes("visible");
    expect(heard).toEqual([]);
  });
});

describe("before a paint", () => {
  it("is done once, when the page is painted", () => {
    const action = vi.fn();
    browserEnvironment().beforePaint(action);
    expect(action).not.toHaveBeenCalled();
    page.paint();
    expect(action).toHaveBeenCalledTimes(1);
    vi.advanceTimersByTime(1_000);
    expect(action).toHaveBeenCalledTimes(1);
  });

  it("is soon, where nothing is painted", () => {
    page.becomes("hidden");
    const action = vi.fn();
    browserEnvironment().beforePaint(action);
    vi.advanceTimersByTime(100);
    page.paint();
    expect(action).toHaveBeenCalledTimes(1);
  });

  it("does not wait for the paint of a page that is hidden meanwhile", () => {
    const action = vi.fn();
    browserEnvironment().beforePaint(action);
    page.becomes("hidden");
    vi.advanceTimersByTime(300);
    expect(action).toHaveBeenCalledTimes(1);
  });
});
