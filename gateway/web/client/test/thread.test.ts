// Threads: what a page gets of them, and in which order.

import { describe, expect, it, vi } from "vitest";

import type { ClarionEvent } from "../src/index.js";
import { Page } from "./page.js";
import { caughtUp, connectedFrame, delta, event, missed, rolledBack, settled, subscribed, World } from "./world.js";

describe("order", () => {
  it("a repeat is left out, and after a gap the thread is asked for again", async () => {
    const page = await Page.follow();
    const { socket } = page;
    socket.say(subscribed({ id: "connect" }), event(1), event(1), event(3));
    expect(page.offsets).toEqual([1]);
    socket.say(event(4), event(5)); // under way when we asked
    expect(socket.count("subscribe")).toBe(1);
    const { id, after } = socket.last("subscribe")!;
    expect(after).toEqual({ epoch: "e", offset: 1 });
    socket.say(subscribed({ id: id!, from_offset: 2 }), event(2), event(3));
    expect(page.offsets).toEqual([1, 2, 3]);
    expect(page.errors.map(({ code }) => code)).toEqual(["GAP"]);
  });

  it("a repeat changes nothing of what the thread looks like", async () => {
    const page = await Page.follow();
    const frames: string[] = [];
    page.client.on("frame", ({ type }) => frames.push(type));
    page.socket.say(subscribed({ id: "connect" }), delta(1, "Hello"), delta(1, "Hello"), delta(2, "."));
    expect(page.thread().state().messages).toMatchObject([{ text: "Hello." }]);
    expect(frames).toEqual(["subscribed", "agent_message_delta", "agent_message_delta"]);
  });

  it("a compacted event continues at its first offset", async () => {
    const page = await Page.follow();
    page.socket.say(subscribed({ id: "connect" }), event(4, { first_offset: 1 }), event(5));
    expect(page.offsets).toEqual([4, 5]);
    expect(page.errors).toEqual([]);
  });

  it("what was missed is passed over, what was rolled back is taken back", async () => {
    const page = await Page.follow();
    page.socket.say(subscribed({ id: "connect", missed: true }), missed(1, 9), event(10));
    page.socket.say(subscribed({ epoch: "f", from_offset: 8, missed: true }), rolledBack(7, 10), event(8), event(9));
    expect(page.offsets).toEqual([10, 8, 9]);
    await page.reconnect();
    expect(page.socket.said[0]).toMatchObject({ subscribe: [{ after: { epoch: "f", offset: 9 } }] });
    expect(page.errors).toEqual([]);
  });

  it("a compacted event of which a part was rolled back goes whole and is asked for again", async () => {
    const page = await Page.follow();
    const { socket } = page;
    const other = (offset: number, first: number) => delta(offset, "x".repeat(offset - first + 1), { first_offset: first, message_id: `m${first}` });
    socket.say(subscribed({ id: "connect" }), other(4, 1), other(9, 5));
    socket.say(subscribed({ epoch: "f", from_offset: 8, missed: true }), rolledBack(7, 9), event(8));
    const { id, after } = socket.last("subscribe")!;
    expect(after).toEqual({ epoch: "f", offset: 4 });
    socket.say(subscribed({ id: id!, epoch: "f", from_offset: 5 }), other(8, 5));
    expect(page.offsets).toEqual([4, 9, 8]);
    expect(page.thread().state().messages.map(({ text }) => text)).toEqual(["xxxx", "xxxx"]);
    // Between two compacted events nothing is lost of either.
    socket.say(subscribed({ epoch: "g", from_offset: 5, missed: true }), rolledBack(4, 8, "g"), event(5));
    expect(socket.count("subscribe")).toBe(1);
    expect(page.errors).toEqual([]);
  });

  it("of compacted events not more than so many are remembered, and none too few", async () => {
    const page = new Page();
    page.client.all();
    const socket = await page.world.connected();
    socket.say(subscribed());
    for (let n = 1; n <= 200; n += 1) socket.say(event(2 * n, { first_offset: 2 * n - 1 }));
    socket.say(subscribed({ epoch: "f", from_offset: 4, missed: true }), rolledBack(3, 400));
    expect(socket.last("subscribe")!.after).toEqual({ epoch: "f", offset: 0 }); // before the event that holds 3
  });

  it("of what was deleted nothing is asked for again when the thread has begun anew", async () => {
    const page = new Page();
    page.client.all();
    const socket = await page.world.connected();
    socket.say(subscribed(), event(4, { first_offset: 1 }), event(9, { first_offset: 5 }));
    socket.say(missed(1, 9, { reason: "deleted" }), subscribed({ epoch: "f" }));
    for (let offset = 1; offset <= 9; offset += 1) socket.say(event(offset));
    socket.say(subscribed({ epoch: "g", from_offset: 8, missed: true }), rolledBack(7, 9, "g"), event(8));
    expect(socket.count("subscribe")).toBe(0);
    expect(page.errors).toEqual([]);
  });

  it("a new epoch goes on where the old one ended", async () => {
    const page = await Page.follow();
    page.socket.say(subscribed({ id: "connect" }), event(1), subscribed({ epoch: "f", from_offset: 2 }), event(2));
    expect(page.offsets).toEqual([1, 2]);
    expect(await page.acked()).toBe(2);
    expect(page.socket.last("ack")!.epoch).toBe("f");
  });

  it("two subscriptions of one thread repeat nothing", async () => {
    const page = await Page.follow();
    page.client.all();
    page.socket.say(subscribed({ id: "connect" }), event(1), event(2));
    page.socket.say(subscribed(), event(1), event(2), event(3));
    expect(page.offsets).toEqual([1, 2, 3]);
    expect(page.errors).toEqual([]);
  });

  it("a thread that is asked for is asked for until it is answered", async () => {
    const page = new Page();
    page.client.all({ ack: "manual" });
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ from_offset: 5 }), event(5));
    page.thread({ from: "start" }).on("event", ({ offset }) => page.offsets.push(offset));
    page.socket.say(event(6)); // of the older subscription
    await page.reconnect();
    expect(page.socket.said[0]).toMatchObject({
      subscribe: [{ all: true, after: [{ thread_id: "t", offset: 6 }] }, { thread_id: "t", from: "start" }],
    });
    page.socket.say(subscribed({ id: "connect" }), event(1));
    expect(page.offsets).toEqual([1]);
    await page.reconnect();
    expect(page.socket.said[0]).toMatchObject({
      subscribe: [{ all: true, after: [{ offset: 1 }] }, { thread_id: "t", after: { epoch: "e", offset: 1 } }],
    });
    expect(page.errors).toEqual([]);
  });

  it("the answer to `connect` is not taken for that of another subscribe", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    client.thread("t").on("event", () => {});
    const socket = await world.socket();
    socket.open();
    client.thread("t").close();
    const seen: number[] = [];
    client.thread("t", { from: "start" }).on("event", ({ offset }) => seen.push(offset));
    socket.say(connectedFrame());
    const { id } = socket.last("subscribe")!;
    socket.say(subscribed({ id: "connect", from_offset: 3 }), event(3), { type: "unsubscribed", thread_id: "t" });
    socket.say(subscribed({ id: id! }), event(1), event(2), event(3), event(4));
    expect(seen).toEqual([1, 2, 3, 4]);
  });

  it("handlers hear no delta twice when the end of a long message is rolled back", async () => {
    const world = new World();
    const thread = world.client({ transports: ["websocket"] }).thread("t");
    const seen: number[] = [];
    thread.on("event", ({ offset }) => seen.push(offset));
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }));
    for (let offset = 1; offset <= 1000; offset += 1) socket.say(delta(offset, "x"));
    socket.say(subscribed({ epoch: "f", from_offset: 501, missed: true }), rolledBack(500, 1000));
    const { id, after, history } = socket.last("subscribe")!;
    expect([after, history]).toEqual([{ epoch: "f", offset: 0 }, "full"]);
    seen.length = 0;
    socket.say(subscribed({ id: id!, epoch: "f" }));
    for (let offset = 1; offset <= 502; offset += 1) socket.say(delta(offset, "y"));
    expect(seen).toEqual([501, 502]);
    expect(thread.state().messages[0]!.text).toBe("y".repeat(502));
    await world.advance(200);
    expect(socket.last("ack")).toMatchObject({ epoch: "f", offset: 502 });
  });

  it("events drawn together that overlap what is here are asked for again from there", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    client.thread("t").on("event", () => {});
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), delta(1, "a"), delta(2, "b"), delta(3, "bc", { first_offset: 2 }));
    const { id, after } = socket.last("subscribe")!;
    expect(after).toEqual({ epoch: "e", offset: 2 });
    socket.say(subscribed({ id: id!, from_offset: 3 }), delta(3, "c"));
    expect(client.thread("t").state().messages[0]!.text).toBe("abc");
  });

  it("a thread that was empty is not begun with what is unfinished after a reconnection", async () => {
    const page = await Page.follow();
    page.socket.say(subscribed({ id: "connect", epoch: "", from_offset: 1 }), caughtUp(0));
    // Away; a run of 4 events comes, ends, and is acknowledged by the user's other device.
    await page.reconnect();
    const [{ after, from }] = page.socket.last("connect")!.subscribe as any[];
    // What the service answers to neither `after` nor `from`: it begins at what is not acknowledged.
    const next = after ?? from === "start" ? 1 : 5;
    page.socket.say(subscribed({ id: "connect", from_offset: next, last_offset: 4 }));
    for (let offset = next; offset <= 4; offset += 1) page.socket.say(event(offset));
    page.socket.say(caughtUp(4));
    expect(page.offsets).toEqual([1, 2, 3, 4]);
  });
});

describe("coming and going", () => {
  it("the same handler may be added twice, and is taken away one by one", async () => {
    const page = new Page();
    const handler = ({ offset }: ClarionEvent) => page.offsets.push(offset);
    page.thread().on("event", handler);
    const off = page.thread().on("event", handler);
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ id: "connect" }), event(1));
    off();
    page.socket.say(event(2));
    expect(page.offsets).toEqual([1, 1, 2]);
  });

  it("a handler that is taken away and one that comes soon are one following", async () => {
    const page = new Page();
    const off = page.thread().on("event", () => {});
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ id: "connect" }), event(1));
    off();
    off(); // once is enough
    page.thread().on("event", ({ offset }) => page.offsets.push(offset));
    await page.world.advance(5_000);
    page.socket.say(event(2));
    expect(page.offsets).toEqual([2]);
    expect([page.socket.count("unsubscribe"), page.socket.count("subscribe")]).toEqual([0, 0]);
  });

  it("a thread that is followed again goes on where it was", async () => {
    const page = new Page();
    const off = page.thread().on("event", () => {});
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ id: "connect" }), event(1));
    off();
    await page.world.advance(1_000);
    expect(page.socket.count("unsubscribe")).toBe(1);
    page.thread().on("event", ({ offset }) => page.offsets.push(offset));
    expect(page.socket.last("subscribe")).toMatchObject({ thread_id: "t", after: { epoch: "e", offset: 1 } });
    page.socket.say(subscribed({ id: page.socket.last("subscribe")!.id!, from_offset: 2 }), event(2));
    expect(page.offsets).toEqual([2]);
    expect(page.thread().events().map(({ offset }) => offset)).toEqual([1, 2]);
  });

  it("what comes between two handlers is given to the second, and not acknowledged before", async () => {
    const page = new Page();
    const off = page.thread().on("event", () => {});
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ id: "connect" }), event(1));
    off();
    page.socket.say(event(2), event(3));
    page.thread().on("event", ({ offset }) => page.offsets.push(offset));
    const { id, after } = page.socket.last("subscribe")!;
    expect(after).toEqual({ epoch: "e", offset: 1 });
    page.socket.say(event(4)); // under way
    expect(await page.acked()).toBe(1);
    page.socket.say(subscribed({ id: id!, from_offset: 2 }), event(2), event(3), event(4));
    expect(page.offsets).toEqual([2, 3, 4]);
    expect(await page.acked()).toBe(4);
  });

  it("close() forgets: the next one begins as the first did", async () => {
    const page = await Page.follow();
    page.socket.say(subscribed({ id: "connect" }), event(1));
    page.thread().close();
    expect(page.socket.count("unsubscribe")).toBe(1);
    expect(page.socket.last("ack")).toMatchObject({ offset: 1 });
    page.thread({ from: "start" }).on("event", () => {});
    expect(page.socket.last("subscribe")).toMatchObject({ thread_id: "t", from: "start" });
  });

  it("a thread that was closed takes nothing from the next one of its name", async () => {
    const page = new Page();
    const off = page.thread().on("event", () => {});
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ id: "connect" }), event(1));
    page.thread().close();
    page.thread().on("event", ({ offset }) => page.offsets.push(offset));
    page.socket.say(subscribed({ id: page.socket.last("subscribe")!.id! }));
    off();
    await page.world.advance(5_000);
    page.socket.say(event(1));
    expect(page.offsets).toEqual([1]);
    expect(page.socket.count("unsubscribe")).toBe(1);
  });

  it("what was done while a thread is asked for again is acknowledged", async () => {
    const page = new Page();
    let finish = () => {};
    page.thread().on("event", () => new Promise<void>((resolve) => (finish = resolve)));
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ id: "connect" }), event(1), event(3));
    finish();
    await settled();
    page.socket.say(subscribed({ id: page.socket.last("subscribe")!.id!, from_offset: 2 }), caughtUp(1));
    expect(await page.acked()).toBe(1);
  });

  it("a page that kept its own state goes on after it", async () => {
    const page = await Page.follow({ after: { epoch: "e", offset: 7 } });
    expect(page.socket.said[0]).toMatchObject({ subscribe: [{ thread_id: "t", after: { epoch: "e", offset: 7 } }] });
    page.socket.say(subscribed({ id: "connect", from_offset: 8 }), event(8));
    expect(page.offsets).toEqual([8]);
  });

  it("what cannot be followed says so; what may come back is asked for again", async () => {
    const page = await Page.follow();
    const errors = vi.fn();
    page.thread().on("error", errors);
    page.socket.say({ type: "error", thread_id: "t", code: "LOG_UNAVAILABLE", retry_after_ms: 2_000 });
    expect(errors).toHaveBeenCalledExactlyOnceWith(expect.objectContaining({ code: "LOG_UNAVAILABLE", retryAfterMs: 2_000 }));
    errors.mockClear();
    expect(page.errors).toMatchObject([{ code: "LOG_UNAVAILABLE", retryAfterMs: 2_000 }]);
    await page.world.advance(2_000);
    expect(page.socket.last("subscribe")).toMatchObject({ thread_id: "t" });
    page.socket.say({ type: "error", thread_id: "t", code: "RATE_LIMITED", user_message: "Too many." });
    expect(errors).toHaveBeenCalledExactlyOnceWith(expect.objectContaining({ code: "RATE_LIMITED", userMessage: "Too many." }));
    expect(page.thread().snapshot.error).toMatchObject({ code: "RATE_LIMITED" });
    await page.reconnect();
    expect(page.socket.said[0]).toMatchObject({ subscribe: [] });
  });

  it("threads beyond what a connection may follow say so, and are asked for again a few at a time", async () => {
    const { world, client } = new Page();
    world.chance = 0.5;
    const threads = Array.from({ length: 50 }, (_, n) => client.thread(`t${n}`));
    for (const thread of threads) thread.on("event", () => {});
    const socket = await world.connected();
    const refuse = (thread_id: string) => socket.say({ type: "error", thread_id, code: "RATE_LIMITED", retry_after_ms: 1_000 });
    for (const { id } of threads) refuse(id);
    expect(threads[49]!.snapshot.error).toMatchObject({ code: "RATE_LIMITED" });
    const requests = () => socket.said.filter((frame) => frame.type === "subscribe");
    const asked = () => requests().map(({ thread_id }) => thread_id!);
    let answered = 0;
    const pauses: number[] = [];
    for (let second = 0, before = 0; second < 120; second += 1) {
      await world.advance(1_000);
      socket.say({ type: "ping" });
      const again = asked().slice(answered);
      answered += again.length;
      expect(again.length).toBeLessThanOrEqual(16);
      if (again.length > 0) pauses.push(second - before), (before = second);
      again.forEach(refuse);
    }
    expect(new Set(asked()).size).toBe(50);
    expect(pauses.length).toBeLessThan(60); // they grow
    // As soon as there may be room.
    socket.say({ type: "unsubscribed", thread_id: "elsewhere" });
    await world.advance(0);
    const next = asked().slice(answered);
    expect(next.length).toBe(16);
    const { id } = requests().filter(({ thread_id }) => thread_id === next[0]).pop()!;
    socket.say(subscribed({ thread_id: next[0]!, id: id! }));
    expect(client.thread(next[0]!).snapshot).toMatchObject({ error: null, position: { offset: 0 } });
  });

  it("a thread that goes on too fast for the service says so, and is asked for again where it was", async () => {
    const page = await Page.follow();
    const { socket } = page;
    socket.say(subscribed({ id: "connect" }), event(1), { type: "error", thread_id: "t", code: "RATE_LIMITED", retry_after_ms: 2_000 });
    expect(page.errors).toMatchObject([{ code: "RATE_LIMITED", retryAfterMs: 2_000 }]);
    for (let half = 0; half < 20; half += 1) {
      await page.world.advance(30_000);
      socket.say({ type: "ping" });
    }
    expect(page.world.state.state).toBe("CONNECTED");
    const { id, after } = socket.last("subscribe")!;
    expect(after).toEqual({ epoch: "e", offset: 1 });
    socket.say(subscribed({ id: id!, from_offset: 2 }), event(2));
    expect(page.offsets).toEqual([1, 2]);
  });

  it("a thread that was taken from the user and comes back begins anew", async () => {
    const page = await Page.follow();
    page.socket.say(subscribed({ id: "connect" }), event(1));
    page.socket.say(subscribed({ claim: true, epoch: "", from_offset: 0 }));
    expect(page.thread().state()).toMatchObject({ claim: true, runs: [] });
    page.socket.say(subscribed(), event(1), event(2));
    expect(page.offsets).toEqual([1, 1, 2]);
    expect(page.thread().events().map(({ offset }) => offset)).toEqual([1, 2]);
    expect(page.errors).toEqual([]);
  });

  it("a thread that is not the user's waits until it is", async () => {
    const page = await Page.follow();
    page.socket.say(subscribed({ id: "connect", claim: true, epoch: "", from_offset: 0 }));
    expect(page.thread().state()).toMatchObject({ claim: true, position: null });
    page.socket.say(subscribed(), event(1));
    expect(page.offsets).toEqual([1]);
    expect(page.thread().state()).toMatchObject({ claim: false, position: { epoch: "e", offset: 1 } });
  });

  it("one more handler follows a thread again that has ended", async () => {
    const page = await Page.follow();
    page.socket.say(subscribed({ id: "connect" }), event(1), { type: "error", thread_id: "t", code: "NOT_FOUND", message: "deleted" });
    page.thread().on("custom", () => {});
    expect(page.socket.last("subscribe")).toMatchObject({ thread_id: "t" });
  });

  it("a thread that is deleted is empty, and says why", async () => {
    const page = await Page.follow();
    page.socket.say(subscribed({ id: "connect" }), event(1));
    page.socket.say(missed(1, 1, { reason: "deleted" }), { type: "error", thread_id: "t", code: "NOT_FOUND", message: "deleted" });
    expect(page.thread().snapshot).toMatchObject({ runs: [], position: null, error: { code: "NOT_FOUND" } });
    expect(page.socket.count("subscribe")).toBe(0);
  });

  it("off() of a closed thread's handler does not end the following of its successor", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    const first = client.thread("t");
    const off = first.on("event", () => {});
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), event(1));
    first.close();
    const seen: number[] = [];
    client.thread("t").on("event", ({ offset }) => seen.push(offset));
    off();
    await world.advance(2_000);
    expect(socket.count("unsubscribe")).toBe(1); // that of close()
  });

  it("NOT_FOUND alone takes away what was shown", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    const thread = client.thread("t");
    thread.on("event", () => {});
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), delta(1, "secret"));
    socket.say({ type: "error", thread_id: "t", code: "NOT_FOUND", message: "deleted" });
    expect(thread.snapshot.messages).toEqual([]);
  });

  it("a handler that closes the thread hears no more, and nothing is kept", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    const thread = client.thread("t");
    const seen: number[] = [];
    const off = thread.on("event", ({ offset }) => { seen.push(offset); off(); });
    thread.on("custom", () => { if (seen.length > 1) throw new Error("again"); });
    const socket = await world.connected();
    client.on("event", () => thread.close());
    socket.say(subscribed({ id: "connect" }), event(1));
    expect([seen, thread.events().length]).toEqual([[], 0]);
  });

  it("a thread that was the user's no longer, and is again, goes on by itself", async () => {
    const world = new World();
    const thread = world.client({ transports: ["websocket"] }).thread("t");
    const seen: string[] = [];
    thread.on("event", ({ event_id }) => seen.push(event_id));
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), event(1), { type: "error", thread_id: "t", code: "NOT_FOUND", message: "deleted" });
    socket.say({ type: "bound", thread_id: "t" });
    socket.say(subscribed({ id: socket.last("subscribe")!.id!, epoch: "f" }), event(1, { event_id: "new" }));
    expect(seen).toEqual(["x1", "new"]);
  });

  it("of threads that nobody uses only so many keep their state", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    client.open();
    const socket = await world.connected();
    const threads = Array.from({ length: 40 }, (_, n) => client.thread(`t${n}`));
    for (const thread of threads) {
      const off = thread.on("event", () => {});
      const { id } = socket.last("subscribe")!;
      socket.say(subscribed({ thread_id: thread.id, id: id! }), event(1, { thread_id: thread.id }));
      off();
      await world.advance(1_000);
    }
    const kept = threads.filter((thread) => thread.snapshot.position);
    expect(kept.map(({ id }) => id)).toEqual(threads.slice(8).map(({ id }) => id));
    // One that was forgotten begins as at first, one that was not goes on.
    threads[0]!.on("event", () => {});
    expect(socket.last("subscribe")).toMatchObject({ thread_id: "t0" });
    expect(socket.last("subscribe")!.after).toBeUndefined();
    threads[39]!.on("event", () => {});
    expect(socket.last("subscribe")).toMatchObject({ thread_id: "t39", after: { epoch: "e", offset: 1 } });
  });

  it("a thread is one object, also after close() of the client", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    const thread = client.thread("t");
    thread.on("event", () => {});
    (await world.connected()).say(subscribed({ id: "connect" }), event(1));
    client.close();
    expect(client.thread("t")).toBe(thread);
    const seen: number[] = [];
    thread.on("event", ({ offset }) => seen.push(offset));
    (await world.connected()).say(subscribed({ id: "connect" }), event(1));
    expect(seen).toEqual([1]);
  });

  it("what is no id is refused at once, and costs the others nothing", async () => {
    const page = await Page.follow();
    for (const id of ["", "a b", "ä", "x".repeat(129)]) expect(() => page.client.thread(id)).toThrow(expect.objectContaining({ code: "CONTEXT_INVALID" }));
    expect(page.client.connection.state).toBe("CONNECTED");
  });

  it("an event under way when its thread is closed follows it no more", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    const errors: string[] = [];
    client.on("error", ({ code }) => errors.push(code));
    client.thread("t").on("event", () => {});
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), event(1));
    client.thread("t").close();
    expect(socket.count("unsubscribe")).toBe(1);
    socket.say(event(2)); // was under way
    expect([socket.count("subscribe"), errors]).toEqual([0, []]);
  });

  it("what is under way when nobody uses the thread any more is not asked for again", async () => {
    const page = new Page();
    const off = page.thread().on("event", () => {});
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ id: "connect" }), event(1));
    off();
    await page.world.advance(2_000);
    page.socket.say(event(3), { type: "unsubscribed", thread_id: "t" });
    expect([page.socket.count("subscribe"), page.errors]).toEqual([0, []]);
  });

  it("a handler that another took away is not called", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    let called = 0;
    let off = () => {};
    client.thread("t").on("event", () => off());
    off = client.thread("t").on("event", () => { called += 1; });
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), event(1));
    expect(called).toBe(0);
  });

  it("close() of a thread leaves a hook alive for the next who follows it", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    let changes = 0;
    client.thread("t").reader(() => { changes += 1; }); // useThread in one component
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), event(1));
    await world.paint();
    client.thread("t").close(); // another part of the page
    const before = changes;
    client.thread("t").on("event", () => {}); // and opens it again
    socket.say(subscribed({ id: socket.last("subscribe")!.id! }), event(1), event(2));
    await world.paint();
    expect(changes).toBeGreaterThan(before);
  });

  it("close() of a thread takes nothing from those that rest", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    const offs: (() => void)[] = [];
    for (let i = 0; i < 32; i += 1) offs.push(client.thread(`r${i}`).on("event", () => {}));
    const t = client.thread("t");
    t.on("event", () => {});
    await world.connected();
    for (const off of offs) off();
    await world.advance(2_000);
    expect(client.thread("r0").closed).toBe(false);
    const oldest = client.thread("r0");
    t.close();
    expect(oldest.closed).toBe(false);
  });

  it("a thread that was forgotten and is used again keeps its options", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    const t = client.thread("t", { ack: "manual" });
    t.on("event", () => {})();
    const offs: (() => void)[] = [];
    await world.advance(1_500);
    for (let i = 0; i < 32; i += 1) offs.push(client.thread(`r${i}`).on("event", () => {}));
    for (const off of offs) off();
    await world.advance(1_500);
    t.on("event", () => {});
    client.thread("t");
    expect(t.options.ack).toBe("manual");
  });

  it("a `missed` handler that closes the thread leaves nothing followed", async () => {
    const page = await Page.follow();
    page.socket.say(subscribed({ id: "connect" }), event(1), event(2), event(3));
    page.thread().on("missed", () => page.thread().close());
    page.socket.say(subscribed({ epoch: "f", from_offset: 2, missed: true }), rolledBack(1, 3));
    await settled();
    const said = page.socket.said.filter(({ type }) => type === "subscribe" || type === "unsubscribe").map(({ type }) => type);
    expect(said).toEqual(["unsubscribe"]);
  });
});

describe("older events", () => {
  async function midway(): Promise<Page> {
    const page = await Page.follow();
    page.socket.say(subscribed({ id: "connect", from_offset: 11 }), delta(11, "c"), caughtUp(11));
    return page;
  }

  it("are put in front, and a message goes on over the border", async () => {
    const page = await midway();
    expect(page.thread().state()).toMatchObject({ hasOlder: true, messages: [{ text: "c" }] });
    const more = page.thread().older(2);
    void page.thread().older(2); // under way already
    const request = await page.world.request("/v1/threads/t/events");
    expect(request.url.searchParams.toString()).toBe("before=11&limit=2");
    expect(request.token).toBe("t1");
    await request.answer({ events: [delta(9, "a"), delta(10, "b")], missed: [], last: {}, next: null });
    expect(await more).toBe(true);
    expect(page.thread().state()).toMatchObject({ hasOlder: true, position: { offset: 11 }, messages: [{ text: "abc" }] });
    expect(page.thread().events()).toMatchObject([{ first_offset: 9, offset: 11 }]);
    expect(page.offsets).toEqual([11]); // handlers hear of what comes, not of what was
    expect(page.world.requests).toHaveLength(0);
  });

  it("end at the first one, or with what is missing", async () => {
    const page = await midway();
    const more = page.thread().older();
    await (await page.world.request()).answer({ events: [event(8), event(9), event(10)], missed: [missed(1, 7)], last: {}, next: null });
    expect(await more).toBe(false);
    expect(page.thread().state()).toMatchObject({ hasOlder: false, blocks: [{ kind: "missed", toOffset: 7 }, { kind: "run" }] });
    expect(await page.thread().older()).toBe(false);
    expect(page.world.requests).toHaveLength(0);
  });

  it("of a thread that was deleted meanwhile are not shown", async () => {
    const page = await midway();
    const more = page.thread().older();
    const request = await page.world.request();
    page.socket.say(missed(1, 11, { reason: "deleted" }), { type: "error", thread_id: "t", code: "NOT_FOUND", message: "deleted" });
    await request.answer({ events: [event(9), event(10)], missed: [], last: {}, next: null });
    expect(await more).toBe(false);
    expect(page.thread().snapshot).toMatchObject({ blocks: [], position: null });
  });

  it("do not fit in front of a thread that goes on somewhere else by now", async () => {
    const page = await midway();
    const more = page.thread().older();
    const request = await page.world.request();
    page.socket.say(subscribed({ from_offset: 21 }), event(21));
    await request.answer({ events: [event(9), event(10)], missed: [], last: {}, next: null });
    expect(await more).toBe(true); // by the next call
    expect(page.thread().events().map(({ offset }) => offset)).toEqual([21]);
  });

  it("show no run that ended long ago as running", async () => {
    const page = await Page.follow();
    page.socket.say(subscribed({ id: "connect", from_offset: 11, last_offset: 11, active_runs: [] }), event(11), caughtUp(11));
    expect(page.thread().state().runs.map(({ state }) => state)).toEqual(["ended"]);
    const more = page.thread().older();
    const events = [event(9, { run_id: "s", type: "agent_started" }), event(10, { run_id: "s" })];
    await (await page.world.request()).answer({ events, missed: [missed(1, 8)], last: {}, next: null });
    await more;
    expect(page.thread().state().runs.map(({ runId, state }) => [runId, state])).toEqual([["s", "ended"], ["r", "ended"]]);
  });

  it("are asked for by the thread's id, whatever is in it", async () => {
    const page = new Page();
    void page.client.history("a/b?c#d").catch(() => {});
    await page.world.request("/v1/threads/a%2Fb%3Fc%23d/events");
  });

  it("that cannot be read say why; a refused token is replaced once", async () => {
    const page = await midway();
    const failed = expect(page.thread().older()).rejects.toMatchObject({ code: "LOG_UNAVAILABLE", message: "the disk stands still" });
    await (await page.world.request()).answer({ code: "UNAUTHENTICATED" }, 401);
    const again = await page.world.request();
    expect(again.token).toBe("t2");
    await again.answer({ type: "error", code: "LOG_UNAVAILABLE", message: "the disk stands still" }, 503);
    await failed;
  });

  it("that nobody sends are given up", async () => {
    const page = await midway();
    const failed = expect(page.thread().older()).rejects.toMatchObject({ code: "GATEWAY_UNAVAILABLE" });
    await page.world.request();
    await page.world.advance(30_000);
    await failed;
    void page.thread().older();
    await page.world.request();
  });
});
