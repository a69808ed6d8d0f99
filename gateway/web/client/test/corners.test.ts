// Corners: rare orders of frames, failures and calls, each of which went wrong once or could.

import { describe, expect, it, vi } from "vitest";
import type { ClarionEvent } from "../src/index.js";
import { connectedFrame, delta, event, rolledBack, settled, subscribed, World, type ScriptedRequest } from "./world.js";

const ws = ["websocket"] as const;
const caughtUp = (offset: number) => ({ type: "caught_up", thread_id: "t", offset });
async function poll(world: World): Promise<ScriptedRequest> { await world.advance(30); return world.request("/v1/poll"); }

describe("polling", () => {
  it("an idle polling connection comes back after one lost poll", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    client.thread("t").on("event", () => {});
    const first = await poll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), subscribed({ id: first.body.messages[1].id }), caughtUp(0)] });
    await (await poll(world)).fail();
    await world.advance(0);
    // The gateway: resumed, nothing new: answers after body.wait seconds, with no frames.
    let states: string[] = [];
    for (let i = 0; i < 5; i += 1) {
      await world.advance(30);
      const request = world.requests.shift();
      if (!request) break;
      const wait = request.body.wait as number;
      await world.advance(Math.max(0, wait * 1000 - 1));
      if (request.aborted) { states.push("aborted by client"); await world.advance(300); continue; }
      await request.answer({ connection_id: "c1", frames: [] });
      states.push(world.state.state);
      break;
    }
    expect(states).toEqual(["CONNECTED"]);
  });

  it("a refused subscribe is asked again after retry_after_ms, not at once", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    client.thread("t").on("event", () => {});
    const first = await poll(world);
    const error = { type: "error", id: first.body.messages[1].id, thread_id: "t", code: "LOG_UNAVAILABLE", retry_after_ms: 5_000 };
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), error] });
    let asked = 0;
    for (let i = 0; i < 20; i += 1) {
      await world.advance(30);
      const request = world.requests.shift();
      if (!request) break;
      const again = request.body.messages.find((m: any) => m.type === "subscribe");
      if (!again) break;
      asked += 1;
      await request.answer({ connection_id: "c1", frames: [{ ...error, id: again.id }] });
    }
    expect(asked).toBe(0); // within 600 ms
  });

  it("all() refused on a later poll does not end in ERROR", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    client.all();
    const first = await poll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), { type: "subscribed", id: first.body.messages[1].id, all: true }] });
    const second = await poll(world);
    expect(second.body.all).toBe(true);
    // hub_frames.cc EndAllWithError: the resumed request has no id, and SendError sets no `reconnect`.
    await second.answer({ connection_id: "c1", frames: [{ type: "error", code: "GATEWAY_UNAVAILABLE", message: "the service does not answer", retry_after_ms: 1000 }] });
    expect(world.state.state).toBe("DISCONNECTED");
  });

  it("after the end of all() its threads are not named any more", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    const end = client.all({ ack: "manual" });
    const first = await poll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), { type: "subscribed", id: first.body.messages[1].id, all: true }, subscribed(), event(1), caughtUp(1)] });
    await poll(world);
    end();
    await world.advance(0);
    const next = await world.request("/v1/poll");
    expect(next.body.messages.map((m: any) => m.type)).toContain("unsubscribe");
    expect(next.body.positions).toEqual([]);
  });

});

describe("sse", () => {
  it("a request that hangs is said again", async () => {
    const world = new World();
    const client = world.client({ transports: ["sse"] });
    client.open();
    const stream = await world.request("/v1/stream");
    await stream.stream(connectedFrame());
    client.thread("t").on("event", () => {});
    await world.request("/v1/connections/c1"); // never answered
    for (let i = 0; i < 60; i += 1) { await stream.say({ type: "ping" }); await world.advance(20_000); }
    expect(world.requests.length).toBeGreaterThan(0);
  });

  it("503 for what the page says is not asked twice a second for ever", async () => {
    const world = new World();
    const client = world.client({ transports: ["sse"] });
    client.open();
    const stream = await world.request("/v1/stream");
    await stream.stream(connectedFrame());
    client.thread("t").on("event", () => {});
    let n = 0;
    for (let i = 0; i < 120; i += 1) {
      if (i % 20 === 0) await stream.say({ type: "ping" });
      const r = world.requests.shift();
      if (r) { n += 1; await r.answer({ code: "RATE_LIMITED", retry_after_ms: 5000 }, 429); }
      await world.advance(500);
    }
    expect(n).toBeLessThan(30); // in a minute
  });
});

describe("websocket", () => {
  it("an error followed by 1006 counts", async () => {
    const world = new World();
    world.client({ transports: ws }).open();
    const socket = await world.connected();
    socket.say({ type: "error", code: "RATE_LIMITED", reconnect: true, retry_after_ms: 7000 });
    socket.drop(1006);
    expect(world.state.retryAt! - world.now).toBeGreaterThanOrEqual(7000);
  });

  it("all() that was restored and then refused comes back", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    client.all();
    const socket = await world.connected();
    socket.say({ type: "subscribed", all: true, id: "connect" });
    socket.say({ type: "error", code: "GATEWAY_UNAVAILABLE", message: "the service does not answer", retry_after_ms: 1000 });
    for (let i = 0; i < 10; i += 1) { socket.say({ type: "ping" }); await world.advance(20_000); }
    expect(world.sockets.length + socket.count("subscribe")).toBeGreaterThan(0);
  });

  it("looking at the page does not break retry_after_ms", async () => {
    const world = new World();
    world.client({ transports: ws }).open();
    const socket = await world.connected();
    socket.say({ type: "error", code: "RATE_LIMITED", reconnect: true, retry_after_ms: 60_000 });
    socket.drop(4429);
    await world.notice("shown");
    expect(world.sockets).toHaveLength(0);
  });

  it("going_away of the old transport is forgotten after a move", async () => {
    const world = new World();
    const client = world.client();
    client.open();
    (await world.socket()).drop();
    const stream = await world.request("/v1/stream");
    await stream.stream(connectedFrame());
    await world.advance(9_990);
    await stream.say({ type: "going_away", reconnect_after_ms: 9_000 });
    await world.advance(10);
    const socket = await world.connected({ connection_id: "c2" });
    expect(world.state.transport).toBe("websocket");
    socket.drop(1006);
    expect(world.state.retryAt! - world.now).toBeLessThan(9_000);
  });

  it("4401 after each `connected` is not a loop without waits", async () => {
    const world = new World();
    world.chance = 1;
    world.client({ transports: ws }).open();
    let rounds = 0;
    for (; rounds < 10; rounds += 1) {
      await settled();
      const socket = world.sockets.shift();
      if (!socket) break;
      socket.open();
      socket.say(connectedFrame(), { type: "error", code: "UNAUTHENTICATED" });
      socket.drop(4401);
    }
    expect(rounds).toBeLessThan(5); // no time has passed
  });

  it("close() inside the CONNECTED handler ends everything", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    client.on("connection", ({ state }) => { if (state === "CONNECTED") client.close(); });
    client.open();
    const socket = await world.socket();
    socket.open();
    socket.say(connectedFrame({ token_expires_at: "2026-01-01T00:01:00Z" }));
    expect(client.connection.state).toBe("DISCONNECTED");
    expect(world.pendingTimers).toBe(0);
    const before = world.tokens.length;
    await world.advance(600_000);
    expect(world.tokens.length).toBe(before);
  });

  it("close() inside the CONNECTED handler on a lower rung: no trial", async () => {
    const world = new World();
    const client = world.client({});
    client.on("connection", ({ state }) => { if (state === "CONNECTED") client.close(); });
    client.open();
    (await world.socket()).drop();
    await (await world.request("/v1/stream")).stream(connectedFrame());
    expect(client.connection.state).toBe("DISCONNECTED");
    await world.advance(20_000);
    expect(world.sockets).toHaveLength(0);
  });

  it("a token source that hangs", async () => {
    const world = new World();
    let calls = 0;
    const client = world.client({ transports: ws, token: () => { calls += 1; return new Promise(() => {}); } });
    client.open();
    await world.advance(3_600_000);
    await world.notice("shown");
    await world.notice("online");
    expect(calls).toBeGreaterThan(1);
  });

  it("many acks at once", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    client.on("event", () => {});
    client.all();
    const socket = await world.connected();
    for (let n = 0; n < 2000; n += 1) socket.say(subscribed({ thread_id: `t${n}` }), event(1, { thread_id: `t${n}` }));
    await world.advance(200);
    expect(socket.count("ack")).toBeLessThan(1000); // --max-frames burst
  });
});

describe("acks", () => {
  it("a thread with ack manual is not acknowledged by all()'s auto", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    client.on("event", () => {});
    client.all();
    client.thread("t", { ack: "manual" }).on("event", () => {});
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), event(1), event(2));
    await world.advance(200);
    expect(socket.last("ack")).toBeUndefined();
  });

  it("client handlers count without all() too", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    client.on("event", () => new Promise(() => {}));
    client.thread("t").on("event", () => {});
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), event(1));
    await world.advance(200);
    expect(socket.last("ack")).toBeUndefined();
  });

  it("an iteration's event of before a roll-back does not acknowledge the new one in its place", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    const it = client.thread("t")[Symbol.asyncIterator]();
    const p1 = it.next();
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), event(1), event(2));
    await p1;
    await it.next(); // old 2 is being processed
    socket.say(subscribed({ epoch: "f", from_offset: 2, missed: true }), rolledBack(1, 2), event(2, { event_id: "new" }), event(3));
    const got = await it.next(); // the new 2 is given, not processed
    expect((got.value as ClarionEvent).event_id).toBe("new");
    await world.advance(200);
    expect(socket.last("ack")?.epoch === "f" ? socket.last("ack")!.offset : 0).toBeLessThan(2);
  });

  it("ack by hand of a position of another epoch", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    const thread = client.thread("t", { ack: "manual" });
    thread.on("event", () => {});
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), event(1), event(2), event(3));
    const position = thread.snapshot.position!;
    socket.say(subscribed({ epoch: "f", from_offset: 2, missed: true }), rolledBack(1, 3), event(2), event(3));
    thread.ack(position); // {epoch: "e", offset: 3}
    await world.advance(200);
    expect(socket.last("ack")).toBeUndefined();
  });

  it("React's shown() with a state of before a roll-back", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    const thread = client.thread("t");
    const reader = thread.reader(() => {});
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), event(1), event(2), event(3));
    const old = thread.snapshot;
    socket.say(subscribed({ epoch: "f", from_offset: 2, missed: true }), rolledBack(1, 3), event(2), event(3));
    reader.shown(old.position!); // effect of a slow concurrent render
    await world.advance(200);
    expect(socket.last("ack")?.offset ?? 0).toBeLessThan(2);
  });

  it("a stale rejection does not stop acks for ever", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    let reject = (_: unknown) => {};
    let n = 0;
    client.thread("t").on("event", () => (++n === 2 ? new Promise((_, no) => (reject = no)) : undefined));
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), event(1), event(2));
    socket.say(subscribed({ epoch: "f", from_offset: 2, missed: true }), rolledBack(1, 2), event(2), event(3));
    reject(new Error("of the old 2"));
    await settled();
    socket.say(event(4));
    await world.advance(200);
    expect(socket.last("ack")?.offset).toBe(4);
  });

  it("a state handler that failed keeps what it was to show from being acknowledged", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    const thread = client.thread("t");
    thread.state();
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), event(1), event(2), event(3));
    thread.on("state", () => { throw new Error("oh"); });
    await world.paint();
    socket.say(event(4));
    await world.paint();
    await world.advance(200);
    expect(socket.last("ack")).toBeUndefined();
  });

  it("an ack that became ready while the place was being settled is said", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    let done = () => {};
    client.on("event", () => new Promise<void>((yes) => (done = yes)));
    client.all();
    const socket = await world.connected();
    socket.say({ type: "subscribed", all: true, id: "connect" }, subscribed(), event(1), caughtUp(1));
    client.thread("t", { from: "live" }).on("error", () => {});
    done();
    await settled();
    socket.say(subscribed({ id: socket.last("subscribe")!.id!, from_offset: 2 }), caughtUp(1));
    await world.advance(10_000);
    expect(socket.last("ack")?.offset).toBe(1);
  });

  it("all(): a re-ask that the connection's end cut off does not stop acks", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    client.on("event", () => {});
    client.all();
    let socket = await world.connected();
    socket.say({ type: "subscribed", all: true, id: "connect" }, subscribed(), event(1), event(3)); // a gap
    expect(socket.count("subscribe")).toBe(1);
    socket.drop();
    await world.advance(0);
    socket = await world.connected();
    socket.say({ type: "subscribed", all: true, id: "connect" }, subscribed({ from_offset: 2 }), event(2), event(3), caughtUp(3));
    await world.advance(10_000);
    expect(socket.last("ack")?.offset).toBe(3);
  });

  it("BUFFER_OVERFLOW: what the iteration still hands out is not acknowledged by others", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    const thread = client.thread("t");
    thread.on("custom", () => {});
    const it = thread[Symbol.asyncIterator]();
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }));
    for (let n = 1; n <= 10_001; n += 1) socket.say(event(n));
    await world.advance(200);
    expect((await it.next()).value).toMatchObject({ offset: 1 });
    expect(socket.last("ack")).toBeUndefined();
  });
});

describe("threads", () => {
  it("off() of a closed thread's handler does not end the following of its successor", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
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

  it("an iteration loses nothing of merged deltas by a roll-back", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    const it = client.thread("t")[Symbol.asyncIterator]();
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), delta(1, "a"), delta(2, "b"), delta(3, "c"), delta(4, "d"));
    socket.say(subscribed({ epoch: "f", from_offset: 3, missed: true }), rolledBack(2, 4));
    const ask = socket.last("subscribe");
    if (ask) socket.say(subscribed({ id: ask.id!, epoch: "f" }), delta(2, "ab", { first_offset: 1 }));
    socket.say(delta(3, "X"));
    const text: string[] = [];
    text.push(((await it.next()).value as any).delta);
    void it.next().then((r) => text.push((r.value as any)?.delta));
    await settled();
    await world.advance(200);
    expect([text.join(""), socket.last("ack")?.offset]).toEqual(["abX", 3]);
  });

  it("the answer to `connect` is not taken for that of another subscribe", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
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

  it("NOT_FOUND alone takes away what was shown", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    const thread = client.thread("t");
    thread.on("event", () => {});
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), delta(1, "secret"));
    socket.say({ type: "error", thread_id: "t", code: "NOT_FOUND", message: "deleted" });
    expect(thread.snapshot.messages).toEqual([]);
  });

  it("two calls of next() are both answered", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    const it = client.thread("t")[Symbol.asyncIterator]();
    const got: number[] = [];
    void it.next().then((r) => got.push((r.value as any).offset));
    void it.next().then((r) => got.push((r.value as any).offset));
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), event(1), event(2));
    await settled();
    expect(got).toEqual([1, 2]);
  });

  it("a handler that closes the thread hears no more, and nothing is kept", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    const thread = client.thread("t");
    const seen: number[] = [];
    const off = thread.on("event", ({ offset }) => { seen.push(offset); off(); });
    thread.on("custom", () => { if (seen.length > 1) throw new Error("again"); });
    const socket = await world.connected();
    client.on("event", () => thread.close());
    socket.say(subscribed({ id: "connect" }), event(1));
    expect([seen, thread.events().length]).toEqual([[], 0]);
  });

  it("handlers hear no delta twice when the end of a long message is rolled back", async () => {
    const world = new World();
    const thread = world.client({ transports: ws }).thread("t");
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

  it("the client's handlers hear no text twice when a thread is opened while it streams", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    const texts: string[] = [];
    client.on("event", (e) => texts.push((e as any).delta));
    client.all();
    const socket = await world.connected();
    socket.say(subscribed(), delta(1, "a"), delta(2, "b"));
    const thread = client.thread("t");
    thread.on("state", () => {});
    const { id, history } = socket.last("subscribe")!;
    expect(history).toBe("full"); // drawn together, "ab" and "c" would come as one
    socket.say(subscribed({ id: id! }), delta(1, "a"), delta(2, "b"), delta(3, "c"));
    expect([texts.join(""), thread.snapshot.messages[0]!.text]).toEqual(["abc", "abc"]);
  });

  it("a roll-back that two polls told is one", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    const thread = client.thread("t");
    const seen: string[] = [];
    thread.on("event", ({ event_id }) => seen.push(event_id));
    thread.on("missed", () => seen.push("missed"));
    const first = await poll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), subscribed({ id: first.body.messages[1].id }), event(1), event(2)] });
    const waits = await poll(world);
    await world.advance(30);
    client.thread("other").on("event", () => {}); // so another request goes out beside it
    await world.advance(30);
    const beside = await world.request("/v1/poll");
    const frames = [subscribed({ epoch: "f", from_offset: 2, missed: true }), rolledBack(1, 2), event(2, { event_id: "new" })];
    await waits.answer({ connection_id: "c1", frames });
    await beside.answer({ connection_id: "c1", frames: [...frames, event(3)] });
    await settled();
    expect(seen).toEqual(["x1", "x2", "missed", "new", "x3"]);
    expect(thread.state().missed.length).toBe(1);
  });

  it("a thread that was the user's no longer, and is again, goes on by itself", async () => {
    const world = new World();
    const thread = world.client({ transports: ws }).thread("t");
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
    const client = world.client({ transports: ws });
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
    const client = world.client({ transports: ws });
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

  it("history() without a connection to be had says ClarionError", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    const asked = client.history("t");
    const caught = asked.catch((e: Error) => e.name);
    await (await world.request()).fail();
    expect(await caught).toBe("ClarionError");
  });
});

describe("environment", () => {
  it("connect() without url on a server", async () => {
    const { connect } = await import("../src/index.js");
    expect(() => connect({ token: "x" })).not.toThrow();
  });

  it("a page that is hidden between planning and painting is painted all the same", async () => {
    const { browserEnvironment } = await import("../src/index.js");
    vi.useFakeTimers();
    const g = globalThis as any;
    const frames: (() => void)[] = [];
    g.document = { visibilityState: "visible" };
    g.requestAnimationFrame = (f: () => void) => frames.push(f);
    let painted = false;
    browserEnvironment().beforePaint(() => (painted = true));
    g.document.visibilityState = "hidden"; // no animation frame from now on
    vi.advanceTimersByTime(300);
    vi.useRealTimers();
    delete g.document; delete g.requestAnimationFrame;
    expect(painted).toBe(true);
  });
});

const typesOf = (request: ScriptedRequest) => request.body.messages.map(({ type }: { type: string }) => type);

describe("closing, handlers and users", () => {
  it("an event under way when its thread is closed follows it no more", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
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

  it("a handler in place of one that is not done yet acknowledges nothing for it", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    const thread = client.thread("t");
    const off = thread.on("event", () => new Promise(() => {})); // never settles
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), event(1), event(2));
    off();
    thread.on("event", () => {}); // React effect with a new handler
    socket.say(event(3));
    await world.advance(200);
    expect(socket.last("ack")).toBeUndefined();
  });

  it("a handler in place of one that failed acknowledges nothing for it", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    const thread = client.thread("t");
    const off = thread.on("event", ({ offset }) => { if (offset === 2) throw new Error("oh"); });
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), event(1), event(2));
    off();
    thread.on("event", () => {});
    socket.say(event(3));
    await world.advance(200);
    expect(socket.last("ack")?.offset ?? 0).toBeLessThan(2);
  });

  it("a state handler that fails gets another chance with the next state, whether it throws or rejects", async () => {
    const run = async (fail: () => unknown) => {
      const world = new World();
      const client = world.client({ transports: ws });
      let n = 0;
      client.thread("t").on("state", () => (++n === 1 ? fail() : undefined));
      const socket = await world.connected();
      socket.say(subscribed({ id: "connect" }), event(1));
      await world.paint();
      socket.say(event(2));
      await world.paint();
      await world.advance(200);
      return socket.last("ack")?.offset;
    };
    const threw = await run(() => { throw new Error("x"); });
    const rejected = await run(() => Promise.reject(new Error("x")));
    expect([threw, rejected]).toEqual([2, 2]);
  });

  it("what was said while it connected goes out before what is said because it is connected", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    const thread = client.thread("t");
    const off = thread.on("event", () => {});
    client.on("connection", ({ state }) => { if (state === "CONNECTED") thread.on("event", () => {}); });
    const socket = await world.socket();
    socket.open();
    off();
    await world.advance(1_000); // lingered: unsubscribe waits
    socket.say(connectedFrame());
    const order = socket.said.filter(({ type }) => type !== "connect").map(({ type }) => type);
    expect(order[order.length - 1]).toBe("subscribe");
  });

  it("reconnect() out of an ERROR that was not about the token keeps a fixed one", async () => {
    const world = new World();
    const client = world.client({ token: "fixed", transports: ws });
    client.open();
    (await world.connected()).drop(4403);
    expect(world.state.state).toBe("ERROR");
    client.reconnect();
    await settled();
    expect([world.sockets.length, world.state.needsToken]).toEqual([1, undefined]);
  });

  it("a token that comes after close() is nobody's", async () => {
    const world = new World();
    const resolves: ((t: string) => void)[] = [];
    const client = world.client({ token: () => new Promise<string>((r) => resolves.push(r)) });
    void client.threads().catch(() => {});
    client.close(); // A signs out
    resolves[0]!("A");
    await settled();
    const afterClose = world.requests.splice(0).map(({ token }) => token);
    void client.threads().catch(() => {}); // B
    await settled();
    resolves[1]?.("B");
    await settled();
    expect([afterClose, world.requests.map(({ token }) => token)]).toEqual([[], ["B"]]);
  });

  it("a handler that another took away is not called", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
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
    const client = world.client({ transports: ws });
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

  it("retry_after_ms of one thread's ack does not hold another's back", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    client.thread("t").on("event", () => {});
    client.thread("u").on("event", () => {});
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), subscribed({ id: "connect", thread_id: "u" }), event(1));
    await world.advance(200);
    socket.say({ type: "error", id: socket.last("ack")!.id, thread_id: "t", code: "LOG_UNAVAILABLE", retry_after_ms: 60_000 });
    socket.say(event(1, { thread_id: "u" }));
    await world.advance(5_000);
    expect(socket.last("ack")!.thread_id).toBe("u");
  });

  it("in a worker the gateway is where its script came from", async () => {
    (globalThis as any).location = new URL("https://app.example/worker.js");
    const world = new World();
    world.client({ url: undefined as unknown as string }).open();
    const socket = await world.socket();
    delete (globalThis as any).location;
    expect(socket.url.href).toBe("wss://app.example/v1/stream");
  });

  it.each([1000, 1001, 1005, 1011, 1014])("an upgrade that a proxy takes and then closes with %i falls back", async (code) => {
    const world = new World();
    world.client().open();
    let streams = 0;
    let sockets = 0;
    for (let i = 0; i < 40; i += 1) {
      await world.advance(300);
      streams += world.requests.splice(0).length;
      const socket = world.sockets.shift();
      if (!socket) continue;
      sockets += 1;
      socket.open();
      socket.drop(code);
    }
    expect({ sockets, fellBack: streams > 0 }).toMatchObject({ fellBack: true });
  });

  it("the place of a thread that is followed by its name when all() ends misses nothing", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    client.thread("t").on("event", () => {});
    const end = client.all();
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), delta(1, "a"));
    end(); // asks for it again after 1
    socket.say(delta(2, "b")); // under way
    socket.say(subscribed({ id: socket.last("subscribe")!.id!, from_offset: 2 }), delta(3, "bc", { first_offset: 2 }));
    expect(client.thread("t").state().messages[0]!.text).toBe("abc");
  });

  it("events drawn together that overlap what is here are asked for again from there", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    client.thread("t").on("event", () => {});
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), delta(1, "a"), delta(2, "b"), delta(3, "bc", { first_offset: 2 }));
    const { id, after } = socket.last("subscribe")!;
    expect(after).toEqual({ epoch: "e", offset: 2 });
    socket.say(subscribed({ id: id!, from_offset: 3 }), delta(3, "c"));
    expect(client.thread("t").state().messages[0]!.text).toBe("abc");
  });

  it("a thread from live on takes nothing from the client's handlers", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    client.on("event", () => {});
    client.all();
    const socket = await world.connected();
    socket.say(subscribed({ last_offset: 3 }), event(1)); // 2 and 3 are still to come
    client.thread("t", { from: "live" }).on("event", () => {});
    expect(socket.last("subscribe")).toMatchObject({ thread_id: "t", after: { epoch: "e", offset: 1 } });
  });

  it("a token of another user shows nothing of the first one's", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    const thread = client.thread("t");
    thread.on("state", () => {});
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), delta(1, "secret"));
    socket.drop();
    await world.advance(300);
    const next = await world.connected({ user_id: "another" });
    expect(thread.snapshot.messages).toEqual([]);
    expect(next.last("subscribe")).toMatchObject({ thread_id: "t" });
    expect(next.last("subscribe")!.after).toBeUndefined();
  });

  it("an iteration that ended, and is left with something waiting, holds no acks up", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    const t = client.thread("t");
    const it1 = t[Symbol.asyncIterator]();
    t.on("event", () => {});
    const s = await world.connected();
    s.say(subscribed({ id: "connect" }));
    for (let i = 1; i <= 10_001; i += 1) s.say(event(i));
    const first = await it1.next();
    expect(first.done).toBe(false);
    await it1.return!();
    s.say(event(10_002));
    await world.advance(300);
    expect(s.last("ack")?.offset).toBe(10_002);
  });

  it("close() of a thread takes nothing from those that rest", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
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

  it("polls say what ends before what begins anew", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    client.thread("t").on("event", () => {});
    const first = await poll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), subscribed({ id: first.body.messages[1].id }), event(1), caughtUp(1)] });
    await poll(world);
    client.thread("t").close();
    client.thread("t", { from: "start" }).on("event", () => {});
    await world.advance(0);
    const next = await world.request("/v1/poll");
    expect(typesOf(next).filter((x: string) => x !== "connect" && x !== "ack")).toEqual(["unsubscribe", "subscribe"]);
  });

  it("offline and online do not undo retry_after_ms", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
    client.thread("t").on("event", () => {});
    const s = await world.connected();
    s.say({ type: "error", code: "OVERLOADED", message: "", reconnect: true, retry_after_ms: 30_000 });
    s.drop(4503);
    await settled();
    await world.notice("offline");
    await world.notice("online");
    await world.advance(1_000);
    expect(world.sockets.length).toBe(0);
  });

  it("a thread that was forgotten and is used again keeps its options", async () => {
    const world = new World();
    const client = world.client({ transports: ws });
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
});
