// Who is signed in. The token lives in this tab only (sessionStorage), so that a reload keeps it.

import { moment } from "./format.js";

const KEY = "clarion.session";
// A token that ends sooner than this is not worth connecting with.
const LEAST_LIFE_MS = 30_000;

/** {user} in development, {token} otherwise. */
interface Session {
  user?: string;
  token?: string;
  expires_at?: string;
}

export class Auth {
  readonly #base: string;
  #session: Session | null = load();
  #spoiled = false;
  // Why the server gave no token, for people; and the token that did not do.
  #refusal = "";
  #refused: string | undefined;

  constructor(base: string) {
    this.#base = base;
  }

  get signedIn(): boolean {
    return this.#session !== null;
  }

  get inDevelopment(): boolean {
    return this.#session?.user !== undefined;
  }

  /** Whether the server hands out development tokens. Throws when it cannot be reached. */
  async detectDevelopment(): Promise<boolean> {
    return (await this.#fetchToken("demo"))?.token !== undefined;
  }

  /** Why somebody has to sign in again, for people; "": only the server knows. */
  refusal(now: number): string {
    return this.#refusal || (this.#refused === undefined ? "" : wrongWith(this.#refused, now));
  }

  signInAs(user: string): void {
    this.#refused = undefined;
    this.#save({ user });
  }

  signInWith(token: string): void {
    this.#save({ token });
  }

  /** The next connection begins with a token that does not count. */
  spoilToken(): void {
    this.#spoiled = true;
  }

  signOut(): void {
    this.#session = null;
    sessionStorage.removeItem(KEY);
  }

  /** null: somebody has to sign in again. Throws when the server cannot be reached. */
  async token(fresh: boolean): Promise<string | null> {
    const session = this.#session;
    if (!session) return null;
    if (this.#spoiled && !fresh) {
      this.#spoiled = false;
      return "expired";
    }
    if (!session.user) {
      this.#refused = session.token;
      return fresh ? null : (session.token ?? null);
    }
    const left = Date.parse(session.expires_at ?? "") - Date.now();
    if (!fresh && session.token && left > LEAST_LIFE_MS) return session.token;
    const made = await this.#fetchToken(session.user);
    // Whoever asked for it may have left meanwhile.
    if (!made?.token || this.#session !== session) return null;
    this.#save({ user: session.user, ...made });
    return made.token;
  }

  async #fetchToken(user: string): Promise<Session | null> {
    const url = new URL("v1/dev/token", this.#base);
    url.searchParams.set("user", user);
    const answer = await fetch(url, { cache: "no-store" });
    if (answer.status >= 500) throw new Error(`the server answered ${answer.status}`);
    this.#refusal = answer.status === 400 ? (((await answer.json()) as { message?: string }).message ?? "") : "";
    return answer.ok ? ((await answer.json()) as Session) : null;
  }

  #save(session: Session): void {
    this.#session = session;
    sessionStorage.setItem(KEY, JSON.stringify(session));
  }
}

function wrongWith(token: string, now: number): string {
  try {
    const payload = token.split(".")[1]!.replaceAll("-", "+").replaceAll("_", "/");
    const { exp } = JSON.parse(atob(payload)) as { exp?: number };
    if (exp !== undefined && exp * 1000 <= now) return `The token ended at ${moment(exp * 1000)}. Please sign in with a new one.`;
    return "The server does not accept this token.";
  } catch {
    return "This is not a JSON Web Token.";
  }
}

function load(): Session | null {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? "null") as Session | null;
  } catch {
    return null;
  }
}
