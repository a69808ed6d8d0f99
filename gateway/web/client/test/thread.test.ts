// Threads: what a page gets of them, in which order, and what is acknowledged.

import { describe, expect, it, vi } from "vitest";

import type { ClarionError, ClarionEvent, Client, ThreadOptions } from "../src/index.js";
import { delta, event, missed, rolledBack, settled, subscribed, World, type ScriptedSocket } from "./world.js";

const caughtUp = (offset: number) => ({ type: "caught_up", thread_id: "t", offset });

/** A page that follows thread "t" with a handler for everything. */
class Page {
  readonly world = new World();
  readonly client: Client;
  readonly offsets: number[] = [];
  readonly errors: ClarionError[] = [];
  socket!: ScriptedSocket;

  constructor() {
    this.client = this.world.client({ transports: ["websocket"] });
    this.client.on("error", (error) => this.errors.push(error));
  }

  static async follow(options: ThreadOptions = {}): Promise<Page> {
    const page = new Page();
    page.thread(options).on("event", ({ offset }) => page.offsets.push(offset));
    page.socket = await page.world.connected();
    return page;
  }

  thread(options: ThreadOptions = {}) {
    return this.client.thread("t", options);
  }

  /** What is acknowledged by now. */
  async acked(): Promise<number | undefined> {
    await this.world.advance(200);
    return this.socket.last("ack")?.offset;
  }

  async reconnect(): Promise<ScriptedSocket> {
    this.socket.drop();
    await this.world.advance(0);
    return (this.socket = await this.world.connected());
  }
}

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
});

describe("all threads", () => {
  it("every event is told once, and new threads are", async () => {
    const page = new Page();
    const seen: string[] = [];
    page.client.on("event", ({ thread_id, offset }) => seen.push(`${thread_id}${offset}`));
    page.client.on("subscribed", ({ thread_id }) => seen.push(thread_id!));
    const end = page.client.all({ history: "full" });
    const socket = await page.world.connected();
    expect(socket.last("connect")!.subscribe).toEqual([{ all: true, history: "full" }]);
    socket.say({ type: "subscribed", all: true }, { type: "bound", thread_id: "t" }, subscribed(), event(1), event(2));
    socket.say(subscribed({ thread_id: "u" }), event(1, { thread_id: "u" }));
    page.thread().on("event", ({ offset }) => seen.push(`page${offset}`));
    socket.say(subscribed({ id: socket.last("subscribe")!.id! }), event(1), event(2), event(3));
    expect(seen).toEqual(["t", "t1", "t2", "u", "u1", "t", "page1", "page2", "t3", "page3"]);
    end();
    expect(socket.last("unsubscribe")).toEqual({ type: "unsubscribe", all: true });
  });

  it("when they end, a thread that is followed by its name is followed all the same", async () => {
    const page = new Page();
    const end = page.client.all({ ack: "manual" });
    page.thread().on("event", ({ offset }) => page.offsets.push(offset));
    const socket = await page.world.connected();
    socket.say(subscribed({ id: "connect" }), event(1), subscribed({ thread_id: "u" }));
    end();
    expect(socket.said.slice(-2)).toMatchObject([
      { type: "unsubscribe", all: true },
      { type: "subscribe", thread_id: "t", after: { epoch: "e", offset: 1 } },
    ]);
    const { id } = socket.last("subscribe")!;
    socket.say(event(2)); // under way
    socket.say(subscribed({ id: id!, from_offset: 2 }), event(3, { first_offset: 2 }));
    expect(page.offsets).toEqual([1, 3]);
  });

  it("a thread that was joined while it was asked for misses nothing of what came meanwhile", async () => {
    const page = new Page();
    page.client.all({ ack: "manual" });
    page.thread().on("event", ({ offset }) => page.offsets.push(offset));
    page.socket = await page.world.connected();
    const { socket } = page;
    socket.say(subscribed(), event(1), event(2)); // by {all}
    socket.say(subscribed({ id: "connect", from_offset: 3 })); // by its name: goes on in place
    socket.say(event(3));
    expect(page.offsets).toEqual([]);
    const { id, after } = socket.last("subscribe")!;
    expect(after).toEqual({ epoch: "e", offset: 0 });
    socket.say(subscribed({ id: id! }), event(1), event(2), event(3), event(4));
    expect(page.offsets).toEqual([1, 2, 3, 4]);
    expect(await page.acked()).toBe(4);
  });

  it("a thread that is opened late begins where the first subscription did", async () => {
    const page = new Page();
    page.client.all({ ack: "manual" });
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ from_offset: 5 }), event(5), event(6));
    page.thread().on("event", ({ offset }) => page.offsets.push(offset));
    expect(page.socket.last("subscribe")).toMatchObject({ thread_id: "t", after: { epoch: "e", offset: 4 } });
    page.socket.say(subscribed({ thread_id: "u", epoch: "", from_offset: 1 }), subscribed({ thread_id: "u" }), event(1, { thread_id: "u" }));
    page.client.thread("u").on("event", () => {}); // it was empty then
    expect(page.socket.last("subscribe")).toMatchObject({ thread_id: "u", from: "start" });
  });

  it("of more than a connect may name, the most recently active are named", async () => {
    const page = new Page();
    page.client.all();
    page.socket = await page.world.connected();
    const threads = Array.from({ length: 1100 }, (_, number) => `t${number}`);
    for (const thread_id of threads) page.socket.say(subscribed({ thread_id }));
    page.socket.say(event(1, { thread_id: "t0" }));
    await page.reconnect();
    // The server takes them up in an order of its own: that is no activity.
    for (const thread_id of ["t0", "t5", "t1"]) page.socket.say(subscribed({ thread_id, from_offset: thread_id === "t0" ? 2 : 1 }));
    await page.reconnect();
    const { after } = page.socket.last("connect")!.subscribe![0]!;
    const named = (after as { thread_id: string }[]).map(({ thread_id }) => thread_id);
    expect([named.length, named[0], named[1023]]).toEqual([1024, "t77", "t0"]);
  });
});

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
});

describe("iteration", () => {
  async function iterate(page: Page, limit = Infinity): Promise<{ seen: ClarionEvent[]; error?: unknown; ended: boolean }> {
    const result: { seen: ClarionEvent[]; error?: unknown; ended: boolean } = { seen: [], ended: false };
    void (async () => {
      try {
        for await (const next of page.thread()) {
          result.seen.push(next);
          if (result.seen.length >= limit) break;
        }
      } catch (error) {
        result.error = error;
      }
      result.ended = true;
    })();
    page.socket = await page.world.connected();
    return result;
  }

  it("gives every event, and acknowledges one when the next is asked for", async () => {
    const page = new Page();
    const iterator = page.thread()[Symbol.asyncIterator]();
    const first = iterator.next();
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ id: "connect" }), event(1), event(2));
    expect((await first).value).toMatchObject({ offset: 1 });
    expect(await page.acked()).toBeUndefined();
    expect((await iterator.next()).value).toMatchObject({ offset: 2 });
    expect(await page.acked()).toBe(1);
    void iterator.next();
    expect(await page.acked()).toBe(2);
  });

  it("ends with the client, and with a reason if the thread is followed no longer", async () => {
    const page = new Page();
    const result = await iterate(page);
    page.socket.say(subscribed({ id: "connect" }), event(1), { type: "error", thread_id: "t", code: "NOT_FOUND", message: "deleted" });
    await settled();
    expect(result).toMatchObject({ seen: [{ offset: 1 }], error: { code: "NOT_FOUND", threadId: "t" }, ended: true });

    const other = new Page();
    const calm = await iterate(other);
    other.client.close();
    await settled();
    expect(calm).toEqual({ seen: [], ended: true });
  });

  it("that is left by break follows no longer, after a while", async () => {
    const page = new Page();
    const result = await iterate(page, 1);
    page.socket.say(subscribed({ id: "connect" }), event(1));
    await settled();
    expect(result.ended).toBe(true);
    await page.world.advance(999);
    expect(page.socket.count("unsubscribe")).toBe(0);
    await page.world.advance(1);
    expect(page.socket.last("unsubscribe")).toEqual({ type: "unsubscribe", thread_id: "t" });
  });

  it("that is left while events wait for it leaves them, and follows no longer", async () => {
    const page = new Page();
    const result = await iterate(page, 1);
    page.socket.say(subscribed({ id: "connect" }), event(1), event(2), event(3));
    await settled();
    expect(result).toMatchObject({ seen: [{ offset: 1 }], ended: true });
    await page.world.advance(1_000);
    expect(page.socket.last("unsubscribe")).toEqual({ type: "unsubscribe", thread_id: "t" });
  });

  it("draws waiting deltas together, and says when too much waits", async () => {
    const page = new Page();
    const iterator = page.thread()[Symbol.asyncIterator]();
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ id: "connect" }));
    for (let offset = 1; offset <= 10_000; offset += 1) page.socket.say(delta(offset, "x"));
    expect((await iterator.next()).value).toMatchObject({ first_offset: 1, offset: 10_000 });
    for (let offset = 10_001; offset <= 20_001; offset += 1) page.socket.say(delta(offset, "y"));
    expect((await iterator.next()).value).toMatchObject({ first_offset: 10_001, offset: 20_000 });
    await expect(iterator.next()).rejects.toMatchObject({ code: "BUFFER_OVERFLOW", threadId: "t" });
  });

  it("forgets what waits of a tail that was rolled back", async () => {
    const page = new Page();
    const iterator = page.thread()[Symbol.asyncIterator]();
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ id: "connect" }), event(1), event(2));
    page.socket.say(subscribed({ epoch: "f", from_offset: 2, missed: true }), rolledBack(1, 2), event(2, { event_id: "other" }));
    expect([(await iterator.next()).value, (await iterator.next()).value]).toMatchObject([{ event_id: "x1" }, { event_id: "other" }]);
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
    await again.answer({ code: "LOG_UNAVAILABLE", message: "the disk stands still" }, 503);
    await failed;
  });
});

describe("the list of threads", () => {
  it("comes in pages", async () => {
    const page = new Page();
    const list = page.client.threads({ limit: 2, pageToken: "p" });
    const request = await page.world.request("/v1/threads");
    expect(request.url.searchParams.toString()).toBe("limit=2&page_token=p");
    await request.answer({ threads: [{ thread_id: "t", pending_events: 3 }], next_page_token: "q" });
    expect(await list).toMatchObject({ threads: [{ thread_id: "t", pending_events: 3 }], nextPageToken: "q" });
  });
});
