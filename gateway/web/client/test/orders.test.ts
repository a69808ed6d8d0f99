// Rare orders of frames, ends and calls, across what the other tests look at one by one.

import { describe, expect, it } from "vitest";

import { Page } from "./page.js";
import { caughtUp, connectedFrame, delta, event, missed, nextPoll, rolledBack, settled, subscribed, World } from "./world.js";

const ALL = { type: "subscribed", all: true };

describe("polls", () => {
  it("a message whose end is rolled back is asked for again under all(), over polls", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    const offsets: number[] = [];
    client.on("event", ({ offset }) => offsets.push(offset));
    client.all();
    const first = await nextPoll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), { ...ALL, id: first.body.messages[1].id }, subscribed(), delta(5, "abcde", { first_offset: 1 }), caughtUp(5)] });
    const second = await nextPoll(world);
    await second.answer({ connection_id: "c1", frames: [subscribed({ epoch: "f", from_offset: 4, missed: true }), rolledBack(3, 5)] });
    const third = await nextPoll(world);
    // It went whole, and is asked for again: over a WebSocket this subscribe goes out.
    const said = third.body.messages.filter((m: any) => m.type === "subscribe" && m.thread_id === "t");
    // Asked, it says them again; otherwise it goes on where it is.
    const again = said.map(({ id }: any) => [subscribed({ id, epoch: "f" }), delta(1, "a"), delta(2, "b"), delta(3, "c")]).flat();
    await third.answer({ connection_id: "c1", frames: [...again, event(4), event(5)] });
    await world.advance(60_000);
    expect([said.length, offsets]).toEqual([1, [5, 4, 5]]);
  });

  it("a thread that is opened and closed before the next poll is acknowledged on under all()", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    client.on("event", () => {});
    client.all();
    const first = await nextPoll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), { ...ALL, id: first.body.messages[1].id }, subscribed(), event(1), caughtUp(1)] });
    await world.advance(200);
    const waits = await world.request("/v1/poll");
    client.thread("t").on("event", () => {});
    client.thread("t").close();
    const acks: number[] = waits.body.messages.filter((m: any) => m.type === "ack").map((m: any) => m.offset);
    const positions: any[] = [];
    const frames = [[event(2)], [event(3)], [event(4)], []];
    await waits.answer({ connection_id: "c1", frames: frames.shift() });
    for (let n = 0; n < 6; n += 1) {
      await world.advance(300);
      for (const request of world.requests.splice(0)) {
        acks.push(...request.body.messages.filter((m: any) => m.type === "ack").map((m: any) => m.offset));
        positions.push(request.body.positions);
        const asked = request.body.messages.filter((m: any) => m.type === "subscribe" && m.thread_id === "t");
        const again = asked.map(({ id, after }: any) => subscribed({ id, from_offset: (after?.offset ?? 0) + 1 }));
        await request.answer({ connection_id: "c1", frames: [...again, ...(again.length > 0 ? [event(1), event(2)] : []), ...(frames.shift() ?? [])] });
      }
    }
    expect(positions.at(-1)).toMatchObject([{ thread_id: "t", offset: 4 }]);
    expect(acks.at(-1)).toBe(4);
  });

  it("an answer that is lost is asked for again though another `subscribed` of the thread came before", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    const offsets: number[] = [];
    client.all({ ack: "manual" });
    const first = await nextPoll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), { ...ALL, id: first.body.messages[1].id }] });
    const waits = await nextPoll(world);
    client.thread("t").on("event", ({ offset }) => offsets.push(offset));
    await world.advance(0);
    const beside = await world.request("/v1/poll");
    expect(beside.body.messages[1]).toMatchObject({ type: "subscribe", thread_id: "t" });
    // all() has joined it meanwhile.
    await waits.answer({ connection_id: "c1", frames: [{ type: "bound", thread_id: "t" }, subscribed(), caughtUp(0)] });
    await beside.fail();
    expect(world.state.state).toBe("DISCONNECTED");
    await world.advance(0);
    let asked: any;
    const more = [event(1), event(2)];
    for (let n = 0; n < 20; n += 1) {
      await world.advance(100);
      for (const request of world.requests.splice(0)) {
        asked ??= request.body.messages.find((m: any) => m.type === "subscribe" && m.thread_id === "t");
        if (asked) await request.answer({ connection_id: "c1", frames: [subscribed({ id: asked.id }), event(1), event(2), caughtUp(2)] });
        else await request.answer({ connection_id: "c1", frames: more.splice(0, 1) });
      }
    }
    expect(offsets).toEqual([1, 2]);
  });
});

describe("events", () => {
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
});

describe("acks", () => {
  it("acks of threads that rest, cut off by the connection's end, do not stop those of others", async () => {
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
});

describe("the connection", () => {
  it("close() inside the CONNECTING handler ends everything", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    const off = client.on("connection", ({ state }) => {
      if (state === "CONNECTING") client.close();
    });
    client.open();
    off();
    await world.advance(120_000);
    expect([world.sockets.length, world.pendingTimers, client.connection.state]).toEqual([0, 0, "DISCONNECTED"]);
  });

  it("also when the next transport is tried", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket", "polling"] });
    client.open();
    const socket = await world.socket();
    client.on("connection", ({ state, transport }) => {
      if (state === "CONNECTING" && transport === "polling") client.close();
    });
    socket.drop();
    await world.advance(1_000);
    expect([world.requests.length, world.pendingTimers, client.connection.state]).toEqual([0, 0, "DISCONNECTED"]);
  });

  it("offline does not undo retry_after_ms", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    client.open();
    const socket = await world.connected();
    socket.say({ type: "error", code: "OVERLOADED", message: "", reconnect: true, retry_after_ms: 30_000 });
    socket.drop(4503);
    await world.notice("offline");
    world.chance = 0.5;
    await world.advance(15_000);
    expect(world.sockets.length).toBe(0);
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

describe("following and acks", () => {
  it("what is missing is told once by two polls, also if nothing came behind it", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    const seen: (number | string)[] = [];
    const thread = client.thread("t");
    thread.on("event", ({ offset }) => seen.push(offset));
    thread.on("missed", () => seen.push("missed"));
    const first = await nextPoll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), subscribed({ id: first.body.messages[1].id }), event(1), caughtUp(1)] });
    const waits = await nextPoll(world);
    client.thread("u").on("event", () => {});
    const beside = await nextPoll(world);
    const frames = [subscribed({ from_offset: 6, missed: true, last_offset: 5 }), missed(2, 5), caughtUp(5)];
    await waits.answer({ connection_id: "c1", frames });
    await beside.answer({ connection_id: "c1", frames: [...frames, event(6)] });
    expect(seen).toEqual([1, "missed", 6]);
  });

  it("ack by hand of a position under all({ack: manual}), without following the thread by its name", async () => {
    const page = new Page();
    page.client.all({ ack: "manual" });
    page.client.on("event", ({ offset }) => page.offsets.push(offset));
    page.socket = await page.world.connected();
    page.socket.say(subscribed(), event(1), event(2), caughtUp(2));
    page.client.thread("t").ack({ epoch: "e", offset: 2 });
    expect(await page.acked()).toBe(2);
  });

  it("ack by hand of a position of before a roll-back that the thread, at rest, has not heard of", async () => {
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

  it("all({history: full}) is full in every poll", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    client.all({ history: "full" });
    const first = await nextPoll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), { ...ALL, id: first.body.messages[1].id }, subscribed(), event(1), caughtUp(1)] });
    expect((await nextPoll(world)).body).toMatchObject({ all: true, history: "full" });
  });

  it("client handlers hear no text twice when what a thread began with takes two polls", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    const texts: string[] = [];
    client.on("event", (e) => texts.push((e as any).delta));
    client.all({ ack: "manual" });
    const first = await nextPoll(world);
    const deltas = [..."abcdef"].map((text, n) => delta(n + 1, text));
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), { ...ALL, id: first.body.messages[1].id }, subscribed(), ...deltas.slice(0, 4), caughtUp(4)] });
    const waits = await nextPoll(world);
    client.thread("t").on("state", () => {});
    await world.advance(0);
    const asks = await world.request("/v1/poll");
    const { id, history } = asks.body.messages.find((m: any) => m.type === "subscribe");
    expect(history).toBe("full");
    await waits.answer({ connection_id: "c1", frames: [] });
    // Two fit in one answer; the others go with the next poll, in the shape that it says (Hub::Resume).
    await asks.answer({ connection_id: "c1", frames: [subscribed({ id }), ...deltas.slice(0, 2)] });
    const next = await nextPoll(world);
    expect(next.body.positions).toMatchObject([{ thread_id: "t", offset: 2 }]);
    const rest = next.body.history === "full" ? deltas.slice(2) : [delta(6, "cdef", { first_offset: 3 })];
    await next.answer({ connection_id: "c1", frames: [...rest, caughtUp(6)] });
    expect(texts.join("")).toBe("abcdef");
  });

});

describe("what is rolled back or missing", () => {
  it("an iteration that is behind loses nothing of a compacted event of which the end is rolled back", async () => {
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

