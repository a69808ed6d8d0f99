import type { Reason, StreamErrorFrame } from "./wire.js";

/** One of Clarion's reasons, also of later versions; GAP: events came in no order, and are asked for again. */
export type ErrorCode = Reason | "GAP" | (string & {});

/** Something that did not work. */
export class ClarionError extends Error {
  override readonly name = "ClarionError";
  readonly code: ErrorCode;
  /** What a page may show. */
  readonly userMessage: string;
  readonly threadId: string | undefined;
  /** Worth another try after so long. */
  readonly retryAfterMs: number | undefined;

  constructor({ code, message, user_message, thread_id, retry_after_ms }: Omit<StreamErrorFrame, "type">) {
    super(message || user_message || code);
    this.code = code;
    this.userMessage = user_message ?? "";
    this.threadId = thread_id;
    this.retryAfterMs = retry_after_ms;
  }
}
