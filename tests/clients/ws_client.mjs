// A browser written by somebody else: npm's `ws` and the README, nothing of ours.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";

import WebSocket from "ws";

import { Clarion, runTests } from "./program.mjs";

const PATIENCE_MS = 15_000;

const fresh = (kind) => `${kind}-${randomBytes(6).toString("hex")}`;

class Client {
  // Opens, says `connect` and waits for `connected`.
  static async connect(clarion, user, subscribe = []) {
    const client = await Client.open(clarion);
    client.send({ type: "connect", token: clarion.token(user), protocol: 1, client: "ws", subscribe });
    const connected = await client.next("connected");
    assert.equal(connected.user_id, user);
    return client;
  }

  static async open(clarion, protocols = ["clarion.v1.json"]) {
    const client = new Client();
    client.frames = [];
    client.seen = 0;
    client.wake = () => {};
    client.socket = new WebSocket(clarion.stream, protocols);
    client.socket.on("message", (data, isBinary) => {
      const frame = isBinary ? { type: "binary" } : JSON.parse(data.toString());
      if (frame.type === "ping") client.send({ type: "pong" });
      else client.frames.push(frame);
      client.wake();
    });
    client.closed = new Promise((resolve) => client.socket.on("close", (code) => {
      client.closeCode = code;
      client.wake();
      resolve(code);
    }));
    await new Promise((resolve, reject) => {
      client.socket.on("open", resolve);
      client.socket.on("error", reject);
    });
    return client;
  }

  send(frame) {
    this.socket.send(typeof frame === "string" || Buffer.isBuffer(frame) ? frame : JSON.stringify(frame));
  }

  // The next frame, which must be of this type.
  async next(type) {
    const frame = await this.any();
    assert.equal(frame.type, type, `instead of ${type} came ${JSON.stringify(frame)}`);
    return frame;
  }

  async any() {
    const giveUp = setTimeout(() => this.wake(), PATIENCE_MS);
    const giveUpAt = Date.now() + PATIENCE_MS;
    while (this.frames.length === this.seen) {
      if (this.closeCode !== undefined) throw new Error(`closed with ${this.closeCode}`);
      if (Date.now() >= giveUpAt) throw new Error("nothing came");
      await new Promise((resolve) => { this.wake = resolve; });
    }
    clearTimeout(giveUp);
    return this.frames[this.seen++];
  }

  // Exactly these offsets, in this order, with nothing in between; compacted events cover several.
  async events(from, to) {
    const events = [];
    for (let offset = from; offset <= to; offset = events.at(-1).offset + 1) {
      const event = await this.any();
      const first = event.first_offset ?? event.offset;
      assert.equal(first, offset, `instead of offset ${offset} came ${JSON.stringify(event)}`);
      events.push(event);
    }
    assert.equal(events.at(-1).offset, to);
    return events;
  }

  async subscribed(threadId) {
    const frame = await this.next("subscribed");
    assert.equal(frame.thread_id, threadId);
    return frame;
  }

  close() {
    this.socket.close();
    return this.closed;
  }
}

const binaries = process.argv[2];
const clarion = await Clarion.start(binaries);

async function publish(user, thread, run, ...more) {
  return clarion.python("publish", "--user", user, "--thread", thread, "--run", run, ...more);
}

const tests = [
  ["the Python client's own tests pass", async () => {
    const passed = await clarion.python("check");
    assert.ok(passed.length >= 11, JSON.stringify(passed));
  }],

  ["what was published before is replayed, what is published after is live, in order from offset 1", async () => {
    const [user, thread, run] = [fresh("user"), fresh("thread"), fresh("run")];
    await publish(user, thread, run, "--start", "--count", "40");
    const client = await Client.connect(clarion, user, [{ thread_id: thread, history: "full" }]);
    const subscribed = await client.subscribed(thread);
    assert.equal(subscribed.from_offset, 1);
    assert.equal(subscribed.last_offset, 41);
    assert.deepEqual(subscribed.active_runs, [{ run_id: run, agent_name: "outsider", offset: 1 }]);
    const [first, second] = await client.events(1, 41);
    assert.equal(first.type, "agent_started");
    assert.equal(second.delta, "word 1 ");
    assert.equal(second.user_id, user);
    assert.equal((await client.next("caught_up")).offset, 41);

    const answers = await publish(user, thread, run, "--first", "41", "--count", "30", "--complete");
    assert.ok(answers.every((answer) => answer.disposition === "DISPOSITION_DELIVERING"), JSON.stringify(answers[0]));
    const live = await client.events(42, 72);
    assert.equal(live.at(-1).type, "agent_completed");
    assert.equal(live.at(-1).outcome, "success");
    await client.close();
  }],

  ["the deltas of one message come as one event, unless all are asked for", async () => {
    const [user, thread, run] = [fresh("user"), fresh("thread"), fresh("run")];
    await publish(user, thread, run, "--start", "--count", "9", "--complete");
    const full = await Client.connect(clarion, user, [{ thread_id: thread, history: "full", from: "start" }]);
    const { last_offset } = await full.subscribed(thread);
    const all = await full.events(1, last_offset);
    assert.equal(all.length, last_offset);
    await full.close();

    const client = await Client.connect(clarion, user, [{ thread_id: thread, from: "start" }]);
    const { epoch } = await client.subscribed(thread);
    const [started, message, ...rest] = await client.events(1, last_offset);
    assert.deepEqual([started.type, started.first_offset], ["agent_started", undefined]);
    assert.equal(message.first_offset, 2);
    const parts = all.slice(1, message.offset);
    assert.equal(message.delta, parts.map(({ delta }) => delta).join(""));
    assert.equal(message.event_id, parts.at(-1).event_id);
    assert.deepEqual(rest, all.slice(message.offset));
    await client.close();

    // Inside it, as only a client of another kind would be: exactly the rest.
    const inside = await Client.connect(clarion, user, [{ thread_id: thread, after: { epoch, offset: 4 } }]);
    await inside.subscribed(thread);
    const [remainder] = await inside.events(5, last_offset);
    assert.equal(remainder.delta, parts.slice(3).map(({ delta }) => delta).join(""));
    await inside.close();
  }],

  ["a client that was away goes on after its position", async () => {
    const [user, thread, run] = [fresh("user"), fresh("thread"), fresh("run")];
    await publish(user, thread, run, "--start", "--count", "9");
    const before = await Client.connect(clarion, user, [{ thread_id: thread }]);
    const { epoch } = await before.subscribed(thread);
    await before.events(1, 10);
    await before.close();

    await publish(user, thread, run, "--first", "10", "--count", "10");
    const after = await Client.connect(clarion, user, [{ thread_id: thread, after: { epoch, offset: 6 } }]);
    const subscribed = await after.subscribed(thread);
    assert.equal(subscribed.from_offset, 7);
    assert.equal(subscribed.epoch, epoch);
    assert.equal(subscribed.missed, undefined);
    await after.events(7, 20);
    await after.next("caught_up");
    await after.close();
  }],

  ["without a position, a finished run that was acknowledged does not come again, an open one does", async () => {
    const [user, thread, done, open] = [fresh("user"), fresh("thread"), fresh("run"), fresh("run")];
    await publish(user, thread, done, "--start", "--count", "3", "--complete");
    const first = await Client.connect(clarion, user, [{ thread_id: thread }]);
    const { epoch } = await first.subscribed(thread);
    await first.events(1, 5);
    await first.next("caught_up");
    await publish(user, thread, open, "--start", "--count", "4");
    await first.events(6, 10);
    first.send({ type: "ack", id: "a1", thread_id: thread, epoch, offset: 8 });
    const acked = await first.next("acked");
    assert.deepEqual([acked.id, acked.offset], ["a1", 8]);
    await first.close();

    const second = await Client.connect(clarion, user, [{ thread_id: thread }]);
    assert.equal((await second.subscribed(thread)).from_offset, 6);
    await second.events(6, 10);
    await second.next("caught_up");
    await second.close();
  }],

  ["after everything was acknowledged nothing comes again", async () => {
    const [user, thread, run] = [fresh("user"), fresh("thread"), fresh("run")];
    await publish(user, thread, run, "--start", "--count", "2", "--complete");
    const first = await Client.connect(clarion, user, [{ thread_id: thread }]);
    const { epoch } = await first.subscribed(thread);
    await first.events(1, 4);
    await first.next("caught_up");
    first.send({ type: "ack", id: "a", thread_id: thread, epoch, offset: 4 });
    await first.next("acked");
    await first.close();
    const second = await Client.connect(clarion, user, [{ thread_id: thread }]);
    assert.equal((await second.subscribed(thread)).from_offset, 5);
    assert.equal((await second.next("caught_up")).offset, 4);
    await second.close();
  }],

  ["connect with as many positions as are allowed, of the longest ids, is accepted", async () => {
    const longest = (kind, number) => `${kind}${number}`.padEnd(128, "x");
    const after = Array.from({ length: 1024 }, (_, number) => (
      { thread_id: longest("t", number), epoch: longest("e", 0), offset: Number.MAX_SAFE_INTEGER }));
    const client = await Client.connect(clarion, fresh("user"), [{ all: true, after }]);
    assert.equal((await client.next("subscribed")).all, true);
    await client.close();
  }],

  ["somebody else's thread looks like one that does not exist, and stays silent", async () => {
    const [owner, thread, run] = [fresh("user"), fresh("thread"), fresh("run")];
    await publish(owner, thread, run, "--start", "--count", "3");
    const nobody = fresh("thread");
    const stranger = await Client.connect(clarion, fresh("stranger"), [{ thread_id: thread }, { thread_id: nobody }]);
    const foreign = await stranger.subscribed(thread);
    const unknown = await stranger.subscribed(nobody);
    assert.deepEqual({ ...foreign, thread_id: "" }, { ...unknown, thread_id: "" });
    assert.equal(foreign.claim, true);
    assert.equal(foreign.offset, 0);
    await publish(owner, thread, run, "--first", "4", "--count", "3");
    // Its own thread is the proof that the silence on the other is not slowness.
    const own = fresh("thread");
    stranger.send({ type: "ack", id: "probe", thread_id: thread, epoch: "", offset: 1 });
    assert.equal((await stranger.next("error")).id, "probe");
    stranger.send({ type: "subscribe", id: "own", thread_id: own });
    assert.equal((await stranger.subscribed(own)).id, "own");
    await stranger.close();
  }],

  ["a claim goes live when the thread becomes the user's", async () => {
    const [user, thread, run] = [fresh("user"), fresh("thread"), fresh("run")];
    const client = await Client.connect(clarion, user, [{ thread_id: thread, history: "full" }]);
    assert.equal((await client.subscribed(thread)).claim, true);
    await publish(user, thread, run, "--start", "--count", "3");
    const live = await client.subscribed(thread);
    assert.equal(live.claim, undefined);
    assert.equal(live.from_offset, 1);
    const seen = [];
    while (seen.at(-1) !== 4) {
      const frame = await client.any();
      if (frame.type !== "caught_up") seen.push(frame.offset);
    }
    assert.deepEqual(seen, [1, 2, 3, 4]);
    await client.close();
  }],

  ["a run that waits for its browser begins in front of it", async () => {
    const [user, thread] = [fresh("user"), fresh("thread")];
    const client = await Client.connect(clarion, user, [{ all: true }]);
    assert.equal((await client.next("subscribed")).all, true);
    const [answer] = await clarion.python("start-run", "--user", user, "--thread", thread);
    assert.equal(answer.readiness, "READINESS_SUBSCRIBED");
    assert.equal(answer.disposition, "DISPOSITION_DELIVERING");
    assert.equal(answer.offset, 1);
    assert.equal((await client.next("bound")).thread_id, thread);
    // The thread is empty and has no epoch yet; `subscribed` says so, and once more when its first begins.
    assert.equal((await client.subscribed(thread)).epoch, undefined);
    await client.next("caught_up");
    const begun = await client.subscribed(thread);
    assert.ok(begun.epoch);
    assert.equal(begun.from_offset, 1);
    const event = await client.any();
    assert.deepEqual([event.type, event.offset, event.run_id], ["agent_started", 1, answer.run_id]);
    await client.close();
  }],

  ["subscribing to a followed thread again starts where it says", async () => {
    const [user, thread, run] = [fresh("user"), fresh("thread"), fresh("run")];
    await publish(user, thread, run, "--start", "--count", "5", "--complete");
    const client = await Client.connect(clarion, user, [{ all: true }]);
    await client.next("subscribed");
    await client.next("bound");
    const { epoch } = await client.subscribed(thread);
    await client.events(1, 7);
    await client.next("caught_up");
    client.send({ type: "subscribe", id: "s", thread_id: thread, from: "start" });
    assert.deepEqual([(await client.subscribed(thread)).from_offset], [1]);
    await client.events(1, 7);
    await client.next("caught_up");
    client.send({ type: "subscribe", id: "t", thread_id: thread, after: { epoch, offset: 6 } });
    assert.equal((await client.subscribed(thread)).from_offset, 7);
    await client.events(7, 7);
    await client.next("caught_up");
    await client.close();
  }],

  ["garbage is answered with an error and a close code, and others are served on", async () => {
    const bystander = await Client.connect(clarion, fresh("user"));
    const cases = [
      ["not JSON", "{{{", 4400, "CONTEXT_INVALID"],
      ["an unknown type", JSON.stringify({ type: "subscribe_all_of_it" }), 4400, "CONTEXT_INVALID"],
      ["a subscription before connect", JSON.stringify({ type: "subscribe", thread_id: "t" }), 4400, "CONTEXT_INVALID"],
      ["a token that is none", JSON.stringify({ type: "connect", token: "x.y.z", protocol: 1 }), 4401, "UNAUTHENTICATED"],
      ["an array", "[1,2,3]", 4400, "CONTEXT_INVALID"],
    ];
    for (const [name, text, code, reason] of cases) {
      const client = await Client.open(clarion);
      client.send(text);
      const error = await client.next("error");
      assert.equal(error.code, reason, name);
      assert.ok(error.user_message, name);
      assert.equal(await client.closed, code, name);
    }
    bystander.send({ type: "sing", id: "1" });
    const error = await bystander.next("error");
    assert.deepEqual([error.id, error.code, error.reconnect], ["1", "CONTEXT_INVALID", undefined]);
    bystander.send({ type: "subscribe", id: "still here", thread_id: fresh("thread") });
    assert.equal((await bystander.next("subscribed")).id, "still here");
    await bystander.close();
  }],

  ["an expired token is refused", async () => {
    const client = await Client.open(clarion);
    client.send({ type: "connect", token: clarion.token(fresh("user"), -3600), protocol: 1, client: "ws" });
    assert.equal((await client.next("error")).code, "UNAUTHENTICATED");
    assert.equal(await client.closed, 4401);
  }],
];

const failures = await runTests(tests);
await clarion.finish(failures > 0);
process.exit(failures === 0 ? 0 : 1);
