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
  /** Why there is no token that counts, for people. */
  refusal = "";

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

  signInAs(user: string): void {
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
    this.refusal = "";
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
      if (!fresh && session.token) return session.token;
      this.refusal = whyNot(session.token ?? "");
      return null;
    }
    const left = Date.parse(session.expires_at ?? "") - Date.now();
    if (!fresh && session.token && left > LEAST_LIFE_MS) return session.token;
    const made = await this.#fetchToken(session.user);
    // Whoever asked for it may have left meanwhile.
    if (!made?.token || this.#session?.user !== session.user) return null;
    this.#save({ user: session.user, ...made });
    return made.token;
  }

  async #fetchToken(user: string): Promise<Session | null> {
    const url = new URL("v1/dev/token", this.#base);
    url.searchParams.set("user", user);
    const answer = await fetch(url, { cache: "no-store" });
    if (answer.status >= 500) throw new Error(`the server answered ${answer.status}`);
    if (answer.ok) return (await answer.json()) as Session;
    const { message } = answer.status === 400 ? ((await answer.json()) as { message?: string }) : {};
    this.refusal = message ?? "This server gives no tokens to users by name.";
    return null;
  }

  #save(session: Session): void {
    this.#session = session;
    sessionStorage.setItem(KEY, JSON.stringify(session));
  }
}

// The server does not say.
function whyNot(token: string): string {
  if (token === "") return "There is no token.";
  const end = endOf(token);
  if (end === null) return "That is no token: a JSON Web Token has three parts with dots between them.";
  if (end <= Date.now()) return `The token ended at ${moment(end)}. Please sign in with a new one.`;
  return "The server does not accept this token.";
}

// Milliseconds since 1970; Infinity: it says nothing of an end; null: it is no JSON Web Token.
function endOf(token: string): number | null {
  try {
    const [, claims] = /^[\w-]+\.([\w-]+)\.[\w-]*$/.exec(token)!;
    const { exp } = JSON.parse(atob(claims!.replaceAll("-", "+").replaceAll("_", "/"))) as { exp?: number };
    return exp === undefined ? Infinity : exp * 1000;
  } catch {
    return null;
  }
}

function load(): Session | null {
  try {
    return JSON.parse(sessionStorage.getItem(KEY) ?? "null") as Session | null;
  } catch {
    return null;
  }
}
