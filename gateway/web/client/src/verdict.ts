// What follows from the end of a connection: whether to come back, when, and with what.
//
// Close codes are 4000 + an HTTP status (proto/contract/close_code.h has the table), and the status alone
// says what to do, so that codes of later versions are understood too.

import type { Environment } from "./environment.js";
import type { End } from "./transport.js";

export interface Verdict {
  then: "come_back" | "new_token" | "stay_away";
  /** Not before so many milliseconds. */
  afterMs: number;
  /** For people. */
  reason: string;
  /** One of Clarion's reasons, if it gave one. */
  code: string | undefined;
}

const BACKOFF_BASE_MS = 250;
const BACKOFF_CAP_MS = 20_000;
const LEAST_DELAY_MS: { [code: number]: number } = { 1001: 100, 4429: 5000, 4500: 1000, 4503: 1000 };

export function verdictOf({ code = 1006, reason, error }: End): Verdict {
  const renew = code === 4401 || error?.code === "UNAUTHENTICATED";
  return {
    then: renew ? "new_token" : comesBack(code, error && !!error.reconnect),
    afterMs: error?.retry_after_ms ?? LEAST_DELAY_MS[code] ?? 0,
    reason: error?.user_message || error?.message || reason || wordsFor(code),
    code: error?.code,
  };
}

function comesBack(code: number, said: boolean | undefined): Verdict["then"] {
  if (code >= 4000 && said !== undefined) return said ? "come_back" : "stay_away";
  // 44xx is the client's to mend, but for 408 and 429, which pass.
  const passes = code < 4000 || code >= 4500 || code === 4408 || code === 4429;
  return passes ? "come_back" : "stay_away";
}

function wordsFor(code: number): string {
  if (code === 1001) return "The service is restarting.";
  return code === 1006 ? "The connection was lost." : `The connection was closed (${code}).`;
}

/** Full jitter: spreads clients that lost the same gateway over the whole interval. */
export function backoffMs(attempt: number, leastMs: number, environment: Environment): number {
  const ceiling = Math.min(BACKOFF_CAP_MS, BACKOFF_BASE_MS * 2 ** Math.min(attempt, 30));
  return leastMs + Math.round(environment.random() * ceiling);
}
