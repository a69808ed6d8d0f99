// clarion-client/react: a thread as a component sees it.

import { createContext, createElement, useCallback, useContext, useEffect, useMemo, useRef, useSyncExternalStore, type ReactNode } from "react";

import { ClarionError, emptyThread, type ClarionEvent, type Client, type ConnectionState, type ThreadOptions, type ThreadState } from "./index.js";

const ClarionContext = createContext<Client | null>(null);

/** The client for all components below. */
export function ClarionProvider({ client, children }: { client: Client; children?: ReactNode }): ReactNode {
  return createElement(ClarionContext.Provider, { value: client }, children);
}

/** The client of the nearest provider. */
export function useClarion(): Client {
  const client = useContext(ClarionContext);
  if (!client) throw new Error("There is no <ClarionProvider> above this component.");
  return client;
}

/** Where the connection stands. */
export function useConnection(): ConnectionState {
  const client = useClarion();
  const subscribe = useCallback((changed: () => void) => client.on("connection", changed), [client]);
  return useSyncExternalStore(
    subscribe,
    () => client.connection,
    () => NOT_YET,
  );
}

export interface UseThread {
  state: ThreadState;
  /** Consecutive deltas of a message drawn together. */
  events: readonly ClarionEvent[];
  connection: ConnectionState;
  /** Why the thread is not followed, or why there will be no connection. */
  error: ClarionError | null;
  /** Loads what came before; resolves to whether there is more. */
  older: (limit?: number) => Promise<boolean>;
}

/**
 * Follows a thread while the component is mounted, and acknowledges what it has rendered. Components that
 * name the same thread share it.
 */
export function useThread(id: string, options?: ThreadOptions): UseThread {
  const client = useClarion();
  const connection = useConnection();
  // The thread is the client's: options count when it is first named. A server names none, since nobody would
  // ever take it away again; there only the snapshot for servers is asked for.
  const thread = useMemo(() => (onServer() ? null : client.thread(id, options))!, [client, id]);
  const reader = useRef<ReturnType<typeof thread.reader> | null>(null);
  const subscribe = useCallback(
    (changed: () => void) => {
      const own = (reader.current = thread.reader(changed));
      return () => own.close();
    },
    [thread],
  );
  // On a server, and while a page that came from there is taken over.
  const nothing = useMemo(() => emptyThread(id), [id]);
  const state = useSyncExternalStore(
    subscribe,
    () => thread.snapshot,
    () => nothing,
  );
  useEffect(() => {
    if (state.position) reader.current?.shown(state.position);
  }, [state]);
  const events = state.position ? thread.shownEvents : NO_EVENTS;
  const older = useCallback((limit?: number) => thread.older(limit), [thread]);
  const error = useMemo(() => errorOf(state.error, connection), [state.error, connection]);
  return { state, events, connection, error, older };
}

function onServer(): boolean {
  return typeof window === "undefined";
}

// On a server, and while a page that came from there is taken over.
const NOT_YET: ConnectionState = { state: "DISCONNECTED", transport: "websocket", reason: "" };
const NO_EVENTS: readonly ClarionEvent[] = [];

function errorOf(error: ThreadState["error"], connection: ConnectionState): ClarionError | null {
  if (error) return new ClarionError(error);
  if (connection.state !== "ERROR") return null;
  const code = connection.code ?? (connection.needsToken ? "UNAUTHENTICATED" : "GATEWAY_UNAVAILABLE");
  return new ClarionError({ code, user_message: connection.reason });
}
