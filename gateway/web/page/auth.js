// Who is signed in. The token lives in this tab only (sessionStorage), so that a reload keeps it.

const KEY = "clarion.session";
// A token that ends sooner than this is not worth connecting with.
const LEAST_LIFE_MS = 30_000;

export class Auth {
  constructor(base) {
    this.base = base;
    this.session = load(); // {user} in development, {token} otherwise, null: nobody
    this.development = null; // not known yet
  }

  get signedIn() {
    return this.session !== null;
  }

  // Whether the server hands out development tokens.
  async detectDevelopment() {
    try {
      this.development = (await this.#fetchToken("demo"))?.token !== undefined;
    } catch {
      this.development = false;
    }
    return this.development;
  }

  signInAs(user) {
    this.#save({ user });
  }

  signInWith(token) {
    this.#save({ token });
  }

  signOut() {
    this.session = null;
    sessionStorage.removeItem(KEY);
  }

  // {token}; or null when somebody has to sign in again, {refusal} if the server said why. Throws when
  // the server cannot be reached.
  async getToken(fresh) {
    const { session } = this;
    if (!session) return null;
    if (!session.user) return fresh ? null : { token: session.token };
    if (!fresh && session.token && Date.parse(session.expires_at) - Date.now() > LEAST_LIFE_MS) return session;
    const made = await this.#fetchToken(session.user);
    if (!made?.token) return made;
    this.#save({ user: session.user, ...made });
    return made;
  }

  async #fetchToken(user) {
    const url = new URL("v1/dev/token", this.base);
    url.searchParams.set("user", user);
    const answer = await fetch(url, { cache: "no-store" });
    if (answer.status >= 500) throw new Error(`the server answered ${answer.status}`);
    if (answer.status === 400) return { refusal: (await answer.json().catch(() => ({}))).message };
    return answer.ok ? answer.json() : null;
  }

  #save(session) {
    this.session = session;
    sessionStorage.setItem(KEY, JSON.stringify(session));
  }
}

function load() {
  try {
    return JSON.parse(sessionStorage.getItem(KEY));
  } catch {
    return null;
  }
}
