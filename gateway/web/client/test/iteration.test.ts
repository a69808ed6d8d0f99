// Threads as an async iteration.

import { describe, expect, it } from "vitest";

import type { ClarionEvent } from "../src/index.js";
import { Page } from "./page.js";
import { delta, event, rolledBack, settled, subscribed, World } from "./world.js";

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

  it("BUFFER_OVERFLOW: what the iteration still hands out is not acknowledged by others", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
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

  it("an iteration loses nothing of merged deltas by a roll-back", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
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

  it("two calls of next() are both answered", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    const it = client.thread("t")[Symbol.asyncIterator]();
    const got: number[] = [];
    void it.next().then((r) => got.push((r.value as any).offset));
    void it.next().then((r) => got.push((r.value as any).offset));
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), event(1), event(2));
    await settled();
    expect(got).toEqual([1, 2]);
  });

  it("an iteration that ended, and is left with something waiting, holds no acks up", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
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

  it("that is behind loses nothing of a compacted event of which the end is rolled back", async () => {
    const page = new Page();
    const iteration = page.thread()[Symbol.asyncIterator]();
    page.socket = await page.world.connected();
    page.socket.say(subscribed({ id: "connect" }), delta(5, "abcde", { first_offset: 1 }));
    page.socket.say(subscribed({ epoch: "f", from_offset: 4, missed: true }), rolledBack(3, 5));
    const { id, after } = page.socket.last("subscribe")!;
    expect(after).toEqual({ epoch: "f", offset: 0 });
    page.socket.say(subscribed({ id: id!, epoch: "f" }), delta(1, "a"), delta(2, "b"), delta(3, "c"), delta(4, "X", { is_final: true }));
    let text = "";
    while (!text.endsWith("X")) text += ((await iteration.next()).value as any).delta;
    expect(text).toBe("abcX");
  });
});
