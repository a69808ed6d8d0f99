// Requests that carry the token, and what their answers say.

import type { End, Opening } from "./transport.js";
import type { StreamErrorFrame } from "./wire.js";

/** What `take` makes of the answer to a POST; rejects when there is none within `ms`. */
export async function exchange<T>(
  { base, environment }: Opening,
  token: string,
  path: string,
  body: unknown,
  ms: number,
  abort: AbortController,
  take: (response: Response) => Promise<T>,
): Promise<T> {
  const timer = environment.setTimeout(() => abort.abort(), ms);
  try {
    return await take(
      await environment.fetch(new URL(path, base), {
        method: "POST",
        cache: "no-store",
        headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
        body: JSON.stringify(body),
        signal: abort.signal,
      }),
    );
  } finally {
    environment.clearTimeout(timer);
  }
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
