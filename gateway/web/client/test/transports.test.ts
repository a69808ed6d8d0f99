// The three transports, which one is used, and the way back to the best.

import { describe, expect, it } from "vitest";

import { caughtUp, connectedFrame, delta, event, missed, nextPoll, rolledBack, settled, subscribed, World, type ScriptedRequest } from "./world.js";

const ALL = { type: "subscribed", all: true };

const typesOf = (request: ScriptedRequest) => request.body.messages.map(({ type }: { type: string }) => type);


describe("event streams", () => {
  async function streaming(world: World): Promise<ScriptedRequest> {
    const request = await world.request("/v1/stream");
    await request.stream(connectedFrame());
    return request;
  }

  it("one that a proxy lets through in blocks only gives way to polling", async () => {
    const world = new World();
    world.client({ transports: ["sse", "polling"] }).open();
    const stream = await world.request("/v1/stream");
    stream.stream(connectedFrame());
    await settled();
    expect(world.state).toMatchObject({ state: "CONNECTED", transport: "sse" });
    await world.advance(63_000); // no ping gets through
    expect(world.state.transport).toBe("polling");
  });

  it("carry the same frames", async () => {
    const world = new World();
    const client = world.client({ transports: ["sse"] });
    const offsets: number[] = [];
    client.thread("t").on("event", ({ offset }) => offsets.push(offset));
    const request = await world.request("/v1/stream");
    expect([request.method, request.token]).toEqual(["POST", "t1"]);
    expect(request.body).toEqual([{ type: "connect", id: "connect", protocol: 1, client: "test", subscribe: [{ thread_id: "t" }] }]);
    await request.stream(connectedFrame(), subscribed({ id: "connect" }), event(1));
    expect(client.connection).toMatchObject({ state: "CONNECTED", transport: "sse" });
    // Cut anywhere, with lines that are not for us.
    const text = `retry: 5\n\n: a comment\n\nid: e:2\ndata: ${JSON.stringify(event(2))}\n\n`;
    for (const character of text) await request.bytes(character);
    expect(offsets).toEqual([1, 2]);
  });

  it("carry text with separators of lines that JSON knows none of", async () => {
    const world = new World();
    const client = world.client({ transports: ["sse"] });
    const texts: string[] = [];
    client.thread("t").on("agent_message_delta", (event) => texts.push(event.delta));
    const stream = await streaming(world);
    await stream.say(subscribed({ id: "connect" }), delta(1, "a\u2028data: b\u2029c\r\nd"));
    expect(texts).toEqual(["a\u2028data: b\u2029c\r\nd"]);
  });

  it("pass on what the page says in numbered requests, one at a time", async () => {
    const world = new World();
    const client = world.client({ transports: ["sse"] });
    client.open();
    const stream = await streaming(world);
    client.thread("t").on("event", () => {});
    const first = await world.request("/v1/connections/c1");
    expect(first.body).toMatchObject({ sequence: 1, messages: [{ type: "subscribe", thread_id: "t" }] });
    await stream.say({ type: "probe", nonce: "n" });
    expect(world.requests).toHaveLength(0);
    await first.answer({ next_sequence: 2 });
    const second = await world.request("/v1/connections/c1");
    expect(second.body).toEqual({ sequence: 2, messages: [{ type: "probe_reply", nonce: "n" }] });
  });

  it("say again what was not answered, under the same number", async () => {
    const world = new World();
    const client = world.client({ transports: ["sse"] });
    client.open();
    await streaming(world);
    client.thread("t").on("event", () => {});
    const first = await world.request();
    await first.fail();
    await world.advance(500);
    const again = await world.request();
    expect(again.body).toEqual(first.body);
    await again.answer({ type: "error", code: "GATEWAY_UNAVAILABLE" }, 503);
    await world.advance(999);
    expect(world.requests).toHaveLength(0);
    await world.advance(1);
    expect((await world.request()).body).toEqual(first.body);
  });

  it("end with what the error before the end says", async () => {
    const world = new World();
    world.client({ transports: ["sse"] }).open();
    const request = await streaming(world);
    await request.say({ type: "error", code: "RATE_LIMITED", reconnect: true, retry_after_ms: 3000, user_message: "Slowly." });
    await request.end();
    expect(world.state).toMatchObject({ state: "DISCONNECTED", reason: "Slowly.", retryAt: world.now + 3000 });
  });

  it("end for good, or for a restart, as was said before the end", async () => {
    const refused = new World();
    refused.client({ transports: ["sse"] }).open();
    const first = await streaming(refused);
    await first.say({ type: "error", code: "PERMISSION_DENIED", message: "no" });
    await first.end();
    expect(refused.state).toMatchObject({ state: "ERROR", code: "PERMISSION_DENIED" });

    const restarting = new World();
    restarting.chance = 0.5;
    restarting.client({ transports: ["sse"] }).open();
    const second = await streaming(restarting);
    await second.say({ type: "going_away", reconnect_after_ms: 700 });
    await second.end();
    expect(restarting.state).toMatchObject({ state: "DISCONNECTED", reason: "The service is restarting." });
    expect(restarting.state.retryAt).toBeGreaterThanOrEqual(restarting.now + 700);
  });

  it("end with a refused token: a new one is got at once", async () => {
    const world = new World();
    world.client({ transports: ["sse"] }).open();
    const request = await streaming(world);
    await request.say({ type: "error", code: "UNAUTHENTICATED", reconnect: true, message: "the token has ended" });
    await request.end();
    expect((await world.request("/v1/stream")).token).toBe("t2");
    expect(world.tokens).toEqual([false, true]);
  });

  it("that are refused say why", async () => {
    const world = new World();
    world.client({ transports: ["sse"] }).open();
    await (await world.request()).answer({ type: "error", code: "PERMISSION_DENIED", message: "no" }, 403);
    expect(world.state).toMatchObject({ state: "ERROR", code: "PERMISSION_DENIED" });
  });

  it("of which the gateway knows nothing any more are begun anew", async () => {
    const world = new World();
    const client = world.client({ transports: ["sse"] });
    client.open();
    const stream = await streaming(world);
    client.thread("t").on("event", () => {});
    await (await world.request()).answer({ type: "error", code: "NOT_FOUND", message: "no such connection" }, 404);
    expect(stream.aborted).toBe(true);
    await world.advance(0);
    expect((await world.request("/v1/stream")).body[0].subscribe).toEqual([{ thread_id: "t" }]);
  });

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

  it("say again ever more seldom what is refused for the moment", async () => {
    const world = new World();
    const client = world.client({ transports: ["sse"] });
    client.open();
    const stream = await streaming(world);
    client.thread("t").on("event", () => {});
    const waits: number[] = [];
    for (let said = await world.request(); waits.length < 8; said = await world.request()) {
      const since = world.now;
      await said.answer({ type: "error", code: "RATE_LIMITED" }, 429);
      while (world.requests.length === 0) {
        await stream.say({ type: "ping" });
        await world.advance(500);
      }
      waits.push(world.now - since);
    }
    expect(waits).toEqual([500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000, 10_000]);
  });
});

describe("polls", () => {
  it("say how far the page is, and what it has to say", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    const offsets: number[] = [];
    client.thread("t").on("event", ({ offset }) => offsets.push(offset));
    const first = await nextPoll(world);
    expect(first.token).toBe("t1");
    expect(first.body).toMatchObject({ positions: [], wait: 25 });
    expect(first.body.messages).toMatchObject([{ type: "connect" }, { type: "subscribe", thread_id: "t" }]);
    expect(first.body).not.toHaveProperty("connection_id");
    const { id } = first.body.messages[1];
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), subscribed({ id }), event(1), event(2), caughtUp(2)] });
    expect(client.connection).toMatchObject({ state: "CONNECTED", transport: "polling" });
    const second = await nextPoll(world);
    expect(second.body).toMatchObject({ connection_id: "c1", positions: [{ thread_id: "t", epoch: "e", offset: 2 }] });
    expect(second.body.messages.slice(1)).toMatchObject([{ type: "ack", thread_id: "t", epoch: "e", offset: 2 }]);
    await second.answer({ connection_id: "c1", frames: [event(3)] });
    expect(offsets).toEqual([1, 2, 3]);
  });

  it("that wait are overtaken by what the page has to say, and nothing is seen twice", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    const offsets: number[] = [];
    client.thread("t").on("event", ({ offset }) => offsets.push(offset));
    const first = await nextPoll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), subscribed({ id: first.body.messages[1].id }), event(1)] });
    const waiting = await nextPoll(world);
    client.thread("u").on("event", () => {});
    await world.advance(0);
    const second = await world.request("/v1/poll");
    expect(second.body.messages.slice(1)).toMatchObject([{ type: "subscribe", thread_id: "u" }]);
    // The answers arrive in the wrong order.
    await second.answer({ connection_id: "c1", frames: [event(2), event(3)] });
    await waiting.answer({ connection_id: "c1", frames: [event(2)] });
    expect(offsets).toEqual([1, 2, 3]);
    const third = await nextPoll(world);
    expect(third.body.positions).toMatchObject([{ thread_id: "t", offset: 3 }]);
    await world.advance(100);
    expect(world.requests).toHaveLength(0); // one at a time again
  });

  it("are heard in the order in which they were asked", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    const offsets: number[] = [];
    const errors: string[] = [];
    client.on("error", ({ code }) => errors.push(code));
    client.thread("t").on("event", ({ offset }) => offsets.push(offset));
    const first = await nextPoll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), subscribed({ id: first.body.messages[1].id }), event(1)] });
    const waiting = await nextPoll(world);
    client.thread("u").on("event", () => {});
    await world.advance(0);
    const second = await world.request("/v1/poll");
    await second.answer({ connection_id: "c1", frames: [event(3)] });
    expect(offsets).toEqual([1]);
    await waiting.answer({ connection_id: "c1", frames: [event(2)] });
    expect([offsets, errors]).toEqual([[1, 2, 3], []]);
  });

  it("ask again for a thread that was refused, though the connection was lost meanwhile", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    const off = client.thread("t").on("event", () => {});
    const first = await nextPoll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), subscribed({ id: first.body.messages[1].id }), event(1)] });
    await (await nextPoll(world)).answer({ connection_id: "c1", frames: [{ type: "error", thread_id: "t", code: "NOT_FOUND" }] });
    await (await nextPoll(world)).fail();
    expect(world.state.state).toBe("DISCONNECTED");
    off();
    client.thread("t").on("event", () => {});
    const next = await nextPoll(world);
    expect(next.body.positions).toEqual([]);
    expect(next.body.messages.slice(1)).toMatchObject([{ type: "subscribe", thread_id: "t" }]);
  });

  it("after another transport are a connection of their own", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket", "polling"] });
    client.thread("t").on("event", () => {});
    (await world.socket()).drop();
    const first = await nextPoll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), subscribed({ id: first.body.messages[1].id }), event(1)] });
    await world.advance(10_000);
    (await world.connected({ connection_id: "c2" })).drop(); // it had taken over
    world.requests.length = 0;
    for (let time = 0; time < 2; time += 1) {
      await world.advance(0);
      (await world.socket()).drop();
    }
    const next = await nextPoll(world);
    expect(next.body).not.toHaveProperty("connection_id");
    expect(next.body.messages.slice(1)).toMatchObject([{ type: "subscribe", thread_id: "t", after: { epoch: "e", offset: 1 } }]);
  });

  it("of which one is lost go on as the same connection, and say it again", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    client.all({ ack: "manual" });
    client.thread("t").on("event", () => {});
    const first = await nextPoll(world);
    await first.answer({
      connection_id: "c1",
      frames: [connectedFrame(), { type: "subscribed", all: true }, subscribed({ id: first.body.messages[2].id }), event(1), caughtUp(1)],
    });
    const second = await nextPoll(world);
    expect(second.body.messages[1]).toMatchObject({ type: "ack", offset: 1 });
    await second.fail();
    expect(world.state.state).toBe("DISCONNECTED");
    await world.advance(0);
    const third = await nextPoll(world);
    expect(third.body).toMatchObject({ connection_id: "c1", all: true, positions: [{ thread_id: "t", epoch: "e", offset: 1 }] });
    await third.answer({ connection_id: "c1", frames: [event(2)] });
    expect(world.state).toMatchObject({ state: "CONNECTED", transport: "polling", connectionId: "c1" });
    const fourth = await nextPoll(world);
    expect(fourth.body.messages[1]).toMatchObject({ type: "ack", offset: 2 });
  });

  it("end with going_away, and wait as long as it says", async () => {
    const world = new World();
    world.client({ transports: ["polling"] }).open();
    const first = await nextPoll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), { type: "going_away", reconnect_after_ms: 4000 }] });
    expect(world.state).toMatchObject({ state: "DISCONNECTED", retryAt: world.now + 4000 });
  });

  it("without an answer are given up", async () => {
    const world = new World();
    world.client({ transports: ["polling"] }).open();
    const first = await nextPoll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame()] });
    const second = await nextPoll(world);
    await world.advance(40_000);
    expect(second.aborted).toBe(true);
    expect(world.states.some(({ state }) => state === "DISCONNECTED")).toBe(true);
  });

  it("carry a new token as soon as there is one", async () => {
    const world = new World();
    world.client({ transports: ["polling"] }).open();
    const first = await nextPoll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame({ token_expires_at: "2026-01-01T00:00:10Z" })] });
    await nextPoll(world);
    await world.advance(5_000);
    const next = await world.request("/v1/poll");
    expect(next.token).toBe("t2");
    expect(next.body.messages[1]).toMatchObject({ type: "refresh", token: "t2" });
  });

  it("come back from a lost request at once, though nothing is new", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    client.thread("t").on("event", () => {});
    const first = await nextPoll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), subscribed({ id: first.body.messages[1].id }), caughtUp(0)] });
    await (await nextPoll(world)).fail();
    await world.advance(0);
    const again = await nextPoll(world);
    expect(again.body).toMatchObject({ connection_id: "c1", wait: 0 });
    await again.answer({ connection_id: "c1", frames: [] });
    expect(world.state).toMatchObject({ state: "CONNECTED", connectionId: "c1" });
  });

  it("ask again for what they asked for with a request that was lost", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    client.open();
    const first = await nextPoll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame()] });
    await nextPoll(world);
    client.thread("t").on("event", () => {});
    const lost = await nextPoll(world);
    expect(typesOf(lost)).toEqual(["connect", "subscribe"]);
    await lost.fail();
    await world.advance(0);
    expect(typesOf(await nextPoll(world))).toEqual(["connect", "subscribe"]);
  });

  it("ask again for what was refused after retry_after_ms, not at once", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    client.thread("t").on("event", () => {});
    const first = await nextPoll(world);
    const error = { type: "error", id: first.body.messages[1].id, thread_id: "t", code: "LOG_UNAVAILABLE", retry_after_ms: 5_000 };
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), error] });
    const waits = await nextPoll(world);
    expect(typesOf(waits)).toEqual(["connect"]);
    await world.advance(4_900);
    expect(world.requests).toHaveLength(0);
    await world.advance(100);
    expect(typesOf(await world.request("/v1/poll"))).toEqual(["connect", "subscribe"]);
  });

  it("ask for a thread that the page opens while an answer is taken that has it for another reason", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    const offsets: number[] = [];
    client.all({ ack: "manual" });
    client.on("connection", ({ state }) => {
      if (state === "CONNECTED") client.thread("t").on("event", ({ offset }) => offsets.push(offset));
    });
    const first = await nextPoll(world);
    const all = { type: "subscribed", id: first.body.messages[1].id, all: true };
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), all, { type: "bound", thread_id: "t" }, subscribed(), event(1), caughtUp(1)] });
    const next = await nextPoll(world);
    const asked = next.body.messages[1];
    expect(asked).toMatchObject({ type: "subscribe", thread_id: "t" });
    await next.answer({ connection_id: "c1", frames: [subscribed({ id: asked.id }), event(1), caughtUp(1)] });
    expect(offsets).toEqual([1]);
  });

  it("tell what is missing once, though two of them did", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    const seen: (number | string)[] = [];
    const thread = client.thread("t");
    thread.on("event", ({ offset }) => seen.push(offset));
    thread.on("missed", () => seen.push("missed"));
    const first = await nextPoll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), subscribed({ id: first.body.messages[1].id }), event(1), caughtUp(1)] });
    const waits = await nextPoll(world);
    client.thread("u").on("event", () => {}); // so another request goes out beside it
    const beside = await nextPoll(world);
    const frames = [subscribed({ from_offset: 6, missed: true, last_offset: 7 }), missed(2, 5), event(6), event(7), caughtUp(7)];
    await waits.answer({ connection_id: "c1", frames });
    await beside.answer({ connection_id: "c1", frames: [...frames, missed(8, 9), event(10)] });
    expect(seen).toEqual([1, "missed", 6, 7, "missed", 10]);
  });

  it("all() refused on a later poll does not end in ERROR", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    client.all();
    const first = await nextPoll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), { type: "subscribed", id: first.body.messages[1].id, all: true }] });
    const second = await nextPoll(world);
    expect(second.body.all).toBe(true);
    // Nobody asked for it with this request, so it has no id.
    await second.answer({ connection_id: "c1", frames: [{ type: "error", code: "GATEWAY_UNAVAILABLE", message: "the service does not answer", retry_after_ms: 1000 }] });
    expect(world.state.state).toBe("DISCONNECTED");
  });

  it("after the end of all() its threads are not named any more", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    const end = client.all({ ack: "manual" });
    const first = await nextPoll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), { type: "subscribed", id: first.body.messages[1].id, all: true }, subscribed(), event(1), caughtUp(1)] });
    await nextPoll(world);
    end();
    await world.advance(0);
    const next = await world.request("/v1/poll");
    expect(next.body.messages.map((m: any) => m.type)).toContain("unsubscribe");
    expect(next.body.positions).toEqual([]);
  });

  it("a roll-back that two polls told is one", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    const thread = client.thread("t");
    const seen: string[] = [];
    thread.on("event", ({ event_id }) => seen.push(event_id));
    thread.on("missed", () => seen.push("missed"));
    const first = await nextPoll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), subscribed({ id: first.body.messages[1].id }), event(1), event(2)] });
    const waits = await nextPoll(world);
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

  it("polls say what ends before what begins anew", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    client.thread("t").on("event", () => {});
    const first = await nextPoll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), subscribed({ id: first.body.messages[1].id }), event(1), caughtUp(1)] });
    await nextPoll(world);
    client.thread("t").close();
    client.thread("t", { from: "start" }).on("event", () => {});
    await world.advance(0);
    const next = await world.request("/v1/poll");
    expect(typesOf(next).filter((x: string) => x !== "connect" && x !== "ack")).toEqual(["unsubscribe", "subscribe"]);
  });

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

  it("a roll-back is told once by two polls", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    const seen: (number | string)[] = [];
    const thread = client.thread("t");
    thread.on("event", ({ offset }) => seen.push(offset));
    thread.on("missed", () => seen.push("missed"));
    const first = await nextPoll(world);
    await first.answer({ connection_id: "c1", frames: [connectedFrame(), subscribed({ id: first.body.messages[1].id }), event(1), event(2), caughtUp(2)] });
    const waits = await nextPoll(world);
    client.thread("u").on("event", () => {});
    const beside = await nextPoll(world);
    const frames = [subscribed({ epoch: "f", from_offset: 2, missed: true, last_offset: 1 }), rolledBack(1, 2), caughtUp(1)];
    await waits.answer({ connection_id: "c1", frames });
    await beside.answer({ connection_id: "c1", frames: [...frames, event(2)] });
    expect(seen).toEqual([1, 2, "missed", 2]);
  });
});

describe("which transport", () => {
  it("WebSocket, then an event stream, then polls, without a wait between them", async () => {
    const world = new World();
    const client = world.client();
    client.open();
    (await world.socket()).drop();
    const stream = await world.request("/v1/stream");
    expect(client.connection).toMatchObject({ state: "CONNECTING", transport: "sse" });
    // A proxy that keeps what it gets to itself.
    await stream.stream();
    await world.advance(6_000);
    expect(stream.aborted).toBe(true);
    await (await world.request("/v1/poll")).answer({ connection_id: "c1", frames: [connectedFrame()] });
    expect(client.connection).toMatchObject({ state: "CONNECTED", transport: "polling" });
    expect(world.states.some(({ state }) => state === "DISCONNECTED")).toBe(false);
  });

  it("a WebSocket that only hangs is given up after a while", async () => {
    const world = new World();
    world.client().open();
    const socket = await world.socket();
    await world.advance(8_000);
    expect(socket.gone).toBe(true);
    await world.request("/v1/stream");
  });

  it("a browser that does not even try to make a WebSocket gets an event stream", async () => {
    const world = new World();
    world.environment.WebSocket = class {
      constructor() {
        throw new DOMException("blocked by the page's policy", "SecurityError");
      }
    } as unknown as typeof WebSocket;
    world.client().open();
    await world.request("/v1/stream");
  });

  it("where there is no WebSocket none is tried", async () => {
    const world = new World();
    world.environment.WebSocket = undefined;
    const client = world.client();
    client.open();
    await world.request("/v1/stream");
    expect(client.connection.transport).toBe("sse");
  });

  it("a gateway that is away is not three times away: it is waited for, and asked over the best first", async () => {
    const world = new World();
    world.client().open();
    for (let round = 1; round <= 3; round += 1) {
      (await world.socket()).drop();
      await (await world.request("/v1/stream")).fail();
      // Now and then the polls are tried too: it may be the proxy that cuts event streams off.
      if (round === 3) {
        await world.advance(0);
        await (await world.request("/v1/poll")).fail();
      }
      expect(world.state.state).toBe("DISCONNECTED");
      await world.advance(0);
    }
    await world.connected();
    expect(world.state.transport).toBe("websocket");
  });

  it("a proxy that has no gateway behind it says nothing against event streams", async () => {
    const world = new World();
    world.client().open();
    (await world.socket()).drop();
    await (await world.request("/v1/stream")).answer({}, 502);
    expect(world.state.state).toBe("DISCONNECTED");
    await world.advance(0);
    await world.connected();
    expect(world.requests).toHaveLength(0);
  });

  it("one that has worked gets another chance first", async () => {
    const world = new World();
    world.chance = 1;
    world.client().open();
    (await world.connected()).drop();
    await world.advance(250);
    (await world.socket()).drop();
    expect(world.requests).toHaveLength(0);
    await world.advance(500);
    (await world.socket()).drop();
    await world.request("/v1/stream");
  });

  it("what was refused is the gateway's word, and no other transport is tried", async () => {
    const world = new World();
    world.client().open();
    const socket = await world.socket();
    socket.open();
    socket.say({ type: "error", code: "RATE_LIMITED", reconnect: true, retry_after_ms: 1000 });
    socket.drop(4429);
    await settled();
    expect(world.requests).toHaveLength(0);
    expect(world.state).toMatchObject({ state: "DISCONNECTED", retryAt: world.now + 1000 });
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
});

describe("back to a better transport", () => {
  async function onStream(world: World): Promise<ScriptedRequest> {
    const client = world.client();
    client.thread("t").on("event", () => {});
    (await world.socket()).drop();
    const stream = await world.request("/v1/stream");
    await stream.stream(connectedFrame(), subscribed({ id: "connect" }), event(1), caughtUp(1));
    await world.advance(200);
    await (await world.request("/v1/connections/c1")).answer({ next_sequence: 2 }); // the ack
    return stream;
  }

  it("it is tried beside the one that works, and takes over when it has spoken", async () => {
    const world = new World();
    const stream = await onStream(world);
    await world.advance(10_000);
    const socket = await world.socket();
    socket.open();
    expect(socket.last("connect")!.subscribe).toEqual([]);
    await stream.say(event(2));
    expect(stream.aborted).toBe(false);
    socket.say(connectedFrame({ connection_id: "c2" }));
    await settled();
    expect(stream.aborted).toBe(true);
    expect(world.state).toMatchObject({ state: "CONNECTED", transport: "websocket", connectionId: "c2" });
    expect(socket.last("subscribe")).toMatchObject({ thread_id: "t", after: { epoch: "e", offset: 2 } });
    expect(world.states.some(({ state }) => state === "DISCONNECTED")).toBe(false);
  });

  it("one that fails is tried less and less often, and costs the other nothing", async () => {
    const world = new World();
    const stream = await onStream(world);
    for (const wait of [10_000, 20_000, 40_000]) {
      await stream.say({ type: "ping" });
      await world.advance(wait - 300); // the clock has gone on a little before the first
      await world.advance(300);
      (await world.socket()).drop();
      await settled();
    }
    expect(stream.aborted).toBe(false);
    await stream.say({ type: "ping" });
    await world.advance(50_000);
    expect(world.sockets).toHaveLength(0);
    await world.notice("shown"); // the network may be another one
    await world.advance(1_000);
    expect(world.sockets).toHaveLength(1);
  });

  it("a trial that hangs is given up", async () => {
    const world = new World();
    const stream = await onStream(world);
    await world.advance(10_000);
    const socket = await world.socket();
    await world.advance(8_000);
    expect(socket.gone).toBe(true);
    expect(stream.aborted).toBe(false);
  });

  it("a trial that was given up and ends late does not end the next one", async () => {
    const world = new World();
    world.client().open();
    (await world.socket()).drop();
    await (await world.request("/v1/stream")).answer({}, 404);
    await world.advance(0);
    await (await world.request("/v1/poll")).answer({ connection_id: "c1", frames: [connectedFrame()] });
    await world.advance(10_000);
    await world.request("/v1/poll");
    const socket = await world.socket();
    await world.advance(8_000);
    const stream = await world.request("/v1/stream");
    socket.drop(); // as browsers say it, some time after close()
    await settled();
    expect(stream.aborted).toBe(false);
    await stream.stream(connectedFrame({ connection_id: "c2" }));
    expect(world.state).toMatchObject({ state: "CONNECTED", transport: "sse", connectionId: "c2" });
  });

  it("from polls the event stream is next, if the WebSocket is still broken", async () => {
    const world = new World();
    world.client().open();
    (await world.socket()).drop();
    await (await world.request("/v1/stream")).answer({}, 404);
    await world.advance(0);
    await (await world.request("/v1/poll")).answer({ connection_id: "c1", frames: [connectedFrame()] });
    await world.advance(30);
    const poll = await world.request("/v1/poll");
    await world.advance(9_970);
    (await world.socket()).drop();
    await (await world.request("/v1/stream")).stream(connectedFrame({ connection_id: "c2" }));
    expect(poll.aborted).toBe(true);
    expect(world.state).toMatchObject({ state: "CONNECTED", transport: "sse", connectionId: "c2" });
  });

  it("when the one that works ends, it is used again, and the trial with it is forgotten", async () => {
    const world = new World();
    const stream = await onStream(world);
    await world.advance(10_000);
    const socket = await world.socket();
    await stream.end();
    expect(socket.gone).toBe(true);
    await world.advance(0);
    await (await world.request("/v1/stream")).stream(connectedFrame());
    expect(world.state).toMatchObject({ state: "CONNECTED", transport: "sse" });
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
});
