// One connection to a gateway, for as long as the page wants one: over the best transport that works,
// with a valid token, and back by itself whenever it ends. Knows nothing of threads.

import { Timers, type Environment } from "./environment.js";
import { ClarionError, type ErrorCode } from "./error.js";
import { EventStreamTransport } from "./event_stream.js";
import { endOf, exchange } from "./http.js";
import { PollingTransport, PollMemory } from "./polling.js";
import { isFarewell, type End, type Opening, type Transport, type TransportKind, type TransportOwner } from "./transport.js";
import { backoffMs, verdictOf } from "./verdict.js";
import { WebSocketTransport } from "./websocket.js";
import type { ClientFrame, ConnectedFrame, ServerFrame, StreamErrorFrame } from "./wire.js";

/** Where the connection stands. */
export interface ConnectionState {
  /** DISCONNECTED comes back by itself; ERROR waits for reconnect(). */
  state: "CONNECTING" | "CONNECTED" | "DISCONNECTED" | "ERROR";
  /** How it goes, or is being tried. */
  transport: TransportKind;
  /** For people: why it is not CONNECTED. */
  reason: string;
  /** Of DISCONNECTED and ERROR: one of Clarion's reasons, if there was one. */
  code?: ErrorCode | undefined;
  /** Of DISCONNECTED: when it is tried again, milliseconds since 1970. */
  retryAt?: number;
  /** Of ERROR: there is no token that counts, so somebody has to sign in. */
  needsToken?: boolean;
  /** Of CONNECTED. */
  userId?: string;
  connectionId?: string;
  /** Of CONNECTED: RFC 3339. */
  tokenExpiresAt?: string | undefined;
}

export interface TokenRequest {
  /** The last one was refused or is about to end: a cached one will not do. */
  fresh: boolean;
}

/** The JSON Web Token; null or undefined: nobody is signed in. */
export type TokenSource = string | ((request: TokenRequest) => Token | Promise<Token>);
type Token = string | null | undefined;

/** What is undefined is left out. */
export type Query = Record<string, string | number | undefined>;

export interface ConnectionOptions {
  base: URL;
  token: TokenSource;
  client: string;
  transports: readonly TransportKind[];
  environment: Environment;
}

/** A plain object: transports get its members. */
export interface ConnectionOwner extends Omit<TransportOwner, "onEnd"> {
  onState(state: ConnectionState): void;
  /** A connection is about to begin: nothing is followed on it yet. */
  onBegin(): void;
  /** Another transport took over, and it was not told what to follow. */
  onMoved(): void;
}

// Time for the first frame. A proxy that holds a response back costs so much once.
const FIRST_FRAME_MS = { websocket: 8_000, sse: 6_000, polling: 16_000 };
// A page that does not say its token within this time is asked again.
const TOKEN_MS = 30_000;
// For the answer to a question.
const ANSWER_MS = 30_000;
// A connection that lived this long begins its backoff anew.
const STABLE_AFTER_MS = 5_000;
// Silence of this many heartbeats means that nobody is there any more.
const SILENT_HEARTBEATS = 2.5;
const REFRESH_BEFORE_EXPIRY_MS = 60_000;
// However soon a token ends: none is asked for sooner after another. For tokens that have ended by this clock
// it is doubled each time, up to the second.
const LEAST_REFRESH_MS = 5_000;
const MOST_REFRESH_MS = 300_000;
// Looking whether a better transport works again: at first, and at most.
const FIRST_TRIAL_MS = 10_000;
const LAST_TRIAL_MS = 300_000;
// A page that comes into view looks so soon.
const TRIAL_SOON_MS = 1_000;
// In every such round the transports below an unreachable one are tried too.
const WHOLE_ROUND_EVERY = 3;

export class Connection {
  state: ConnectionState;

  readonly #options: ConnectionOptions;
  readonly #owner: ConnectionOwner;
  readonly #environment: Environment;
  readonly #timers: Timers;
  readonly #ladder: readonly TransportKind[];
  #pollMemory = new PollMemory();

  #wanted = false;
  #transport: Transport | undefined;
  #trial: Transport | undefined;
  // Said after the connection was begun, and before it was answered.
  #waiting: ClientFrame[] = [];
  // Of the attempt under way: what an older one says is ignored.
  #generation = 0;
  #rung = 0; // of the ladder: what is used or tried
  #proven = new Set<TransportKind>(); // have worked, and did not fail since
  #round = 0; // of failures of the whole ladder
  #attempt = 0;
  // Of the last end: until when the gateway wants to be left alone, and why it came.
  #notBefore = 0;
  #why: Omit<ConnectionState, "transport"> = { state: "DISCONNECTED", reason: "" };
  #trialDelay = FIRST_TRIAL_MS;
  #leastRefreshMs = LEAST_REFRESH_MS;
  #token = "";
  // Asked for anew because the one before was refused, and not proven for long.
  #tokenIsFresh = false;
  // What the gateway said before the end.
  #goingAwayMs: number | undefined;
  #farewell: StreamErrorFrame | undefined;
  #heartbeatMs = 25_000;
  #heardAt = 0;
  #unwatch = () => {};
  // Closed so often: what was asked before is another user's.
  #users = 0;

  constructor(options: ConnectionOptions, owner: ConnectionOwner) {
    this.#options = options;
    this.#owner = owner;
    this.#environment = options.environment;
    this.#timers = new Timers(options.environment);
    const usable = options.transports.filter((kind) => kind !== "websocket" || options.environment.WebSocket);
    this.#ladder = usable.length > 0 ? usable : ["sse", "polling"];
    this.state = { state: "DISCONNECTED", transport: this.#kind, reason: "" };
  }

  get live(): boolean {
    return this.state.state === "CONNECTED";
  }

  open(): void {
    if (this.#wanted) return;
    this.#wanted = true;
    this.#unwatch = this.#environment.watch({
      online: () => this.#retry(),
      offline: () => this.#offline(),
      shown: () => this.#retry(),
    });
    this.#connect(false);
  }

  close(): void {
    this.#wanted = false;
    this.#unwatch();
    this.#drop();
    // The next one may be another user's.
    this.#token = "";
    this.#users += 1;
    this.#pollMemory = new PollMemory();
    this.#say({ state: "DISCONNECTED", reason: "" });
  }

  /** At once, whatever was planned; also out of ERROR, with a new token. */
  reconnect(): void {
    const fresh = this.state.needsToken === true;
    if (!this.#wanted) return this.open();
    if (this.live) return;
    this.#attempt = 0;
    void this.#connect(fresh);
  }

  /** Ends what was there and comes back, because what it said makes it useless. */
  restart(reason: string, afterMs: number, code: string): void {
    this.#comeBack(reason, afterMs, { code });
  }

  /** Goes out on this connection or never: the next one says by itself what is followed. */
  send(frame: ClientFrame): void {
    if (this.live) this.#transport!.send(frame);
    else if (this.#transport) this.#waiting.push(frame);
  }

  /** A question over HTTP, with the user's token; once more with a new one, if that was refused. Rejects with a ClarionError. */
  async ask(path: string, query: Query): Promise<unknown> {
    const url = new URL(path, this.#options.base);
    for (const [name, value] of Object.entries(query)) if (value !== undefined) url.searchParams.set(name, String(value));
    const user = this.#users;
    for (let fresh = false; ; fresh = true) {
      const token = (!fresh && this.#token) || (await this.#getToken(fresh));
      if (user === this.#users) this.#token = token ?? "";
      if (!token || user !== this.#users) throw new ClarionError({ code: "UNAUTHENTICATED", message: "No token." });
      const take = async (response: Response): Promise<End & { answer?: unknown }> =>
        response.ok ? { answer: await response.json() } : { code: 4000 + response.status, ...(await endOf(response)) };
      const asked = exchange(this.#options, token, url, null, ANSWER_MS, take);
      const { answer, code, error, reason = "" } = await asked.catch((error): End & { answer?: unknown } => ({ reason: wordsOf(error) }));
      if (answer) return answer;
      if (fresh || code !== 4401) throw new ClarionError(error ?? { code: "GATEWAY_UNAVAILABLE", message: reason });
    }
  }

  // --- Beginning ---

  get #kind(): TransportKind {
    return this.#ladder[this.#rung]!;
  }

  async #connect(fresh: boolean): Promise<void> {
    this.#drop();
    const generation = this.#generation;
    this.#say({ state: "CONNECTING", reason: "" });
    if (generation !== this.#generation) return;
    this.#timers.set("token", TOKEN_MS, () => this.#comeBack("No token in time.", 0));
    let token: Token;
    try {
      token = await this.#getToken(fresh);
    } catch (error) {
      if (generation === this.#generation) this.#comeBack(`No token: ${wordsOf(error)}`, 0);
      return;
    }
    if (generation !== this.#generation) return;
    this.#timers.clear("token");
    if (!token) return this.#giveUp("Please sign in again.", { needsToken: true });
    this.#token = token;
    this.#tokenIsFresh = fresh;
    this.#begin(generation);
  }

  async #getToken(fresh: boolean): Promise<Token> {
    const source = this.#options.token;
    // A fixed one cannot be renewed.
    if (typeof source === "string") return fresh ? null : source;
    return source({ fresh });
  }

  #begin(generation: number): void {
    const kind = this.#kind;
    this.#waiting = [];
    this.#owner.onBegin();
    this.#timers.set("first frame", FIRST_FRAME_MS[kind], () => {
      this.#dropTransport();
      this.#failedToBegin({ reason: "No answer from the server." });
    });
    try {
      this.#transport = this.#make(
        kind,
        this.#owner.subscriptions(),
        (frame) => {
          if (generation === this.#generation) this.#receive(frame);
        },
        (end) => {
          if (generation !== this.#generation) return;
          if (this.live || this.#farewell || end.code! >= 4000) this.#ended(end);
          else this.#failedToBegin(end);
        },
      );
    } catch (error) {
      this.#failedToBegin({ reason: wordsOf(error) });
    }
  }

  #make(
    kind: TransportKind,
    subscribe: Opening["subscribe"],
    onFrame: TransportOwner["onFrame"],
    onEnd: TransportOwner["onEnd"],
  ): Transport {
    const { base, client } = this.#options;
    const owner: TransportOwner = { ...this.#owner, onFrame, onEnd };
    const opening: Opening = { base, client, token: this.#token, subscribe, environment: this.#environment };
    if (kind === "websocket") return new WebSocketTransport(opening, owner);
    if (kind === "sse") return new EventStreamTransport(opening, owner);
    return new PollingTransport(opening, owner, this.#pollMemory);
  }

  // --- Ending ---

  // It may be the transport that does not get through, or there is nobody.
  #failedToBegin(end: End): void {
    const { reason } = verdictOf(end);
    if (this.#proven.delete(this.#kind)) return this.#comeBack(reason, 0);
    const last = this.#rung === this.#ladder.length - 1;
    if (last || (end.unreachable && (this.#round + 1) % WHOLE_ROUND_EVERY !== 0)) {
      this.#round += 1;
      this.#rung = 0;
      return this.#comeBack(reason, 0);
    }
    this.#rung += 1;
    this.#dropTransport();
    const generation = this.#generation;
    this.#say({ state: "CONNECTING", reason: "" });
    if (generation === this.#generation) this.#begin(generation);
  }

  #ended(end: End): void {
    const error = end.error ?? this.#farewell;
    // Over HTTP, what was said before the end stands for a close code.
    const code = end.code ?? (error ? 4000 : this.#goingAwayMs === undefined ? 1006 : 1001);
    const verdict = verdictOf({ ...end, code, error: code >= 4000 || error?.reconnect ? error : undefined });
    const { reason } = verdict;
    const why = { code: verdict.code };
    if (verdict.then === "stay_away") return this.#giveUp(reason, why);
    if (verdict.then === "come_back") return this.#comeBack(reason, this.#goingAwayMs ?? verdict.afterMs, why);
    // Once with a new token; a refusal of that one is final, but one that counted for a moment is not.
    if (!this.#tokenIsFresh) return void this.#connect(true);
    if (this.live) return this.#comeBack(reason, verdict.afterMs, why);
    this.#giveUp(reason, { ...why, needsToken: true });
  }

  #comeBack(reason: string, leastMs: number, more: Partial<ConnectionState> = {}): void {
    this.#drop();
    this.#notBefore = Math.max(this.#notBefore, this.#environment.now() + leastMs);
    this.#why = { ...more, state: "DISCONNECTED", reason };
    this.#connectIn(backoffMs(this.#attempt, this.#notBefore - this.#environment.now(), this.#environment));
    this.#attempt += 1;
  }

  #connectIn(delay: number): void {
    this.#timers.set("reconnect", delay, () => void this.#connect(false));
    this.#say({ ...this.#why, retryAt: this.#environment.now() + delay });
  }

  #giveUp(reason: string, more: Partial<ConnectionState>): void {
    this.#drop();
    this.#say({ ...more, state: "ERROR", reason });
  }

  #drop(): void {
    this.#timers.clearAll();
    this.#dropTransport();
    this.#trial?.close();
    this.#trial = undefined;
  }

  #dropTransport(): void {
    this.#generation += 1;
    this.#transport?.close();
    this.#transport = this.#goingAwayMs = this.#farewell = undefined;
  }

  // --- The network and the page ---

  // Something changed for the better: what waits, waits no longer. Timers may have stood still meanwhile.
  #retry(): void {
    const silentMs = this.#environment.now() - this.#heardAt;
    if (this.state.state === "DISCONNECTED") {
      this.#attempt = 0;
      // What the gateway asked for holds all the same.
      const wait = this.#notBefore - this.#environment.now();
      if (wait > 0) this.#connectIn(wait);
      else void this.#connect(false);
    } else if (this.live && silentMs > this.#silenceMs) {
      this.#attempt = 0;
      this.#comeBack("The connection went silent.", 0);
    } else if (this.live && this.#rung > 0) {
      this.#planTrial(TRIAL_SOON_MS);
    }
  }

  // The browser may be wrong, so it is tried all the same, now and then.
  #offline(): void {
    if (!this.#wanted || this.state.state === "ERROR") return;
    this.#attempt = Math.max(this.#attempt, 5);
    this.#comeBack("You are offline.", 0);
  }

  // --- Frames ---

  #receive(frame: ServerFrame): void {
    const transport = this.#transport;
    if (frame.type === "connected") this.#connected(frame);
    if (this.#transport !== transport) return; // the page has closed it meanwhile
    this.#expectSomething();
    switch (frame.type) {
      case "ping":
        return this.#transport!.send({ type: "pong" });
      case "probe":
        return this.#transport!.send({ type: "probe_reply", nonce: frame.nonce });
      case "refreshed":
        return this.#planRefresh(frame.token_expires_at);
      case "going_away":
        this.#goingAwayMs = frame.reconnect_after_ms ?? 0;
        break;
      case "error":
        if (isFarewell(frame)) this.#farewell = frame;
    }
    this.#owner.onFrame(frame);
  }

  #connected({ connection_id, user_id, heartbeat_ms, token_expires_at }: ConnectedFrame): void {
    this.#timers.clear("first frame");
    this.#timers.set("stable", STABLE_AFTER_MS, () => {
      this.#attempt = 0;
      this.#tokenIsFresh = false;
    });
    this.#round = 0;
    this.#proven.add(this.#kind);
    this.#heartbeatMs = heartbeat_ms || 25_000;
    if (this.#kind !== "polling") this.#pollMemory = new PollMemory();
    const tokenExpiresAt = token_expires_at;
    // Before anything that is said because of it.
    for (const frame of this.#waiting.splice(0)) this.#transport!.send(frame);
    this.#say({ state: "CONNECTED", reason: "", connectionId: connection_id, userId: user_id, tokenExpiresAt });
    if (!this.#transport) return;
    this.#planRefresh(token_expires_at);
    if (this.#rung === 0) this.#trialDelay = FIRST_TRIAL_MS;
    else this.#planTrial(this.#trialDelay);
  }

  // A poll that is not answered ends by itself.
  get #silenceMs(): number {
    return this.#kind === "polling" ? Infinity : this.#heartbeatMs * SILENT_HEARTBEATS;
  }

  // A proxy may let an event stream through in blocks, each when it is full.
  #silent(): void {
    if (this.#kind === "sse" && this.#rung + 1 < this.#ladder.length) this.#rung += 1;
    this.#comeBack("The connection went silent.", 0);
  }

  #expectSomething(): void {
    this.#heardAt = this.#environment.now();
    if (this.live) this.#timers.set("silence", this.#silenceMs, () => this.#silent());
  }

  // --- Tokens ---

  #planRefresh(expiresAt: string | undefined): void {
    const left = Date.parse(expiresAt ?? "") - this.#environment.now();
    if (Number.isNaN(left)) return;
    if (this.state.tokenExpiresAt !== expiresAt) this.#say({ ...this.state, tokenExpiresAt: expiresAt });
    // This clock is ahead of theirs, so it says nothing.
    this.#leastRefreshMs = left > 0 ? LEAST_REFRESH_MS : Math.min(this.#leastRefreshMs * 2, MOST_REFRESH_MS);
    const delay = Math.max(left / 2, left - REFRESH_BEFORE_EXPIRY_MS, this.#leastRefreshMs);
    this.#timers.set("refresh", delay, () => void this.#refresh());
  }

  async #refresh(): Promise<void> {
    const generation = this.#generation;
    try {
      const token = await this.#getToken(true);
      if (!token || generation !== this.#generation) return; // the end of the old one says so
      this.#token = token;
      this.#transport!.renew(token);
      this.#transport!.send({ type: "refresh", id: "refresh", token });
    } catch (error) {
      if (generation === this.#generation) this.#timers.set("refresh", LEAST_REFRESH_MS, () => void this.#refresh());
    }
  }

  // --- Back to a better transport ---

  #planTrial(delay: number): void {
    this.#timers.set("trial", delay, () => this.#try(0));
  }

  // Beside the connection that works, which ends only when the better one has said something.
  #try(rung: number): void {
    this.#trial?.close();
    this.#trial = undefined;
    if (rung >= this.#rung) {
      this.#trialDelay = Math.min(this.#trialDelay * 2, LAST_TRIAL_MS);
      return this.#planTrial(this.#trialDelay);
    }
    const kind = this.#ladder[rung]!;
    const next = () => this.#try(rung + 1);
    this.#timers.set("trial", FIRST_FRAME_MS[kind], next);
    const generation = this.#generation;
    let trial: Transport | undefined;
    const onFrame = (frame: ServerFrame) => {
      if (this.#transport === trial) this.#receive(frame);
      else if (generation === this.#generation && frame.type === "connected") this.#move(trial!, rung, frame);
    };
    const onEnd = (end: End) => {
      if (this.#transport === trial) this.#ended(end);
      else if (generation === this.#generation) next();
    };
    try {
      trial = this.#make(kind, [], onFrame, onEnd);
      this.#trial = trial;
    } catch {
      next();
    }
  }

  #move(transport: Transport, rung: number, frame: ConnectedFrame): void {
    this.#trial = undefined;
    this.#timers.clear("trial");
    this.#dropTransport();
    this.#transport = transport;
    this.#rung = rung;
    this.#owner.onBegin();
    this.#receive(frame);
    this.#owner.onMoved();
  }

  #say(state: Omit<ConnectionState, "transport">): void {
    this.state = { ...state, transport: this.#kind };
    this.#owner.onState(this.state);
  }
}

function wordsOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
