// Every thread of the user: followed together, and listed.

import { describe, expect, it } from "vitest";

import { Page } from "./page.js";
import { caughtUp, delta, event, missed, rolledBack, subscribed, World } from "./world.js";

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

  it("are asked for anew when they are followed no longer", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    client.all();
    const socket = await world.connected();
    socket.say({ type: "subscribed", all: true, id: "connect" });
    socket.say({ type: "error", code: "GATEWAY_UNAVAILABLE", message: "the service does not answer", retry_after_ms: 1000 });
    expect([socket.gone, world.state.state]).toEqual([true, "DISCONNECTED"]);
    await world.advance(1_000);
    const next = await world.socket();
    next.open();
    expect(next.last("connect")).toMatchObject({ subscribe: [{ all: true }] });
  });

  it("a thread that is closed before it was answered leaves no gap in what all hear", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    const errors: string[] = [];
    const offsets: number[] = [];
    client.on("error", ({ code }) => errors.push(code));
    client.all();
    const socket = await world.connected();
    socket.say({ type: "subscribed", all: true, id: "connect" }, subscribed({ from_offset: 5 }), caughtUp(4));
    client.on("event", ({ offset }) => offsets.push(offset));
    const off = client.thread("t").on("state", () => {});
    const asked = socket.last("subscribe")!;
    off();
    await world.advance(2_000);
    // What the thread was asked for by its name begins further in front, drawn together.
    socket.say(subscribed({ id: asked.id!, from_offset: 3 }), delta(4, "ab", { first_offset: 3 }), caughtUp(4), delta(5, "c"));
    expect([errors, offsets]).toEqual([[], [4, 5]]);
    await world.advance(200);
    expect(socket.last("ack")).toMatchObject({ thread_id: "t", offset: 5 });
  });

  it("a thread that was refused by its name, and is closed, is acknowledged on", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    client.on("event", () => {});
    client.all();
    const socket = await world.connected();
    socket.say({ type: "subscribed", all: true, id: "connect" }, subscribed(), event(1), caughtUp(1));
    const off = client.thread("t").on("state", () => {});
    const asked = socket.last("subscribe")!;
    off();
    await world.advance(2_000);
    socket.say({ type: "error", id: asked.id!, thread_id: "t", code: "RATE_LIMITED", retry_after_ms: 1_000 }, event(2));
    await world.advance(200);
    expect(socket.last("ack")).toMatchObject({ offset: 2 });
  });

  it("the client's handlers hear no text twice when a thread is opened while it streams", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
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

  it("the place of a thread that is followed by its name when all() ends misses nothing", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    client.thread("t").on("event", () => {});
    const end = client.all();
    const socket = await world.connected();
    socket.say(subscribed({ id: "connect" }), delta(1, "a"));
    end(); // asks for it again after 1
    socket.say(delta(2, "b")); // under way
    socket.say(subscribed({ id: socket.last("subscribe")!.id!, from_offset: 2 }), delta(3, "bc", { first_offset: 2 }));
    expect(client.thread("t").state().messages[0]!.text).toBe("abc");
  });

  it("a thread from live on takes nothing from the client's handlers", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    client.on("event", () => {});
    client.all();
    const socket = await world.connected();
    socket.say(subscribed({ last_offset: 3 }), event(1)); // 2 and 3 are still to come
    client.thread("t", { from: "live" }).on("event", () => {});
    expect(socket.last("subscribe")).toMatchObject({ thread_id: "t", after: { epoch: "e", offset: 1 } });
  });

  it("client handlers hear nothing twice when a thread is opened late whose beginning has expired", async () => {
    const page = new Page();
    page.client.on("event", ({ offset }) => page.offsets.push(offset));
    page.client.all();
    page.socket = await page.world.connected();
    page.socket.say(subscribed(), event(1), event(2), event(3), event(4), caughtUp(4));
    page.thread().on("state", () => {});
    const { id, after } = page.socket.last("subscribe")!;
    expect(after).toEqual({ epoch: "e", offset: 0 });
    // Retention has taken 1 and 2 meanwhile.
    page.socket.say(subscribed({ id: id!, from_offset: 3, missed: true, last_offset: 4 }), missed(1, 2), event(3), event(4), caughtUp(4), event(5));
    expect(page.offsets).toEqual([1, 2, 3, 4, 5]);
  });

  it("client handlers hear nothing twice when a thread that rested goes on from before a roll-back they have heard of", async () => {
    const page = new Page();
    const seen: string[] = [];
    page.client.on("event", ({ event_id }) => seen.push(event_id));
    page.client.on("missed", () => seen.push("missed"));
    page.client.all();
    page.socket = await page.world.connected();
    const off = page.thread().on("event", () => {});
    page.socket.say(subscribed({ id: page.socket.last("subscribe")?.id ?? "connect" }), event(1), event(2));
    off();
    await page.world.advance(1_500);
    const rollback = [subscribed({ epoch: "f", from_offset: 2, missed: true }), rolledBack(1, 2)];
    const after = [event(2, { event_id: "y2" }), event(3, { event_id: "y3" })];
    page.socket.say(...rollback, ...after);
    page.thread().on("event", () => {});
    const ask = page.socket.last("subscribe")!;
    expect(ask.after).toEqual({ epoch: "e", offset: 2 });
    page.socket.say({ ...rollback[0], id: ask.id }, rollback[1]!, ...after);
    expect(seen.filter((x) => x !== "missed")).toEqual(["x1", "x2", "y2", "y3"]);
  });

  it("a thread that was opened and closed is followed no longer when all() ends", async () => {
    const page = new Page();
    const end = page.client.all();
    page.client.on("event", ({ offset }) => page.offsets.push(offset));
    page.socket = await page.world.connected();
    page.socket.say(subscribed(), event(1), caughtUp(1));
    page.thread().on("event", () => {});
    page.socket.say(subscribed({ id: page.socket.last("subscribe")!.id!, from_offset: 1 }), event(1), caughtUp(1));
    page.thread().close();
    end();
    const ended = page.socket.said.some((frame) => frame.type === "unsubscribe" && frame.thread_id === "t");
    if (!ended) page.socket.say(event(2), event(3));
    expect([ended, page.offsets]).toEqual([true, [1]]);
  });

  it("threads that were looked at and closed take no place of those that a connection may follow", async () => {
    const page = new Page();
    page.client.all();
    page.socket = await page.world.connected();
    const { socket } = page;
    // The gateway: 128 by name (and all); who unsubscribes gives a place back (hub_frames.cc, `counted`).
    const named = new Set<string>();
    let heard = 0;
    const serve = () => {
      for (const frame of socket.said.slice(heard) as any[]) {
        const { type, thread_id, id } = frame;
        if (!thread_id) continue;
        if (type === "unsubscribe") named.delete(thread_id);
        if (type !== "subscribe") continue;
        if (!named.has(thread_id) && named.size >= 127) socket.say({ type: "error", id, thread_id, code: "RATE_LIMITED", retry_after_ms: 1000 });
        else {
          named.add(thread_id);
          socket.say(subscribed({ id, thread_id }), caughtUp(0, thread_id));
        }
      }
      heard = socket.said.length;
    };
    for (let n = 0; n < 130; n += 1) {
      const thread = page.client.thread(`t${n}`);
      thread.on("event", () => {});
      serve();
      thread.close();
      serve();
    }
    expect(page.errors.map(({ code }) => code)).toEqual([]);
  });

  it("a thread that was refused for the moment, and is not looked at any more, goes on where it is", async () => {
    const page = new Page();
    page.client.on("event", ({ offset }) => page.offsets.push(offset));
    page.client.all();
    page.socket = await page.world.connected();
    page.socket.say(subscribed(), event(1), caughtUp(1));
    page.thread().on("event", () => {});
    const { id } = page.socket.last("subscribe")!;
    page.socket.say({ type: "error", id, thread_id: "t", code: "RATE_LIMITED", message: "", retry_after_ms: 1_000 });
    page.thread().close();
    page.socket.say(event(2));
    expect([await page.acked(), page.offsets]).toEqual([2, [1, 2]]);
    await page.world.advance(60_000);
    expect(page.socket.said.filter(({ type }) => type === "subscribe").length).toBe(1);
  });

  it("what was under way when it ended is nobody's", async () => {
    const page = new Page();
    page.client.on("event", ({ offset }) => page.offsets.push(offset));
    const end = page.client.all();
    page.socket = await page.world.connected();
    page.socket.say(subscribed(), event(1), caughtUp(1));
    end();
    page.socket.say(event(2));
    expect([page.offsets, page.socket.last("ack")]).toMatchObject([[1], { offset: 1 }]);
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
