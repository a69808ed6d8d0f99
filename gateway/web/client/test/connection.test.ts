// The connection: beginnings, ends, tokens, time.

import { readFileSync } from "node:fs";

import { describe, expect, it, vi } from "vitest";

import { connect } from "../src/index.js";
import { backoffMs, verdictOf } from "../src/verdict.js";
import { connectedFrame, delta, event, settled, subscribed, World } from "./world.js";

describe("connecting", () => {
  it("happens when something is followed, and says what", async () => {
    const world = new World();
    const client = world.client();
    await settled();
    expect(world.sockets).toHaveLength(0);
    client.thread("t").on("event", () => {});
    const socket = await world.socket();
    expect(String(socket.url)).toBe("wss://gateway.example/v1/stream");
    expect(socket.protocols).toEqual(["clarion.v1.json"]);
    socket.open();
    expect(socket.said).toEqual([
      { type: "connect", id: "connect", token: "t1", protocol: 1, client: "test", subscribe: [{ thread_id: "t" }] },
    ]);
    expect(client.connection).toMatchObject({ state: "CONNECTING", transport: "websocket" });
    socket.say(connectedFrame({ token_expires_at: "2026-01-01T01:00:00Z" }));
    expect(client.connection).toMatchObject({ state: "CONNECTED", userId: "u", connectionId: "c1", tokenExpiresAt: "2026-01-01T01:00:00Z" });
  });

  it.each([
    ["https://g.example", "https://g.example/v1/"],
    ["wss://g.example/v1/stream", "https://g.example/v1/"],
    ["http://g.example:7710/base/", "http://g.example:7710/base/v1/"],
    ["ws://g.example/v1", "http://g.example/v1/"],
  ])("finds the gateway by %s", async (url, base) => {
    const world = new World();
    world.client({ url, transports: ["polling"] }).open();
    await world.advance(0);
    expect((await world.request()).url.href).toBe(`${base}poll`);
  });

  it("goes on after what was seen, and begins what was not seen as asked", async () => {
    const world = new World();
    const client = world.client();
    client.thread("t").on("event", () => {});
    client.thread("u", { from: "start", history: "full" }).on("event", () => {});
    const first = await world.connected();
    first.say(subscribed({ id: "connect", from_offset: 4 }), event(4), event(5));
    first.drop();
    expect(world.state).toMatchObject({ state: "DISCONNECTED", reason: "The connection was lost." });
    await world.advance(0);
    const second = await world.socket();
    second.open();
    expect(second.last("connect")!.subscribe).toEqual([
      { thread_id: "u", from: "start", history: "full" },
      { thread_id: "t", after: { epoch: "e", offset: 5 } },
    ]);
  });

  it("what is followed while it connects is followed", async () => {
    const world = new World();
    const client = world.client();
    client.all();
    const socket = await world.socket();
    client.thread("t").on("event", () => {});
    socket.open();
    client.thread("u").on("event", () => {});
    expect(socket.said).toMatchObject([{ type: "connect", subscribe: [{ all: true }] }]);
    socket.say(connectedFrame());
    expect(socket.said.slice(1)).toMatchObject([{ type: "subscribe", thread_id: "t" }, { type: "subscribe", thread_id: "u" }]);
    socket.drop();
    await world.advance(0);
    const next = await world.socket();
    next.open();
    next.say(connectedFrame());
    expect(next.said).toMatchObject([{ type: "connect", subscribe: [{ all: true }, { thread_id: "t" }, { thread_id: "u" }] }]);
  });

  it("does not begin twice", async () => {
    const world = new World();
    const client = world.client();
    client.open();
    client.open();
    client.reconnect();
    await world.connected();
    expect(world.sockets).toHaveLength(0);
  });

  it("close() leaves nothing behind, and later answers are not heard", async () => {
    const world = new World();
    const client = world.client();
    client.thread("t").on("event", () => {});
    const socket = await world.connected({ token_expires_at: "2026-01-01T01:00:00Z" });
    client.close();
    expect(socket.gone).toBe(true);
    expect(world.pendingTimers).toBe(0);
    expect(world.watchers).toBe(0);
    expect(world.state).toMatchObject({ state: "DISCONNECTED", reason: "" });
    await world.advance(3_600_000);
    expect(world.sockets).toHaveLength(0);
  });

  it("close() inside the CONNECTED handler ends everything", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
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

  it("what was said while it connected goes out before what is said because it is connected", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
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

  it("on a server, without an address, harms nothing", () => {
    expect(() => connect({ token: "x" })).not.toThrow();
  });

  it("in a worker, to where its script came from", async () => {
    vi.stubGlobal("location", new URL("https://app.example/worker.js"));
    const world = new World();
    world.client({ url: undefined }).open();
    const socket = await world.socket();
    vi.unstubAllGlobals();
    expect(socket.url.href).toBe("wss://app.example/v1/stream");
  });

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

  it("close() when the next transport is tried ends everything", async () => {
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

  it("a JSON error of an ingress without a gateway behind it is no final word", async () => {
    const world = new World();
    world.client({ transports: ["sse"] }).open();
    await (await world.request("/v1/stream")).answer({ code: "NotFound", message: "no route" }, 404);
    expect(world.state.state).toBe("DISCONNECTED");
  });
});

describe("coming back", () => {
  it("waits longer each time, spread over the whole interval, and not for ever", () => {
    const world = new World();
    world.chance = 1;
    const waits = [0, 1, 2, 20, 2000].map((attempt) => backoffMs(attempt, 0, world.environment));
    expect(waits).toEqual([250, 500, 1000, 20_000, 20_000]);
    world.chance = 0;
    expect(backoffMs(5, 0, world.environment)).toBe(0);
    expect(backoffMs(0, 500, world.environment)).toBe(500);
  });

  it.each([
    ["retry_after_ms", [{ type: "error", code: "RATE_LIMITED", reconnect: true, retry_after_ms: 7000 }], 4429, 7000],
    ["reconnect_after_ms", [{ type: "going_away", reconnect_after_ms: 9000 }], 1001, 9000],
    ["the close code's own", [], 4429, 5000],
    ["nothing", [], 1006, 0],
  ])("not before %s", async (_, frames, code, least) => {
    const world = new World();
    world.client().open();
    const socket = await world.connected();
    socket.say(...frames);
    socket.drop(code);
    expect(world.state).toMatchObject({ state: "DISCONNECTED", retryAt: world.now + least });
    await world.advance(least - 1);
    expect(world.sockets).toHaveLength(0);
    await world.advance(1);
    expect(world.sockets).toHaveLength(1);
  });

  it("not before retry_after_ms, however often the page is looked at", async () => {
    const world = new World();
    world.client().open();
    const socket = await world.connected();
    socket.say({ type: "error", code: "RATE_LIMITED", reconnect: true, retry_after_ms: 7000 });
    socket.drop(4429);
    await world.notice("shown");
    await world.notice("online");
    await world.advance(6_999);
    expect(world.sockets).toHaveLength(0);
    expect(world.state).toMatchObject({ state: "DISCONNECTED", code: "RATE_LIMITED", retryAt: world.now + 1 });
    await world.advance(1);
    expect(world.sockets).toHaveLength(1);
  });

  it("begins its waits anew after a connection that lived", async () => {
    const world = new World();
    world.chance = 1;
    world.client({ transports: ["websocket"] }).open();
    for (const wait of [250, 500, 1000]) {
      (await world.connected()).drop();
      expect(world.state.retryAt! - world.now).toBe(wait);
      await world.advance(wait);
    }
    const socket = await world.connected();
    await world.advance(5_000);
    socket.drop();
    expect(world.state.retryAt! - world.now).toBe(250);
  });

  it("does not take a connection that lived for a moment for one that works", async () => {
    const world = new World();
    world.chance = 1;
    world.client({ transports: ["websocket"] }).open();
    for (const wait of [250, 500, 1000]) {
      const socket = await world.connected();
      await world.advance(1_000);
      socket.drop();
      expect(world.state.retryAt! - world.now).toBe(wait);
      await world.advance(wait);
    }
  });

  it("stays away when it is told to, says why, and comes back when the page asks", async () => {
    const world = new World();
    const client = world.client();
    client.open();
    const socket = await world.connected();
    socket.say({ type: "error", code: "PERMISSION_DENIED", user_message: "No." });
    socket.drop(4403);
    expect(world.state).toMatchObject({ state: "ERROR", reason: "No.", code: "PERMISSION_DENIED" });
    await world.advance(3_600_000);
    expect(world.sockets).toHaveLength(0);
    client.reconnect();
    await world.connected();
    expect(world.state.state).toBe("CONNECTED");
  });

  it("when all threads were refused, since nothing is followed then", async () => {
    const world = new World();
    const client = world.client();
    client.all();
    const first = await world.connected();
    first.say({ type: "error", code: "LOG_UNAVAILABLE", thread_id: "t", retry_after_ms: 1 });
    expect(world.state.state).toBe("CONNECTED");
    first.say({ type: "error", id: "connect", code: "GATEWAY_UNAVAILABLE", message: "no answer", retry_after_ms: 50 });
    expect(world.state).toMatchObject({ state: "DISCONNECTED", reason: "no answer", code: "GATEWAY_UNAVAILABLE", retryAt: world.now + 50 });
    await world.advance(50);
    const second = await world.socket();
    second.open();
    expect(second.last("connect")!.subscribe).toEqual([{ all: true }]);
  });

  it("after close() with neither the token nor the connection of before", async () => {
    const world = new World();
    const client = world.client({ transports: ["polling"] });
    client.open();
    await world.advance(0);
    await (await world.request("/v1/poll")).answer({ connection_id: "c1", frames: [connectedFrame()] });
    client.close();
    world.token = "of another user";
    void client.threads().catch(() => {});
    expect((await world.request("/v1/threads")).token).toBe("of another user");
    client.open();
    await world.advance(0);
    const poll = await world.request("/v1/poll");
    expect(poll.token).toBe("of another user");
    expect(poll.body).not.toHaveProperty("connection_id");
  });

  // The table of the gateway is the rule; the client knows only the statuses.
  it("agrees with every row of the close table", () => {
    const header = readFileSync(new URL("../../../../proto/contract/close_code.h", import.meta.url), "utf8");
    const codes = new Map([...header.matchAll(/k(\w+) = (\d{4}),/g)].map(([, name, code]) => [name, Number(code)]));
    const rows = [...header.matchAll(/CloseRow\{CloseCode::k(\w+),[^,]+,[^,]+,\s*Reconnect::k(\w+),\s*(\d+)/g)];
    expect(rows.length).toBe(codes.size);
    const then = { No: "stay_away", AfterNewToken: "new_token", AtOnce: "come_back", AfterDelay: "come_back" };
    for (const [, name, reconnect, delay] of rows) {
      if (name === "Normal") continue; // only we say it
      const verdict = verdictOf({ code: codes.get(name!)! });
      expect([name, verdict.then, verdict.afterMs]).toEqual([name, then[reconnect as keyof typeof then], Number(delay)]);
    }
  });

  it("an error followed by 1006 counts", async () => {
    const world = new World();
    world.client({ transports: ["websocket"] }).open();
    const socket = await world.connected();
    socket.say({ type: "error", code: "RATE_LIMITED", reconnect: true, retry_after_ms: 7000 });
    socket.drop(1006);
    expect(world.state.retryAt! - world.now).toBeGreaterThanOrEqual(7000);
  });

  it("an error that was no farewell is not why the connection was cut off", async () => {
    const world = new World();
    world.chance = 0.5;
    world.client({ transports: ["websocket"] }).open();
    const socket = await world.connected();
    socket.say({ type: "error", code: "CONTEXT_INVALID", message: "no such frame" });
    await world.advance(10_000);
    socket.drop();
    expect(world.state).toMatchObject({ state: "DISCONNECTED", reason: "The connection was lost.", code: undefined });
  });

  it("looking at the page does not break retry_after_ms", async () => {
    const world = new World();
    world.client({ transports: ["websocket"] }).open();
    const socket = await world.connected();
    socket.say({ type: "error", code: "RATE_LIMITED", reconnect: true, retry_after_ms: 60_000 });
    socket.drop(4429);
    await world.notice("shown");
    expect(world.sockets).toHaveLength(0);
  });

  it("offline and online do not undo retry_after_ms", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
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
});

describe("tokens", () => {
  it("a refused one is replaced once", async () => {
    const world = new World();
    world.client().open();
    const refuse = async (token: string) => {
      const socket = await world.socket();
      socket.open();
      expect(socket.last("connect")!.token).toBe(token);
      socket.say({ type: "error", code: "UNAUTHENTICATED", reconnect: true, user_message: "Please sign in again." });
      socket.drop(4401);
      await settled();
    };
    await refuse("t1");
    await refuse("t2");
    expect(world.state).toMatchObject({ state: "ERROR", reason: "Please sign in again.", needsToken: true });
    expect(world.tokens).toEqual([false, true]);
  });

  it("a new one is sent before the old one ends", async () => {
    const world = new World();
    world.client({ transports: ["websocket"] }).open();
    const socket = await world.connected({ token_expires_at: "2026-01-01T00:10:00Z" });
    const pings = async (minutes: number) => {
      for (let i = 0; i < minutes; i += 1) {
        socket.say({ type: "ping" });
        await world.advance(60_000);
      }
    };
    await pings(8);
    expect(socket.count("refresh")).toBe(0);
    await pings(1);
    expect(socket.last("refresh")).toMatchObject({ type: "refresh", token: "t2" });
    socket.say({ type: "refreshed", token_expires_at: "2026-01-01T00:20:00Z" });
    expect(world.state).toMatchObject({ state: "CONNECTED", tokenExpiresAt: "2026-01-01T00:20:00Z" });
    await pings(5);
    expect(socket.count("refresh")).toBe(1);
  });

  it("one that has ended by this clock is not refreshed without end", async () => {
    const world = new World();
    world.client({ transports: ["websocket"] }).open();
    const ended = { token_expires_at: "2025-12-31T23:59:50Z" };
    const socket = await world.connected(ended);
    for (const seconds of [10, 20, 40]) {
      socket.say({ type: "ping" });
      const before = socket.count("refresh");
      await world.advance(seconds * 1000 - 1);
      expect(socket.count("refresh")).toBe(before);
      await world.advance(1);
      expect(socket.count("refresh")).toBe(before + 1);
      socket.say({ type: "refreshed", ...ended });
    }
  });

  it("one that lasts longer than any timer is not renewed at once", async () => {
    const world = new World();
    const { setTimeout } = world.environment;
    // As browsers do: what does not fit into 31 bits comes at once.
    world.environment.setTimeout = (action, ms) => setTimeout(action, ms < 2 ** 31 ? ms : 0);
    world.client({ transports: ["websocket"] }).open();
    const socket = await world.connected({ token_expires_at: "2028-01-01T00:00:00Z" });
    await world.advance(60_000);
    expect(world.state.state).toBe("CONNECTED");
    expect([world.tokens, socket.count("refresh")]).toEqual([[false], 0]);
  });

  it("a source that fails to renew one is asked again while the old one counts", async () => {
    const world = new World();
    let failures = 0;
    const token = ({ fresh }: { fresh: boolean }) => {
      if (!fresh) return "t1";
      failures += 1;
      if (failures === 1) throw new Error("the session server is away");
      return "t2";
    };
    world.client({ transports: ["websocket"], token }).open();
    const socket = await world.connected({ token_expires_at: "2026-01-01T00:01:00Z" });
    await world.advance(30_000);
    expect([failures, socket.count("refresh")]).toEqual([1, 0]);
    socket.say({ type: "ping" });
    await world.advance(25_000);
    expect(socket.last("refresh")).toMatchObject({ token: "t2" });
    expect(world.state.state).toBe("CONNECTED");
  });

  it("a new one that comes late is not said on the next connection", async () => {
    const world = new World();
    let late = (_: string) => {};
    const token = ({ fresh }: { fresh: boolean }) => (fresh ? new Promise<string>((resolve) => (late = resolve)) : "t1");
    world.client({ transports: ["websocket"], token }).open();
    const first = await world.connected({ token_expires_at: "2026-01-01T00:01:00Z" });
    await world.advance(30_000);
    first.drop();
    await world.advance(0);
    const second = await world.connected();
    late("of the connection before");
    await settled();
    expect(second.count("refresh")).toBe(0);
  });

  it("nor is it used after close()", async () => {
    const world = new World();
    let late = (_: string) => {};
    let user = "a";
    const token = ({ fresh }: { fresh: boolean }) => (fresh ? new Promise<string>((resolve) => (late = resolve)) : user);
    const client = world.client({ transports: ["websocket"], token });
    client.open();
    await world.connected({ token_expires_at: "2026-01-01T00:01:00Z" });
    await world.advance(30_000);
    client.close();
    late("a, renewed");
    await settled();
    user = "b";
    void client.threads().catch(() => {});
    expect((await world.request("/v1/threads")).token).toBe("b");
  });

  it("two that are refused in a row, the first soon after it was new, ask nobody to sign in", async () => {
    const world = new World();
    world.client({ transports: ["websocket"] }).open();
    (await world.connected()).drop(4401);
    await settled();
    (await world.connected()).drop(1006);
    await world.advance(300);
    const next = await world.socket();
    next.open();
    next.drop(4401); // the cached one, before anything was said
    await settled();
    expect(world.tokens).toEqual([false, true, false, true]);
    await world.connected();
    expect(world.state.state).toBe("CONNECTED");
  });

  it("nobody is signed in: says so, and waits for the page", async () => {
    const world = new World();
    world.token = world.freshToken = null;
    const client = world.client();
    client.open();
    await settled();
    expect(world.state).toMatchObject({ state: "ERROR", needsToken: true });
    world.freshToken = "t3";
    client.reconnect();
    expect((await world.connected()).last("connect")!.token).toBe("t3");
  });

  it("a source that fails is asked again, and the page is told why", async () => {
    const world = new World();
    let calls = 0;
    world
      .client({
        token: async () => {
          calls += 1;
          if (calls === 1) throw new Error("the session server is away");
          return "t";
        },
      })
      .open();
    await settled();
    expect(world.state).toMatchObject({ state: "DISCONNECTED", reason: "No token: the session server is away" });
    await world.advance(0);
    await world.connected();
  });

  it("a page that does not say one is asked again, and somebody is told", async () => {
    const world = new World();
    const late: ((token: string) => void)[] = [];
    world.client({ token: () => new Promise((resolve) => late.push(resolve)) }).open();
    await world.advance(30_000);
    expect(world.states.map(({ reason }) => reason)).toContain("No token in time.");
    expect(late).toHaveLength(2);
    late[0]!("too late");
    late[1]!("t");
    expect((await world.connected()).last("connect")!.token).toBe("t");
    expect(world.sockets).toHaveLength(0);
  });

  it("ones that count for a moment only are not asked for without a pause", async () => {
    const world = new World();
    world.chance = 1;
    world.client({ transports: ["websocket"] }).open();
    for (const wait of [250, 500, 1000]) {
      (await world.connected()).drop(4401);
      await settled();
      (await world.connected()).drop(4401); // the new one
      await settled();
      expect(world.state).toMatchObject({ state: "DISCONNECTED", retryAt: world.now + wait });
      await world.advance(wait);
    }
  });

  it("a fixed one cannot be renewed: its end asks somebody to sign in", async () => {
    const world = new World();
    world.client({ token: "fixed" }).open();
    const socket = await world.connected();
    socket.drop(4401);
    await settled();
    expect(world.state).toMatchObject({ state: "ERROR", needsToken: true });
  });

  it("4401 after each `connected` is not a loop without waits", async () => {
    const world = new World();
    world.chance = 1;
    world.client({ transports: ["websocket"] }).open();
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

  it("a token source that never answers is asked again", async () => {
    const world = new World();
    world.chance = 0.5;
    let calls = 0;
    const token = () => {
      calls += 1;
      return new Promise<string>(() => {});
    };
    world.client({ token }).open();
    await world.advance(29_999);
    expect([calls, world.state.state]).toEqual([1, "CONNECTING"]);
    await world.advance(1);
    expect(world.state).toMatchObject({ state: "DISCONNECTED", reason: "No token in time." });
    await world.advance(1_000);
    expect(calls).toBe(2);
  });

  it("history() without a connection to be had says ClarionError", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
    const asked = client.history("t");
    const caught = asked.catch((e: Error) => e.name);
    await (await world.request()).fail();
    expect(await caught).toBe("ClarionError");
  });

  it("reconnect() out of an ERROR that was not about the token keeps a fixed one", async () => {
    const world = new World();
    const client = world.client({ token: "fixed", transports: ["websocket"] });
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

  it("a token of another user shows nothing of the first one's", async () => {
    const world = new World();
    const client = world.client({ transports: ["websocket"] });
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
});

describe("life signs", () => {
  it("ping and probe are answered", async () => {
    const world = new World();
    world.client().open();
    const socket = await world.connected();
    socket.say({ type: "ping" }, { type: "probe", nonce: "n" });
    expect(socket.said.slice(1)).toEqual([{ type: "pong" }, { type: "probe_reply", nonce: "n" }]);
  });

  it("silence of two and a half heartbeats ends a connection", async () => {
    const world = new World();
    world.client().open();
    const socket = await world.connected({ heartbeat_ms: 1000 });
    await world.advance(2_400);
    socket.say({ type: "ping" });
    await world.advance(2_400);
    expect(world.state.state).toBe("CONNECTED");
    await world.advance(100);
    expect(socket.gone).toBe(true);
    expect(world.state.reason).toBe("");
    expect(world.states.map(({ reason }) => reason)).toContain("The connection went silent.");
  });

  it("a page that was frozen finds out at once", async () => {
    const world = new World();
    world.client().open();
    const socket = await world.connected();
    world.now += 3_600_000; // no timer ran
    await world.notice("shown");
    expect(socket.gone).toBe(true);
    await world.advance(0);
    await world.connected();
  });

  it("offline ends the connection and says so; online ends the wait", async () => {
    const world = new World();
    world.chance = 1;
    world.client().open();
    await world.connected();
    await world.notice("offline");
    expect(world.state).toMatchObject({ state: "DISCONNECTED", reason: "You are offline." });
    await settled();
    expect(world.sockets).toHaveLength(0);
    await world.notice("online");
    await world.connected();
  });

  it("offline may be wrong: it is tried all the same, but seldom", async () => {
    const world = new World();
    world.chance = 1;
    world.client({ transports: ["websocket"] }).open();
    await world.connected();
    await world.notice("offline");
    await world.advance(4_000);
    expect(world.sockets).toHaveLength(0);
    await world.advance(6_000);
    await world.connected();
    expect(world.state.state).toBe("CONNECTED");
  });

  it("offline does not end the wait for somebody to sign in", async () => {
    const world = new World();
    world.client().open();
    (await world.connected()).drop(4403);
    expect(world.state.state).toBe("ERROR");
    await world.notice("offline");
    await world.advance(3_600_000);
    expect(world.state.state).toBe("ERROR");
    expect(world.sockets).toHaveLength(0);
  });

  it("a page that is looked at does not wait", async () => {
    const world = new World();
    world.chance = 1;
    world.client({ transports: ["websocket"] }).open();
    (await world.connected()).drop();
    await world.notice("shown");
    await world.connected();
  });

  it("frames of later versions are passed over", async () => {
    const world = new World();
    const client = world.client();
    const frames: unknown[] = [];
    client.on("frame", ({ type }) => frames.push(type));
    client.open();
    const socket = await world.connected();
    socket.say({ type: "weather", sunny: true });
    expect(frames).toEqual(["connected", "weather"]);
    expect(world.reported).toEqual([]);
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
});
