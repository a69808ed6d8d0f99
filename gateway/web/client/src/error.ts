import type { StreamErrorFrame } from "./wire.js";

/** Something that did not work, with one of Clarion's reasons (README, Errors) or a word of our own. */
export class ClarionError extends Error {
  override readonly name = "ClarionError";
  readonly code: string;
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
