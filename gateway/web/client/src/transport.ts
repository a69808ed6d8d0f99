// What the three transports have in common: frames go out, frames come in, and at some time it ends.

import type { Environment } from "./environment.js";
import type { ClientFrame, ConnectFrame, Position, ServerFrame, StreamErrorFrame, SubscribeFrame } from "./wire.js";

/** How frames travel. */
export type TransportKind = "websocket" | "sse" | "polling";

export const PROTOCOL = 1;
/** Answers to the first frame carry it. */
export const CONNECT_ID = "connect";

/** How a connection ended. */
export interface End {
  /** Of the close table: 4000 + the HTTP status, or WebSocket's own. Absent: it was cut off. */
  code?: number;
  reason?: string;
  /** What the gateway said last. */
  error?: StreamErrorFrame;
  /** Nothing was there to answer, which is no fault of the transport. */
  unreachable?: boolean;
}

export interface TransportOwner {
  onFrame(frame: ServerFrame): void;
  /** Once, and nothing after it. Not after close(). */
  onEnd(end: End): void;
  /** Where the page is in what it follows, for a transport that says it again and again. */
  positions(): Map<string, Position | null>;
  subscriptions(): SubscribeFrame[];
  /** The next request is about to be sent: what is waiting goes with it. */
  flush(): void;
}

export interface Opening {
  /** …/v1/ */
  base: URL;
  token: string;
  client: string;
  /** What to follow at once. */
  subscribe: SubscribeFrame[];
  environment: Environment;
}

export interface Transport {
  readonly kind: TransportKind;
  send(frame: ClientFrame): void;
  /** A newer token of the same user: for the requests to come. */
  renew(token: string): void;
  close(): void;
}

export function connectFrame({ client, subscribe }: Opening): Omit<ConnectFrame, "token"> {
  const wanted = subscribe.map(({ type, id, ...rest }) => rest);
  return { type: "connect", id: CONNECT_ID, protocol: PROTOCOL, client, subscribe: wanted };
}

/** Whether the connection ends with it. An answer has an id; that all threads are followed no longer may be
 * tried again after a while, but on this connection. */
export function isFarewell({ id, thread_id, reconnect, retry_after_ms }: StreamErrorFrame): boolean {
  return !id && !thread_id && (reconnect === true || !retry_after_ms);
}

/** A request that carries the token. Rejects when nothing answers. */
export function post(opening: Opening, token: string, path: string, body: unknown, signal: AbortSignal): Promise<Response> {
  return opening.environment.fetch(new URL(path, opening.base), {
    method: "POST",
    cache: "no-store",
    headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal,
  });
}

/** What an answer that is not 2xx says: the gateway's own words, or only those of a proxy. */
export async function endOf(response: Response): Promise<End> {
  try {
    const error = (await response.json()) as StreamErrorFrame;
    if (typeof error.code === "string") return { code: 4000 + response.status, error };
  } catch {
    // Not the gateway's.
  }
  return { reason: `the server answered ${response.status}`, unreachable: response.status >= 500 };
}
