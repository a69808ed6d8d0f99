// Requests that carry the token, and what their answers say.

import type { End, Opening } from "./transport.js";
import type { StreamErrorFrame } from "./wire.js";

/** What `take` makes of the answer, to a POST if there is a body; rejects when there is none within `ms`. */
export async function exchange<T>(
  { base, environment }: Pick<Opening, "base" | "environment">,
  token: string,
  path: string | URL,
  body: object | null,
  ms: number,
  take: (response: Response) => Promise<T>,
  abort = new AbortController(),
): Promise<T> {
  const timer = environment.setTimeout(() => abort.abort(), ms);
  try {
    return await take(
      await environment.fetch(new URL(path, base), {
        method: body ? "POST" : "GET",
        cache: "no-store",
        headers: { Authorization: `Bearer ${token}`, "Content-Type": "application/json" },
        body: body && JSON.stringify(body),
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
    if (error.type === "error") return { code: 4000 + response.status, error };
  } catch {
    // Not the gateway's.
  }
  return { reason: `the server answered ${response.status}`, unreachable: response.status >= 500 };
}
