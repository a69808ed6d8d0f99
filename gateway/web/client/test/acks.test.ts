// What is acknowledged, and when.

import { describe, expect, it } from "vitest";

import type { ClarionEvent } from "../src/index.js";
import { Page } from "./page.js";
import { caughtUp, event, missed, rolledBack, settled, subscribed, World } from "./world.js";

describe("acks", () => {
  it("follow the handlers, together", async () => {
    const page = await Page.follow();
    page.socket.say(subscribed({ id: "connect" }), event(1), event(2));
    expect(page.socket.count("ack")).toBe(0);
    expect(await page.acked()).toBe(2);
    expect(page.socket.last("ack")).toMatchObject({ thread_id: "t", epoch: "e", offset: 2 });
    page.socket.say({ type: "acked", id: page.socket.last("ack")!.id, thread_id: "t", offset: 2 });
    await page.world.advance(10_000);
    expect(page.socket.count("ack")).toBe(1);
  });

  it("wait for promises, whichever is kept first", async () => {
    const page = new Page();
    const finish: (() => void)[] = [];
    page.thread().on("event", () => new Promise<void>((resolve) => finish.push(resolve)));
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ id: "connect" }), event(1), event(2), event(3));
    finish[1]!();
    expect(await page.acked()).toBeUndefined();
    finish[0]!();
    await settled();
    expect(await page.acked()).toBe(2);
  });

  it("end, and say so, when ten thousand promises are not kept", async () => {
    const page = new Page();
    const keep: (() => void)[] = [];
    page.thread().on("event", () => new Promise<void>((resolve) => keep.push(resolve)));
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ id: "connect" }));
    for (let offset = 1; offset <= 10_002; offset += 1) page.socket.say(event(offset));
    expect(page.world.reported).toMatchObject([{ code: "BUFFER_OVERFLOW", threadId: "t" }]);
    for (const one of keep) one();
    expect(await page.acked()).toBe(10_000);
  });

  it.each([
    ["throws", () => { throw new Error("oh"); }],
    ["rejects", () => Promise.reject(new Error("oh"))],
  ])("stop before an event whose handler %s", async (_, fail) => {
    const page = new Page();
    page.thread().on("event", ({ offset }) => (offset === 2 ? fail() : undefined));
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ id: "connect" }), event(1), event(2), event(3));
    expect(await page.acked()).toBe(1);
    expect(page.world.reported.map(String)).toEqual(["Error: oh"]);
    page.thread().ack(event(3)); // by hand it goes on
    expect(await page.acked()).toBe(3);
  });

  it("one handler that fails does not keep the next from being called", async () => {
    const page = new Page();
    page.thread().on("event", () => { throw new Error("oh"); });
    page.thread().on("custom", ({ offset }) => page.offsets.push(offset));
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ id: "connect" }), event(1));
    expect(page.offsets).toEqual([1]);
  });

  it("by hand only, if the page says so", async () => {
    const page = await Page.follow({ ack: "manual" });
    page.socket.say(subscribed({ id: "connect" }), event(1), event(2));
    expect(await page.acked()).toBeUndefined();
    page.thread().ack({ epoch: "e", offset: 1 });
    expect(await page.acked()).toBe(1);
    page.thread().ack(99); // no further than what came
    expect(await page.acked()).toBe(2);
  });

  it("by hand are said again if they came before the thread was followed on a new connection", async () => {
    const page = await Page.follow({ ack: "manual" });
    page.socket.say(subscribed({ id: "connect" }), event(1));
    page.thread().ack(1);
    await page.reconnect();
    expect(await page.acked()).toBe(1);
    page.socket.say({ type: "error", id: page.socket.last("ack")!.id, thread_id: "t", code: "NOT_FOUND" });
    page.socket.say(subscribed({ id: "connect", from_offset: 2 }), caughtUp(1));
    expect(await page.acked()).toBe(1);
    expect(page.socket.count("ack")).toBe(2);
    expect(page.errors).toEqual([]);
  });

  it("go on after a roll-back of the event whose handler failed", async () => {
    const page = new Page();
    let failed = false;
    page.thread().on("event", ({ offset }) => {
      if (offset !== 2 || failed) return;
      failed = true;
      throw new Error("oh");
    });
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ id: "connect" }), event(1), event(2));
    expect(await page.acked()).toBe(1);
    page.socket.say(subscribed({ epoch: "f", from_offset: 2, missed: true }), rolledBack(1, 2), event(2), event(3));
    expect(await page.acked()).toBe(3);
    expect(page.socket.last("ack")!.epoch).toBe("f");
  });

  it("of what comes in place of a rolled-back tail wait until handlers have heard it", async () => {
    const page = await Page.follow();
    const { socket } = page;
    socket.say(subscribed({ id: "connect" }), event(1), event(2), event(3));
    expect(await page.acked()).toBe(3);
    socket.say({ type: "acked", id: socket.last("ack")!.id, thread_id: "t", offset: 3 });
    socket.say(event(5)); // a gap: asked for again
    const { id } = socket.last("subscribe")!;
    const again = [rolledBack(1, 3), event(2), event(3)];
    socket.say(subscribed({ epoch: "f", from_offset: 2, missed: true }), ...again); // by the older subscription
    await page.world.advance(1_000);
    expect([page.offsets, socket.last("ack")!.epoch]).toEqual([[1, 2, 3], "e"]);
    socket.say(subscribed({ id: id!, epoch: "f", from_offset: 2, missed: true }), ...again);
    expect(page.offsets).toEqual([1, 2, 3, 2, 3]);
    expect(await page.acked()).toBe(3);
    expect(socket.last("ack")!.epoch).toBe("f");
  });

  it("of the client's handlers pass over what is missing", async () => {
    const page = new Page();
    page.client.on("event", () => {});
    page.client.all();
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ missed: true }), missed(1, 9), caughtUp(9));
    expect(await page.acked()).toBe(9);
  });

  it("are not sent for who only hears of errors", async () => {
    const page = new Page();
    page.thread().on("error", () => {});
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ id: "connect" }), event(1));
    expect(await page.acked()).toBeUndefined();
  });

  it("are said again when the thread is current after a reconnection", async () => {
    const page = await Page.follow();
    page.socket.say(subscribed({ id: "connect" }), event(1));
    expect(await page.acked()).toBe(1);
    await page.reconnect();
    expect(page.socket.last("ack")).toBeUndefined();
    page.socket.say(subscribed({ id: "connect", from_offset: 2 }), caughtUp(1));
    expect(await page.acked()).toBe(1);
  });

  it("that are refused end no subscription, and come back after retry_after_ms", async () => {
    const page = await Page.follow();
    page.socket.say(subscribed({ id: "connect" }), event(1));
    await page.acked();
    const { id } = page.socket.last("ack")!;
    page.socket.say({ type: "error", id, thread_id: "t", code: "LOG_UNAVAILABLE", retry_after_ms: 3_000 });
    await page.world.advance(2_999);
    expect(page.socket.count("ack")).toBe(1);
    await page.world.advance(1);
    expect(page.socket.count("ack")).toBe(2);
    page.socket.say({ type: "error", id: page.socket.last("ack")!.id, thread_id: "t", code: "ACK_INVALID" }, event(2));
    expect(page.offsets).toEqual([1, 2]);
    expect(page.errors).toEqual([]);
  });

  it("of all threads follow the client's handlers, and those of the thread", async () => {
    const page = new Page();
    let finish = () => {};
    page.client.on("event", () => {});
    page.client.all();
    page.socket = await page.world.connected();
    page.socket.say(subscribed(), event(1));
    expect(await page.acked()).toBe(1);
    page.thread().on("event", () => new Promise<void>((resolve) => (finish = resolve)));
    page.socket.say(subscribed({ id: page.socket.last("subscribe")!.id!, from_offset: 2 }), event(2));
    expect(await page.acked()).toBe(1);
    finish();
    await settled();
    expect(await page.acked()).toBe(2);
  });

  it("of state handlers come when the state was shown", async () => {
    const page = new Page();
    const shown: number[] = [];
    page.thread().on("state", ({ position }) => shown.push(position!.offset));
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ id: "connect" }), event(1), event(2), event(3));
    expect(await page.acked()).toBeUndefined();
    await page.world.paint();
    expect(shown).toEqual([3]); // once for all of it
    expect(await page.acked()).toBe(3);
  });

  it("of state handlers that come late too: they are shown what is there already", async () => {
    const page = new Page();
    page.thread().state();
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ id: "connect" }), event(1));
    await page.world.paint();
    const shown: number[] = [];
    page.thread().on("state", ({ position }) => shown.push(position!.offset));
    await page.world.paint();
    expect(shown).toEqual([1]);
    expect(await page.acked()).toBe(1);
  });

  it("many acks at once", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    client.on("event", () => {});
    client.all();
    const socket = await world.connected();
    for (let n = 0; n < 2000; n += 1) socket.say(subscribed({ thread_id: `t${n}` }), event(1, { thread_id: `t${n}` }));
    await world.advance(200);
    expect(socket.count("ack")).toBeLessThan(1000); // --max-frames burst
  });

  it("a thread with ack manual is not acknowledged by all()'s auto", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
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
    const client = world.client({ transports: ["websocket"] });
    client.on("event", () => new Promise(() => {}));
    client.thread("t").on("event", () => {});
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), event(1));
    await world.advance(200);
    expect(socket.last("ack")).toBeUndefined();
  });

  it("an iteration's event of before a roll-back does not acknowledge the new one in its place", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
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
    const client = world.client({ transports: ["websocket"] });
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
    const client = world.client({ transports: ["websocket"] });
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
    const client = world.client({ transports: ["websocket"] });
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
    const client = world.client({ transports: ["websocket"] });
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
    const client = world.client({ transports: ["websocket"] });
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
    const client = world.client({ transports: ["websocket"] });
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

  it("a handler in place of one that is not done yet acknowledges nothing for it", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
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
    const client = world.client({ transports: ["websocket"] });
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
      const client = world.client({ transports: ["websocket"] });
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

  it("retry_after_ms of one thread's ack does not hold another's back", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
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

  it("of threads that rest, cut off by the connection's end, do not stop those of others", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    const names = Array.from({ length: 30 }, (_, n) => `r${n}`);
    const offs = names.map((id) => client.thread(id).on("event", () => {}));
    let socket = await world.connected();
    world.chance = 0.9;
    for (const thread_id of names) socket.say(subscribed({ thread_id, id: "connect" }), event(1, { thread_id }));
    socket.drop(); // before the acks went
    await world.notice("offline");
    offs.forEach((off) => off());
    client.thread("t").on("event", () => {}); // the page shows another one now
    await world.advance(1_500);
    world.sockets.length = 0;
    await world.notice("online");
    socket = await world.connected();
    expect(socket.last("connect")!.subscribe).toMatchObject([{ thread_id: "t" }]); // nothing of those that rest
    socket.say(subscribed({ id: "connect" }), event(1), caughtUp(1));
    const acked: string[] = [];
    let heard = 0;
    for (let n = 0; n < 50; n += 1) {
      await world.advance(200);
      const said = socket.said.filter((frame) => frame.type === "ack") as any[];
      for (const { id, thread_id } of said.slice(heard)) {
        acked.push(thread_id);
        // gateway/hub/hub_frames.cc: Ack() of what the connection does not follow.
        socket.say(thread_id === "t" ? { type: "acked", id, thread_id, offset: 1 } : { type: "error", id, thread_id, code: "NOT_FOUND" });
      }
      heard = said.length;
      socket.say(event(n + 2));
    }
    expect([acked.includes("t"), acked.filter((name) => name === "r0").length]).toEqual([true, 0]);
  });

  it("by hand of a position under all({ack: manual}), without following the thread by its name", async () => {
    const page = new Page();
    page.client.all({ ack: "manual" });
    page.client.on("event", ({ offset }) => page.offsets.push(offset));
    page.socket = await page.world.connected();
    page.socket.say(subscribed(), event(1), event(2), caughtUp(2));
    page.client.thread("t").ack({ epoch: "e", offset: 2 });
    expect(await page.acked()).toBe(2);
  });

  it("by hand of a position of before a roll-back that the thread, at rest, has not heard of", async () => {
    const page = new Page();
    page.client.all({ ack: "manual" });
    page.socket = await page.world.connected();
    const off = page.thread({ ack: "manual" }).on("event", () => {});
    page.socket.say(subscribed({ id: page.socket.last("subscribe")!.id! }), event(1), event(2), event(3), caughtUp(3));
    off();
    await page.world.advance(1_500);
    page.socket.say(subscribed({ epoch: "f", from_offset: 2, missed: true }), rolledBack(1, 3), event(2), event(3), event(4));
    page.thread().ack({ epoch: "e", offset: 3 });
    await page.world.advance(200);
    expect(page.socket.last("ack")).toBeUndefined();
  });

  it("what is missing is acknowledged when the promise for what came before it is kept", async () => {
    const page = new Page();
    let keep = () => {};
    page.thread().on("event", () => new Promise<void>((resolve) => (keep = resolve)));
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ id: "connect" }), event(1), missed(2, 5));
    keep();
    expect(await page.acked()).toBe(5);
  });
});
