// The WebSocket client of `clarion.v1.json`: connects, resumes, reconnects; knows nothing of the page.
//
// It remembers one position {epoch, offset} per thread, checks that events follow it without gap or
// repeat, and comes back after it on every connection. What it cannot mend it says: see `onState`.

const SUBPROTOCOL = "clarion.v1.json";
const CONNECT_TIMEOUT_MS = 10_000;
const BACKOFF_BASE_MS = 250;
const BACKOFF_CAP_MS = 20_000;
// A connection that lived this long starts the backoff from its beginning again.
const STABLE_AFTER_MS = 5_000;
const REFRESH_BEFORE_EXPIRY_MS = 60_000;
// However soon a token ends, or has ended by this clock: no token is asked for sooner after another.
const LEAST_REFRESH_MS = 5_000;
// Silence of this many heartbeats means that nobody is there any more.
const SILENT_HEARTBEATS = 2.5;
const ACK_EVERY_MS = 200;
const MAX_POSITIONS = 1024; // of one `connect`: stream.proto
const MAX_MERGED = 64; // ranges of one thread
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export const State = Object.freeze({
  CONNECTING: "CONNECTING",
  CONNECTED: "CONNECTED",
  DISCONNECTED: "DISCONNECTED", // comes back by itself
  ERROR: "ERROR", // stays away until open() is called
});

// What a close code says when no `error` came before it: proto/contract/close_code.h.
const CLOSES = new Map([
  [4400, { name: "bad_request", reconnect: false }],
  [4401, { name: "unauthenticated", reconnect: true, newToken: true }],
  [4403, { name: "forbidden", reconnect: false }],
  [4408, { name: "timeout", reconnect: true }],
  [4413, { name: "too_large", reconnect: false }],
  [4429, { name: "rate_limited", reconnect: true, retryAfterMs: 5000 }],
  [4500, { name: "internal", reconnect: true, retryAfterMs: 1000 }],
  [4503, { name: "unavailable", reconnect: true, retryAfterMs: 1000 }],
  [4507, { name: "slow_consumer", reconnect: true }],
]);

function closeRow(code) {
  const row = CLOSES.get(code);
  if (row) return row;
  // Codes of later versions keep the meaning of their HTTP status: 44xx is the client's to mend.
  if (code >= 4400 && code < 4500) return { name: `closed with ${code}`, reconnect: false };
  if (code === 1001) return { name: "the server is going away", reconnect: true };
  return { name: code === 1006 ? "connection lost" : `closed with ${code}`, reconnect: true };
}

// Full jitter: spreads clients that lost the same gateway over the whole interval.
export function backoffMs(attempt, leastMs = 0, random = Math.random) {
  const ceiling = Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** attempt);
  return leastMs + Math.round(random() * ceiling);
}

export class Stream {
  // url: of /v1/stream. client: what the page calls itself.
  // getToken(fresh): resolves to {token}, {refusal} (why there is none) or null (nobody is signed in);
  //   fresh: the last one was refused or is about to end.
  // onState({state, reason, retryAt?, userId?, tokenExpiresAt?}); onFrame(frame, text): every frame
  //   but ping and probe, events only if they continue their thread; onProblem(text).
  constructor({ url, client, getToken, onState, onFrame, onProblem }) {
    this.url = url;
    this.client = client;
    this.getToken = getToken;
    this.onState = onState;
    this.onFrame = onFrame;
    this.onProblem = onProblem;

    this.positions = new Map(); // thread_id -> {epoch, offset}, least recently active first
    // thread_id -> [[first_offset, offset]]: compacted events that were seen, the oldest drawn together
    this.merged = new Map();
    this.asked = new Map(); // thread_id -> {id, from?, after?}: asked for by name, not answered yet
    this.acks = new Map(); // thread_id -> {epoch, offset}: how far the page has come
    this.unsentAcks = new Set();
    this.socket = null;
    this.generation = 0; // of the socket: what an older one says is ignored
    this.wanted = false;
    this.live = false; // between `connected` and the close
    this.attempt = 0;
    this.timers = new Map();
    this.lastError = null;
    this.goingAwayMs = null;
    this.nextId = 1;
  }

  // --- What the page calls ---

  open() {
    this.wanted = true;
    this.attempt = 0;
    this.#connect(false);
  }

  // Ends the connection and forgets every position.
  close() {
    this.wanted = false;
    this.#dropSocket();
    this.positions.clear();
    this.merged.clear();
    this.asked.clear();
    this.acks.clear();
    this.unsentAcks.clear();
    this.#state(State.DISCONNECTED, "signed out");
  }

  // Tries at once instead of waiting for the backoff.
  retryNow() {
    if (this.wanted && this.socket === null) this.#connect(false);
  }

  // from: "unfinished", "start", "live"; or after: {epoch, offset}. What an older subscription of the
  // thread still has under way comes first, then `subscribed`. Without a connection it is remembered and
  // said on the next one.
  subscribe(threadId, { from, after } = {}) {
    const request = { id: this.#id(), from, after };
    this.asked.set(threadId, request);
    if (this.live) this.#send({ type: "subscribe", id: request.id, thread_id: threadId, from, after });
  }

  // The page has processed the thread up to this offset. Sent soon and once, the last one wins.
  ack(threadId, epoch, offset) {
    const at = this.acks.get(threadId);
    if (at && at.epoch === epoch && at.offset === offset) return;
    this.acks.set(threadId, { epoch, offset });
    this.#planAck(threadId);
  }

  position(threadId) {
    return this.positions.get(threadId) ?? null;
  }

  // --- Connecting ---

  async #connect(freshToken) {
    this.#dropSocket();
    const generation = this.generation;
    this.#state(State.CONNECTING, "");
    let credentials = null;
    try {
      credentials = await this.getToken(freshToken);
    } catch (error) {
      if (generation === this.generation) this.#comeBack(`no token: ${error.message}`, 0);
      return;
    }
    if (generation !== this.generation || !this.wanted) return;
    if (!credentials?.token) {
      this.#giveUp(credentials?.refusal ?? "Please sign in again.", true);
      return;
    }
    let socket;
    try {
      socket = new WebSocket(this.url, [SUBPROTOCOL]);
    } catch (error) {
      this.#giveUp(error.message, false);
      return;
    }
    this.socket = socket;
    this.lastError = null;
    this.goingAwayMs = null;
    this.#timer("connect", CONNECT_TIMEOUT_MS, () => {
      if (generation !== this.generation) return;
      this.#dropSocket();
      this.#comeBack("no answer from the server", 0);
    });
    const current = (handler) => (event) => {
      if (generation === this.generation) handler(event);
    };
    socket.onopen = current(() => this.#send({
      type: "connect",
      id: this.connectId = this.#id(),
      token: credentials.token,
      protocol: 1,
      client: this.client,
      subscribe: this.#subscriptions(),
    }));
    socket.onmessage = current((event) => this.#receive(event.data));
    socket.onclose = current((event) => this.#closed(event));
  }

  // Everything of the user, each known thread after what was seen of it, unless its start was asked for.
  #subscriptions() {
    const asked = [...this.asked].filter(([, request]) => !request.after);
    // A thread without events has no epoch yet, and nothing to go on after.
    const known = [...this.positions]
      .filter(([id, at]) => at.epoch && !this.asked.get(id)?.from)
      .slice(-MAX_POSITIONS);
    const all = { all: true };
    if (known.length > 0) {
      all.after = known.map(([thread_id, at]) => ({ thread_id, epoch: at.epoch, offset: at.offset }));
    }
    return [all, ...asked.map(([thread_id, request]) => ({ thread_id, from: request.from }))];
  }

  #closed(event) {
    const row = closeRow(event.code);
    const error = this.lastError;
    const reason = error?.user_message || error?.message || event.reason || row.name;
    const leastMs = this.goingAwayMs ?? error?.retry_after_ms ?? row.retryAfterMs ?? 0;
    this.#dropSocket();
    if (!this.wanted) return;
    if (row.newToken) {
      // Once with a new token; a refusal of that one is final.
      if (this.triedFreshToken) this.#giveUp(reason, true);
      else {
        this.triedFreshToken = true;
        this.#connect(true);
      }
      return;
    }
    const comesBack = error && event.code >= 4000 ? error.reconnect === true : row.reconnect;
    if (comesBack) this.#comeBack(reason, leastMs);
    else this.#giveUp(reason, false);
  }

  #comeBack(reason, leastMs) {
    const delay = backoffMs(this.attempt, leastMs);
    this.attempt += 1;
    this.#state(State.DISCONNECTED, reason, { retryAt: Date.now() + delay });
    this.#timer("reconnect", delay, () => this.#connect(false));
  }

  #giveUp(reason, needsToken) {
    this.wanted = false;
    this.#dropSocket();
    this.#state(State.ERROR, reason, { needsToken });
  }

  #dropSocket() {
    this.generation += 1;
    this.live = false;
    for (const name of [...this.timers.keys()]) this.#clear(name);
    const socket = this.socket;
    this.socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    if (socket.readyState <= WebSocket.OPEN) socket.close(1000);
  }

  // --- Frames ---

  #receive(text) {
    this.#expectSomething();
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      this.onProblem("The server sent something that is not JSON.");
      return;
    }
    switch (frame.type) {
      case "ping":
        this.#send({ type: "pong" });
        return;
      case "probe":
        this.#send({ type: "probe_reply", nonce: frame.nonce });
        return;
      case "connected":
        this.#connected(frame);
        break;
      case "refreshed":
        this.#planRefresh(frame.token_expires_at);
        this.#state(State.CONNECTED, "", { tokenExpiresAt: frame.token_expires_at });
        break;
      case "subscribed":
        this.#subscribed(frame);
        break;
      case "missed":
        this.#missed(frame);
        break;
      case "unsubscribed":
        this.merged.delete(frame.thread_id);
        break;
      case "caught_up":
        // The last ack may have gone down with the connection before.
        if (this.acks.has(frame.thread_id)) this.#planAck(frame.thread_id);
        break;
      case "error":
        this.lastError = frame;
        // It answers `connect`, and names no thread: {all} was not to be had, so nothing is followed.
        if (this.live && frame.id === this.connectId && !frame.thread_id) {
          this.onFrame(frame, text);
          this.#dropSocket();
          this.#comeBack(frame.user_message || frame.message || frame.code, frame.retry_after_ms ?? 0);
          return;
        }
        // It may be the answer to an ack.
        if (frame.retry_after_ms && !frame.id && this.acks.has(frame.thread_id)) {
          this.#planAck(frame.thread_id, frame.retry_after_ms);
        }
        break;
      case "going_away":
        this.goingAwayMs = frame.reconnect_after_ms ?? 0;
        break;
      default:
        if (typeof frame.offset === "number" && frame.event_id && !this.#continues(frame)) return;
    }
    this.onFrame(frame, text);
  }

  #connected(frame) {
    this.live = true;
    this.triedFreshToken = false;
    this.heartbeatMs = frame.heartbeat_ms ?? 25_000;
    this.#clear("connect");
    this.#timer("stable", STABLE_AFTER_MS, () => { this.attempt = 0; });
    this.#expectSomething();
    this.#planRefresh(frame.token_expires_at);
    this.#state(State.CONNECTED, "", { userId: frame.user_id, tokenExpiresAt: frame.token_expires_at });
  }

  #subscribed(frame) {
    if (frame.all) return;
    const request = this.asked.get(frame.thread_id);
    const answers = request && (frame.id === request.id || frame.id === this.connectId || request.claimed);
    if (frame.claim) {
      if (request) request.claimed = true; // a second `subscribed` follows if it becomes the user's
      this.positions.delete(frame.thread_id); // what was seen of it is gone
      this.merged.delete(frame.thread_id);
      return;
    }
    if (answers) this.asked.delete(frame.thread_id);
    this.#setPosition(frame.thread_id, {
      epoch: frame.epoch,
      offset: Math.max(0, (frame.from_offset ?? 1) - 1),
    });
  }

  #missed(frame) {
    const { thread_id, epoch, discard_after: kept } = frame;
    this.#setPosition(thread_id, { epoch, offset: kept ?? frame.to_offset ?? 0 });
    if (frame.reason === "deleted") this.merged.delete(thread_id);
    if (kept === undefined) return;
    const merged = this.merged.get(thread_id) ?? [];
    this.merged.set(thread_id, merged.filter(([, last]) => last <= kept));
    // A compacted event of which a part is lost is discarded whole: the other part is asked for again.
    const cut = merged.find(([first, last]) => first <= kept && kept < last);
    if (!cut) return;
    const after = { epoch, offset: cut[0] - 1 };
    this.#setPosition(thread_id, after);
    this.subscribe(thread_id, { after });
  }

  // Whether the event is the next one of its thread. A repeat is left out; after a gap, which the
  // protocol rules out, the thread is asked for again from where it was whole.
  #continues(event) {
    const at = this.positions.get(event.thread_id);
    if (!at) {
      this.onProblem(`An event of ${event.thread_id} came before its subscription.`);
      return false;
    }
    const first = event.first_offset ?? event.offset;
    if (event.offset <= at.offset) {
      this.onProblem(`Event ${event.offset} of ${event.thread_id} came twice.`);
      return false;
    }
    if (first !== at.offset + 1) {
      if (this.asked.get(event.thread_id)?.after) return false; // said already: this was under way
      this.onProblem(`Events ${at.offset + 1} to ${first - 1} of ${event.thread_id} were left out. Asking again.`);
      this.subscribe(event.thread_id, { after: { ...at } });
      return false;
    }
    this.positions.delete(event.thread_id); // to the end: it is the most recently active one now
    this.#setPosition(event.thread_id, { epoch: at.epoch, offset: event.offset });
    if (event.first_offset) this.#remember(event);
    return true;
  }

  #remember({ thread_id, first_offset, offset }) {
    if (!this.merged.has(thread_id)) this.merged.set(thread_id, []);
    const merged = this.merged.get(thread_id);
    while (merged.length > 0 && merged.at(-1)[1] >= first_offset) merged.pop(); // seen again
    merged.push([first_offset, offset]);
    // Drawn together: if a part is lost, more than need be is discarded and asked for again.
    if (merged.length > MAX_MERGED) merged.splice(0, 2, [merged[0][0], merged[1][1]]);
  }

  #setPosition(threadId, position) {
    this.positions.set(threadId, position);
  }

  #planAck(threadId, delayMs = ACK_EVERY_MS) {
    this.unsentAcks.add(threadId);
    if (this.timers.has("ack")) return;
    this.#timer("ack", delayMs, () => {
      if (!this.live) return; // `caught_up` on the next connection says it again
      for (const thread_id of this.unsentAcks) {
        const { epoch, offset } = this.acks.get(thread_id);
        this.#send({ type: "ack", thread_id, epoch, offset });
      }
      this.unsentAcks.clear();
    });
  }

  #send(frame) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify(frame));
  }

  #id() {
    return String(this.nextId++);
  }

  // --- Time ---

  #expectSomething() {
    if (!this.live) return;
    this.#timer("silence", this.heartbeatMs * SILENT_HEARTBEATS, () => {
      this.#dropSocket();
      this.#comeBack("the connection went silent", 0);
    });
  }

  #planRefresh(expiresAt) {
    const expires = Date.parse(expiresAt ?? "");
    if (Number.isNaN(expires)) return;
    const left = expires - Date.now();
    const wait = Math.max(left / 2, left - REFRESH_BEFORE_EXPIRY_MS, LEAST_REFRESH_MS);
    const generation = this.generation;
    this.#timer("refresh", Math.min(wait, LONGEST_TIMER_MS), async () => {
      let credentials = null;
      try {
        credentials = await this.getToken(true);
      } catch {
        // The close at the token's end says so, and asks for a token again.
      }
      if (credentials?.token && generation === this.generation) {
        this.#send({ type: "refresh", id: this.#id(), token: credentials.token });
      }
    });
  }

  #timer(name, delayMs, action) {
    this.#clear(name);
    this.timers.set(name, setTimeout(() => {
      this.timers.delete(name);
      action();
    }, delayMs));
  }

  #clear(name) {
    clearTimeout(this.timers.get(name));
    this.timers.delete(name);
  }

  #state(state, reason, more = {}) {
    this.onState({ state, reason, ...more });
  }
}
