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
  /** Of the close table: 4000 + the HTTP status, or WebSocket's own. Absent: there is none over HTTP. */
  code?: number;
  reason?: string;
  /** What the gateway answered instead of a connection. */
  error?: StreamErrorFrame | undefined;
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
