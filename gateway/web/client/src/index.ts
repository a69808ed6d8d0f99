// clarion-client: typed events of AI agents, in the browser.

export { Client, connect } from "./client.js";
export type { AllOptions, ClientSignals, ConnectOptions, EventPage, ThreadSummary } from "./client.js";
export type { ConnectionState, TokenRequest, TokenSource } from "./connection.js";
export { browserEnvironment } from "./environment.js";
export type { Environment } from "./environment.js";
export { ClarionError } from "./error.js";
export type { ErrorCode } from "./error.js";
export type { FollowOptions, From } from "./feed.js";
export { emptyThread } from "./state.js";
export type {
  Failure,
  FailureEvent,
  Message,
  Missed,
  Other,
  Run,
  RunItem,
  Step,
  ThreadState,
  Tool,
} from "./state.js";
export type { Thread, ThreadOptions, ThreadSignals } from "./thread.js";
export type { TransportKind } from "./transport.js";
export type * from "./wire.js";
