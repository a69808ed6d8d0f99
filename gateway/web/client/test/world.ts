// A world without time and network: the test moves the clock and plays the server.

import { expect } from "vitest";

import { connect, type Client, type ConnectionState, type ConnectOptions, type Environment } from "../src/index.js";
import type { ClarionEvent, ClientFrame, ServerFrame, SubscribedFrame } from "../src/wire.js";

/** Everything that is ready now has run. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < 20; turn += 1) await new Promise((resolve) => setImmediate(resolve));
}

interface Timer {
  at: number;
  action: () => void;
}

/** A socket that the client opened; the test is the other end. */
export class ScriptedSocket {
  static readonly waiting: ScriptedSocket[] = [];
  readyState = 0;
  readonly said: ClientFrame[] = [];
  onopen: (() => void) | null = null;
  onmessage: ((event: { data: string }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;

  constructor(
    readonly url: URL,
    readonly protocols: string[],
  ) {
    ScriptedSocket.waiting.push(this);
  }

  send(text: string): void {
    this.said.push(JSON.parse(text) as ClientFrame);
  }

  close(): void {
    this.readyState = 3;
  }

  open(): void {
    this.readyState = 1;
    this.onopen?.();
  }

  say(...frames: object[]): void {
    for (const frame of frames) this.onmessage?.({ data: JSON.stringify(frame) });
  }

  drop(code = 1006, reason = ""): void {
    this.readyState = 3;
    this.onclose?.({ code, reason });
  }

  get gone(): boolean {
    return this.readyState === 3;
  }

  last<T extends ClientFrame["type"]>(type: T): Extract<ClientFrame, { type: T }> | undefined {
    return this.said.filter((frame) => frame.type === type).pop() as Extract<ClientFrame, { type: T }> | undefined;
  }

  count(type: ClientFrame["type"]): number {
    return this.said.filter((frame) => frame.type === type).length;
  }
}

/** A request that the client made. */
export class ScriptedRequest {
  #stream: ReadableStreamDefaultController<Uint8Array> | undefined;
  aborted = false;

  constructor(
    readonly url: URL,
    readonly method: string,
    readonly token: string,
    // eslint-disable-next-line @typescript-eslint/no-explicit-any
    readonly body: any,
    readonly resolve: (response: Response) => void,
    readonly reject: (error: unknown) => void,
    signal: AbortSignal | null | undefined,
  ) {
    signal?.addEventListener("abort", () => {
      this.aborted = true;
      reject(new DOMException("aborted", "AbortError"));
      try {
        this.#stream?.error(new DOMException("aborted", "AbortError"));
      } catch {
        // It had ended.
      }
    });
  }

  answer(body: object, status = 200): Promise<void> {
    this.resolve(new Response(JSON.stringify(body), { status }));
    return settled();
  }

  fail(): Promise<void> {
    this.reject(new TypeError("fetch failed"));
    return settled();
  }

  /** Answers with an event stream that goes on. */
  stream(...frames: object[]): Promise<void> {
    const body = new ReadableStream<Uint8Array>({ start: (controller) => void (this.#stream = controller) });
    this.resolve(new Response(body, { headers: { "Content-Type": "text/event-stream" } }));
    return this.say(...frames);
  }

  say(...frames: object[]): Promise<void> {
    return this.bytes(frames.map((frame) => `data: ${JSON.stringify(frame)}\n\n`).join(""));
  }

  bytes(text: string): Promise<void> {
    this.#stream!.enqueue(new TextEncoder().encode(text));
    return settled();
  }

  end(): Promise<void> {
    this.#stream!.close();
    return settled();
  }
}

export class World {
  now = Date.parse("2026-01-01T00:00:00Z");
  chance = 0;
  readonly reported: unknown[] = [];
  readonly states: ConnectionState[] = [];
  readonly requests: ScriptedRequest[] = [];
  readonly sockets: ScriptedSocket[] = [];
  readonly tokens: boolean[] = [];
  token: string | null = "t1";
  freshToken: string | null = "t2";
  #timers = new Set<Timer>();
  #paints: (() => void)[] = [];
  #watchers = new Set<Parameters<Environment["watch"]>[0]>();

  readonly environment: Environment = {
    now: () => this.now,
    setTimeout: (action, ms) => {
      const timer = { at: this.now + ms, action };
      this.#timers.add(timer);
      return timer;
    },
    clearTimeout: (timer) => void this.#timers.delete(timer as Timer),
    random: () => this.chance,
    fetch: ((url: URL, init: RequestInit = {}) =>
      new Promise<Response>((resolve, reject) => {
        const headers = new Headers(init.headers);
        const body = init.body ? (JSON.parse(init.body as string) as unknown) : undefined;
        const token = (headers.get("Authorization") ?? "").replace("Bearer ", "");
        const request = new ScriptedRequest(new URL(url), init.method ?? "GET", token, body, resolve, reject, init.signal);
        this.requests.push(request);
      })) as typeof fetch,
    WebSocket: this.#socketType(),
    watch: (listener) => {
      this.#watchers.add(listener);
      return () => this.#watchers.delete(listener);
    },
    beforePaint: (action) => void this.#paints.push(action),
    report: (error) => void this.reported.push(error),
  };

  #socketType(): typeof WebSocket {
    const { sockets } = this;
    return class extends ScriptedSocket {
      constructor(url: URL, protocols: string[]) {
        super(url, protocols);
        sockets.push(this);
      }
    } as unknown as typeof WebSocket;
  }

  client(options: Partial<ConnectOptions> = {}): Client {
    const client = connect({
      url: "https://gateway.example",
      client: "test",
      environment: this.environment,
      token: ({ fresh }) => {
        this.tokens.push(fresh);
        return fresh ? this.freshToken : this.token;
      },
      ...options,
    });
    client.on("connection", (state) => this.states.push(state));
    return client;
  }

  get state(): ConnectionState {
    return this.states[this.states.length - 1]!;
  }

  /** How many timers are set: nothing is left behind by what ended. */
  get pendingTimers(): number {
    return this.#timers.size;
  }

  get nextTimer(): number {
    return Math.min(...[...this.#timers].map(({ at }) => at - this.now));
  }

  async advance(ms: number): Promise<void> {
    const until = this.now + ms;
    for (;;) {
      await settled();
      const due = [...this.#timers].filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0];
      if (!due) break;
      this.now = Math.max(this.now, due.at);
      this.#timers.delete(due);
      due.action();
    }
    this.now = until;
    await settled();
  }

  async paint(): Promise<void> {
    for (const action of this.#paints.splice(0)) action();
    await settled();
  }

  notice(what: "online" | "offline" | "shown"): Promise<void> {
    for (const watcher of [...this.#watchers]) watcher[what]();
    return settled();
  }

  get watchers(): number {
    return this.#watchers.size;
  }

  /** The next socket that the client opens. */
  async socket(): Promise<ScriptedSocket> {
    await settled();
    const socket = this.sockets.shift();
    expect(socket, "a socket").toBeDefined();
    return socket!;
  }

  /** The next request that the client makes. */
  async request(path?: string): Promise<ScriptedRequest> {
    await settled();
    const request = this.requests.shift();
    expect(request, "a request").toBeDefined();
    if (path) expect(request!.url.pathname).toBe(path);
    return request!;
  }

  /** A socket on which `connect` was answered. */
  async connected(more: object = {}): Promise<ScriptedSocket> {
    const socket = await this.socket();
    socket.open();
    socket.say(connectedFrame(more));
    await settled();
    return socket;
  }
}

export function connectedFrame(more: object = {}): object {
  return { type: "connected", id: "connect", connection_id: "c1", user_id: "u", protocol: 1, heartbeat_ms: 25_000, ...more };
}

export function subscribed(more: Partial<SubscribedFrame> = {}): SubscribedFrame {
  return { type: "subscribed", thread_id: "t", epoch: "e", from_offset: 1, ...more };
}

export function event(offset: number, more: object = {}): ClarionEvent {
  return {
    offset,
    type: "custom",
    event_id: `x${offset}`,
    thread_id: "t",
    run_id: "r",
    user_id: "u",
    agent_name: "a",
    timestamp: "2026-01-01T00:00:00.000Z",
    accepted_at: "2026-01-01T00:00:00.000Z",
    name: "n",
    value: null,
    ...more,
  } as ClarionEvent;
}

export function delta(offset: number, text: string, more: object = {}): ClarionEvent {
  return event(offset, { type: "agent_message_delta", message_id: "m", role: "assistant", delta: text, is_final: false, ...more });
}

export function missed(from: number, to: number, more: object = {}): ServerFrame {
  return { type: "missed", thread_id: "t", epoch: "e", from_offset: from, to_offset: to, reason: "expired", ...more } as ServerFrame;
}

export function caughtUp(offset: number, thread_id = "t"): object {
  return { type: "caught_up", thread_id, offset };
}

export function rolledBack(keep: number, to: number, epoch = "f"): ServerFrame {
  return missed(keep + 1, to, { epoch, reason: "log_rolled_back", discard_after: keep });
}

/** The next poll, which takes up what was said meanwhile. */
export async function nextPoll(world: World): Promise<ScriptedRequest> {
  await world.advance(30);
  return world.request("/v1/poll");
}
