// The list of threads: what can be said of it.

import type { Client } from "clarion-client";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";

import { Threads } from "../src/threads.js";

const answers: Array<() => Promise<unknown>> = [];
const connection = { state: "CONNECTED" };
const client = { connection, threads: () => answers.shift()!() } as unknown as Client;
const fails = () => Promise.reject(new Error("away"));
const gives = (thread_id: string, nextPageToken?: string) => () =>
  Promise.resolve({ threads: [{ thread_id, last: { offset: 3 }, acknowledged: 1, floor: 1, active_runs: [] }], nextPageToken });

let threads: Threads;

beforeEach(() => {
  vi.useFakeTimers();
  threads = new Threads(client, () => {});
});
afterEach(() => vi.useRealTimers());

describe("the list", () => {
  it("that cannot be loaded is asked for again by itself, until all of it is here", async () => {
    answers.push(fails, gives("a", "more"), fails, gives("a", "more"), gives("b"));
    await threads.load();
    expect(threads.state).toBe("failed");
    await vi.advanceTimersByTimeAsync(5_000);
    expect([threads.state, threads.byId.size]).toEqual(["failed", 1]);
    await vi.advanceTimersByTimeAsync(5_000);
    expect([threads.state, threads.byId.size, answers.length]).toEqual(["loaded", 2, 0]);
  });

  it("is not asked for twice at once, nor after somebody left", async () => {
    answers.push(fails, gives("a"));
    await Promise.all([threads.load(), threads.load()]);
    expect(answers.length).toBe(1);
    threads.clear();
    await vi.advanceTimersByTimeAsync(10_000);
    expect([threads.state, answers.splice(0).length]).toEqual(["missing", 1]);
  });

  it("has failed while there is no connection, until it was loaded", async () => {
    threads.unreachable();
    expect(threads.state).toBe("failed");
    answers.push(gives("a"));
    await threads.load();
    threads.unreachable();
    expect(threads.state).toBe("loaded");
  });
});
