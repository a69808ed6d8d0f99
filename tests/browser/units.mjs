// The page's own modules, run in the page: the WebSocket client in front of a scripted socket, and what a
// thread's frames make of the timeline. Each entry runs in the browser and throws when it fails.

// Loaded into the page once: `lab` is what the tests below speak.
export const lab = async () => {
  const { Stream, backoffMs } = await import("/stream.js");
  const { Timeline } = await import("/timeline.js");

  function equal(actual, expected, what) {
    const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
    if (a !== b) throw new Error(`${what ?? "value"}: ${a} instead of ${b}`);
  }

  // Stands in for the browser's WebSocket; the test plays the server.
  class ScriptedSocket {
    static CONNECTING = 0;
    static OPEN = 1;
    constructor(url, protocols) {
      this.protocols = protocols;
      this.readyState = ScriptedSocket.CONNECTING;
      this.sent = [];
      ScriptedSocket.all.push(this);
      ScriptedSocket.arrived?.();
    }
    send(text) { this.sent.push(JSON.parse(text)); }
    close() { this.readyState = 3; }
    open() {
      this.readyState = ScriptedSocket.OPEN;
      this.onopen({});
    }
    say(...frames) { for (const frame of frames) this.onmessage({ data: JSON.stringify(frame) }); }
    drop(code) {
      this.readyState = 3;
      this.onclose({ code, reason: "" });
    }
    last(type) { return this.sent.filter((frame) => frame.type === type).at(-1); }
  }

  function start({ random = 0, tokens = ["t1", "t2"] } = {}) {
    ScriptedSocket.all = [];
    window.WebSocket = ScriptedSocket;
    Math.random = () => random;
    const seen = { states: [], frames: [], problems: [], fresh: [] };
    const stream = new Stream({
      url: "ws://nowhere/v1/stream",
      client: "test",
      getToken: async (fresh) => {
        seen.fresh.push(fresh);
        const token = fresh ? tokens[1] : tokens[0];
        return token ? { token } : null;
      },
      onState: (state) => seen.states.push(state),
      onFrame: (frame) => seen.frames.push(frame),
      onProblem: (text) => seen.problems.push(text),
    });
    // The next socket that the client opens.
    const socket = async () => {
      if (ScriptedSocket.all.length === 0) await new Promise((resolve) => { ScriptedSocket.arrived = resolve; });
      return ScriptedSocket.all.shift();
    };
    const connected = async () => {
      const next = await socket();
      next.open();
      next.say({ type: "connected", user_id: "u", heartbeat_ms: 25000 });
      return next;
    };
    stream.open();
    return { stream, seen, socket, connected };
  }

  const subscribed = (more) => ({ type: "subscribed", thread_id: "t", epoch: "e", ...more });
  const event = (offset, more) => ({ offset, type: "custom", event_id: `x${offset}`, thread_id: "t", run_id: "r", agent_name: "a", ...more });
  window.lab = { Stream, Timeline, backoffMs, equal, start, subscribed, event };
};

export const units = {
  "connect asks for everything, and after a lost connection for what follows": async () => {
    const { equal, start, subscribed, event } = window.lab;
    const { socket, connected, seen } = start();
    const first = await connected();
    equal(first.protocols, ["clarion.v1.json"]);
    equal(first.sent[0], { type: "connect", id: first.sent[0].id, token: "t1", protocol: 1, client: "test", subscribe: [{ all: true }] });
    first.say(subscribed({ from_offset: 4 }), event(4), event(5));
    first.drop(1006);
    equal(seen.states.at(-1).state, "DISCONNECTED");
    const second = await socket();
    second.open();
    equal(second.sent[0].subscribe, [{ all: true, after: [{ thread_id: "t", epoch: "e", offset: 5 }] }]);
    equal(seen.frames.filter((frame) => frame.event_id).map((frame) => frame.offset), [4, 5]);
  },

  "of more threads than a connect may name, the most recently active are named": async () => {
    const { equal, start, subscribed, event } = window.lab;
    const { connected, stream, socket } = start();
    const threads = Array.from({ length: 1100 }, (_, number) => `t${number}`);
    const first = await connected();
    for (const thread_id of threads) first.say(subscribed({ thread_id, from_offset: 1 }));
    first.say(event(1, { thread_id: "t0" }));
    first.drop(1006);
    stream.retryNow();
    const second = await connected();
    // The server takes them up in an order of its own: that is no activity.
    for (const thread_id of ["t0", "t5", "t1"]) second.say(subscribed({ thread_id, from_offset: 2 }));
    second.drop(1006);
    stream.retryNow();
    const third = await socket();
    third.open();
    for (const { sent } of [second, third]) {
      const named = sent[0].subscribe[0].after.map(({ thread_id }) => thread_id);
      equal([named.length, named[0], named.at(-1)], [1024, "t77", "t0"]);
    }
  },

  "a connection on which {all} was refused is given up, and the next one asks again": async () => {
    const { equal, start } = window.lab;
    const { socket, connected, seen } = start();
    const first = await connected();
    first.say({ type: "error", code: "LOG_UNAVAILABLE", thread_id: "t", retry_after_ms: 1 });
    equal(seen.states.at(-1).state, "CONNECTED");
    first.say({ type: "error", id: first.sent[0].id, code: "GATEWAY_UNAVAILABLE", message: "no answer", retry_after_ms: 1 });
    equal(seen.states.at(-1).state, "DISCONNECTED");
    equal(seen.states.at(-1).reason, "no answer");
    const second = await socket();
    second.open();
    equal(second.sent[0].subscribe, [{ all: true }]);
  },

  "a repeat is left out, and after a gap the thread is asked for again": async () => {
    const { equal, start, subscribed, event } = window.lab;
    const { connected, seen } = start();
    const socket = await connected();
    socket.say(subscribed({ from_offset: 1 }), event(1), event(1), event(3));
    equal(seen.frames.filter((frame) => frame.event_id).map((frame) => frame.offset), [1]);
    equal(seen.problems.length, 2);
    socket.say(event(4), event(5)); // under way when we asked
    equal(socket.sent.filter((frame) => frame.type === "subscribe").length, 1, "asked");
    const { id, after } = socket.last("subscribe");
    equal(after, { epoch: "e", offset: 1 });
    socket.say(subscribed({ id, from_offset: 2 }), event(2), event(3));
    equal(seen.frames.filter((frame) => frame.event_id).map((frame) => frame.offset), [1, 2, 3]);
  },

  "a compacted event continues at its first offset": async () => {
    const { equal, start, subscribed, event } = window.lab;
    const { connected, seen, stream } = start();
    const socket = await connected();
    socket.say(subscribed({ from_offset: 1 }), event(4, { first_offset: 1 }), event(5));
    equal(seen.problems, []);
    equal(stream.position("t"), { epoch: "e", offset: 5 });
  },

  "a compacted event of which a part was rolled back is discarded whole and asked for again": async () => {
    const { equal, start, subscribed, event } = window.lab;
    const { connected, stream, seen } = start();
    const socket = await connected();
    const missed = (discard_after) =>
      ({ type: "missed", thread_id: "t", epoch: "f", from_offset: discard_after + 1, to_offset: 9, reason: "log_rolled_back", discard_after });
    socket.say(subscribed({ from_offset: 1 }), event(4, { first_offset: 1 }), event(9, { first_offset: 5 }));
    socket.say(subscribed({ epoch: "f", from_offset: 8, missed: true }), missed(7), event(8));
    equal(socket.last("subscribe").after, { epoch: "f", offset: 4 });
    const { id } = socket.last("subscribe");
    socket.say(subscribed({ id, epoch: "f", from_offset: 5 }), event(8, { first_offset: 5 }));
    equal(stream.position("t"), { epoch: "f", offset: 8 });
    // Between two compacted events nothing is lost of either.
    socket.say(subscribed({ epoch: "g", from_offset: 5, missed: true }), missed(4), event(5));
    equal(socket.sent.filter((frame) => frame.type === "subscribe").length, 1);
    equal(seen.problems, []);
  },

  "of compacted events not more than so many are remembered, and none too few": async () => {
    const { equal, start, subscribed, event } = window.lab;
    const { connected, stream, seen } = start();
    const socket = await connected();
    socket.say(subscribed({ from_offset: 1 }));
    for (let n = 1; n <= 200; ++n) socket.say(event(2 * n, { first_offset: 2 * n - 1 }));
    equal(stream.merged.get("t").length, 64);
    socket.say(subscribed({ epoch: "f", from_offset: 4, missed: true }),
      { type: "missed", thread_id: "t", epoch: "f", from_offset: 4, to_offset: 400, reason: "log_rolled_back", discard_after: 3 });
    equal(socket.last("subscribe").after, { epoch: "f", offset: 0 }, "before the event that holds 3");
    equal(seen.problems, []);
  },

  "of a thread that is deleted or left no compacted events are remembered": async () => {
    const { equal, start, subscribed, event } = window.lab;
    const { connected, stream } = start();
    const socket = await connected();
    for (const thread_id of ["t", "u"]) {
      socket.say(subscribed({ thread_id, from_offset: 1 }), event(4, { thread_id, first_offset: 1 }));
    }
    socket.say({ type: "missed", thread_id: "t", epoch: "e", from_offset: 1, to_offset: 4, reason: "deleted" });
    equal([...stream.merged.keys()], ["u"]);
    socket.say({ type: "unsubscribed", thread_id: "u" });
    equal(stream.merged.size, 0);
  },

  "what was missed is passed over, what was rolled back is taken back": async () => {
    const { equal, start, subscribed, event } = window.lab;
    const { connected, stream, seen } = start();
    const socket = await connected();
    socket.say(subscribed({ from_offset: 1 }), { type: "missed", thread_id: "t", epoch: "e", from_offset: 1, to_offset: 9 }, event(10));
    equal(stream.position("t"), { epoch: "e", offset: 10 });
    socket.say(subscribed({ epoch: "f", from_offset: 8, missed: true }),
      { type: "missed", thread_id: "t", epoch: "f", from_offset: 8, to_offset: 10, reason: "log_rolled_back", discard_after: 7 },
      event(8));
    equal(stream.position("t"), { epoch: "f", offset: 8 });
    equal(seen.problems, []);
  },

  "a thread that was asked for from its start is asked for again until it is answered": async () => {
    const { equal, start, subscribed, event } = window.lab;
    const { connected, stream, socket, seen } = start();
    const first = await connected();
    first.say(subscribed({ from_offset: 5 }), event(5));
    stream.subscribe("t", { from: "start" });
    first.say(event(6)); // of the older subscription
    first.drop(1006);
    const second = await socket();
    second.open();
    equal(second.sent[0].subscribe, [{ all: true }, { thread_id: "t", from: "start" }]);
    second.say({ type: "connected" }, subscribed({ id: second.sent[0].id, from_offset: 1 }), event(1));
    second.drop(1006);
    const third = await socket();
    third.open();
    equal(third.sent[0].subscribe, [{ all: true, after: [{ thread_id: "t", epoch: "e", offset: 1 }] }]);
    equal(seen.problems, []);
  },

  "ping and probe are answered": async () => {
    const { equal, start } = window.lab;
    const { connected } = start();
    const socket = await connected();
    socket.say({ type: "ping" }, { type: "probe", nonce: "n" });
    equal(socket.sent.slice(1), [{ type: "pong" }, { type: "probe_reply", nonce: "n" }]);
  },

  "an error that says so keeps the client away": async () => {
    const { equal, start } = window.lab;
    const { connected, seen } = start();
    const socket = await connected();
    socket.say({ type: "error", code: "PERMISSION_DENIED", user_message: "No." });
    socket.drop(4403);
    equal([seen.states.at(-1).state, seen.states.at(-1).reason], ["ERROR", "No."]);
  },

  "retry_after_ms and reconnect_after_ms are the least wait": async () => {
    const { equal, start } = window.lab;
    const first = start();
    let socket = await first.connected();
    socket.say({ type: "error", code: "RATE_LIMITED", reconnect: true, retry_after_ms: 7000 });
    socket.drop(4429);
    equal(first.seen.states.at(-1).retryAt - Date.now() > 6000, true, "waits");
    first.stream.close();
    const second = start();
    socket = await second.connected();
    socket.say({ type: "going_away", reconnect_after_ms: 9000 });
    socket.drop(1001);
    equal(second.seen.states.at(-1).retryAt - Date.now() > 8000, true, "waits");
    second.stream.close();
  },

  "a refused token is replaced once": async () => {
    const { equal, start } = window.lab;
    const { socket, seen } = start();
    const first = await socket();
    first.open();
    first.say({ type: "error", code: "UNAUTHENTICATED", reconnect: true, user_message: "Please sign in again." });
    first.drop(4401);
    const second = await socket();
    second.open();
    equal(second.sent[0].token, "t2");
    second.say({ type: "error", code: "UNAUTHENTICATED", reconnect: true, user_message: "Please sign in again." });
    second.drop(4401);
    equal(seen.states.at(-1), { state: "ERROR", reason: "Please sign in again.", needsToken: true });
    equal(seen.fresh, [false, true]);
  },

  "a token that has ended by this clock is not refreshed without end": async () => {
    const { equal, start } = window.lab;
    const { socket, stream } = start();
    const first = await socket();
    first.open();
    const delays = [];
    const later = window.setTimeout;
    window.setTimeout = (action, ms) => { delays.push(ms); return later(action, ms); };
    const ended = new Date(Date.now() - 10_000).toISOString();
    first.say({ type: "connected", user_id: "u", heartbeat_ms: 25000, token_expires_at: ended },
      { type: "refreshed", token_expires_at: ended });
    window.setTimeout = later;
    equal(delays.filter((ms) => ms < 5000), []);
    stream.close();
  },

  "waits grow, are spread over the whole interval, and end": async () => {
    const { equal, backoffMs } = window.lab;
    equal([0, 1, 2, 20].map((attempt) => backoffMs(attempt, 0, () => 1)), [250, 500, 1000, 20000]);
    equal(backoffMs(5, 0, () => 0), 0);
    equal(backoffMs(0, 500, () => 0), 500);
  },

  "the last ack is said again once the thread is current after a reconnection": async () => {
    const { equal, start, subscribed, event } = window.lab;
    const { connected, stream } = start();
    const first = await connected();
    first.say(subscribed({ from_offset: 1 }), event(1));
    stream.ack("t", "e", 1);
    first.drop(1006);
    const second = await connected();
    equal(second.last("ack"), undefined);
    const acked = new Promise((resolve) => {
      const send = second.send.bind(second);
      second.send = (text) => { send(text); if (JSON.parse(text).type === "ack") resolve(); };
    });
    second.say(subscribed({ from_offset: 2, last_offset: 1 }), { type: "caught_up", thread_id: "t", offset: 1 });
    await acked;
    equal(second.last("ack"), { type: "ack", thread_id: "t", epoch: "e", offset: 1 });
  },

  "a run's text, tools and end make one block": async () => {
    const { Timeline, equal, event, subscribed } = window.lab;
    const timeline = new Timeline("t");
    timeline.begin(subscribed({ from_offset: 1, last_offset: 0 }));
    const say = (offset, type, more) => timeline.event(event(offset, { type, ...more }), "");
    say(1, "agent_started", { input: { question: "q" } });
    say(2, "agent_message_delta", { message_id: "m", delta: "Hel" });
    say(3, "tool_executing", { tool_call_id: "c", tool_name: "grep", arguments: {} });
    say(4, "agent_message_delta", { message_id: "m", delta: "lo", is_final: true });
    say(5, "tool_completed", { tool_call_id: "c", tool_name: "grep", status: "failed", duration_ms: 3 });
    say(6, "agent_completed", { outcome: "incomplete" });
    const [run] = timeline.blocks;
    equal(run.items.map((item) => [item.kind, item.text ?? item.status]), [["message", "Hello"], ["tool", "failed"]]);
    equal([run.state, timeline.last, timeline.blocks.length], ["incomplete", 6, 1]);
  },

  "a rolled back end of a thread disappears, and is said": async () => {
    const { Timeline, equal, event, subscribed } = window.lab;
    const timeline = new Timeline("t");
    timeline.begin(subscribed({ from_offset: 1 }));
    timeline.event(event(1, { type: "agent_message_delta", message_id: "m", delta: "kept " }), "");
    timeline.event(event(2, { type: "agent_message_delta", message_id: "m", delta: "lost" }), "");
    timeline.begin(subscribed({ epoch: "f", from_offset: 2, missed: true }));
    timeline.missed({ type: "missed", epoch: "f", from_offset: 2, to_offset: 2, reason: "log_rolled_back", discard_after: 1 });
    timeline.event(event(2, { type: "agent_message_delta", message_id: "m", delta: "again" }), "");
    equal(timeline.blocks[0].items.map((item) => item.text ?? item.reason), ["kept again", "log_rolled_back"]);
    equal(timeline.position, { epoch: "f", offset: 2 });
  },

  "going on after a reconnection keeps what is there, a start from the beginning does not repeat it": async () => {
    const { Timeline, equal, event, subscribed } = window.lab;
    const timeline = new Timeline("t");
    timeline.begin(subscribed({ from_offset: 1 }));
    timeline.event(event(1), "");
    timeline.event(event(2), "");
    timeline.begin(subscribed({ from_offset: 3 }));
    timeline.event(event(3), "");
    equal(timeline.entries.map((entry) => entry.event.offset), [1, 2, 3]);
    timeline.begin(subscribed({ from_offset: 1 }));
    timeline.event(event(1), "");
    equal(timeline.entries.map((entry) => entry.event.offset), [1]);
  },

  "what is missing at the same place is said once, however often it is subscribed": async () => {
    const { Timeline, equal, event, subscribed } = window.lab;
    const timeline = new Timeline("t");
    const missed = { type: "missed", epoch: "e", from_offset: 1, to_offset: 4, reason: "expired" };
    for (let time = 0; time < 3; ++time) {
      timeline.begin(subscribed({ from_offset: 5, missed: true }));
      timeline.missed(missed);
      timeline.event(event(5), "");
    }
    equal(timeline.blocks.map((block) => block.kind), ["missed", "run"]);
    equal(timeline.entries.length, 2);
    timeline.begin(subscribed({ from_offset: 6 }));
    timeline.event(event(6), "");
    equal(timeline.entries.length, 3);
  },

  "what expired while the page was away is said, and what it has stays": async () => {
    const { Timeline, equal, event, subscribed } = window.lab;
    const timeline = new Timeline("t");
    timeline.begin(subscribed({ from_offset: 1 }));
    timeline.event(event(1), "");
    timeline.begin(subscribed({ from_offset: 5, missed: true }));
    timeline.missed({ type: "missed", epoch: "e", from_offset: 2, to_offset: 4, reason: "expired" });
    timeline.event(event(5), "");
    equal(timeline.entries.map((entry) => entry.event?.offset ?? entry.missed.to_offset), [1, 4, 5]);
    equal(timeline.last, 5);
  },

  "a run whose end was missed does not run for ever": async () => {
    const { Timeline, equal, event, subscribed } = window.lab;
    const timeline = new Timeline("t");
    timeline.begin(subscribed({ from_offset: 1, last_offset: 5, active_runs: [] }));
    timeline.event(event(1, { type: "agent_started" }), "");
    timeline.missed({ type: "missed", epoch: "e", from_offset: 2, to_offset: 5, reason: "expired" });
    timeline.caughtUp();
    equal(timeline.blocks[0].state, "ended");
  },
};
