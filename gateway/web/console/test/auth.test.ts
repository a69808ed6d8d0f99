// Who is signed in, and why nobody is.

import { beforeEach, describe, expect, it, vi } from "vitest";

import { Auth } from "../src/auth.js";

let auth: Auth;
const asked = vi.fn<(url: URL) => Promise<Response>>();

beforeEach(() => {
  vi.stubGlobal("sessionStorage", { getItem: () => null, setItem: () => {}, removeItem: () => {} });
  vi.stubGlobal("fetch", asked);
  auth = new Auth("http://localhost/");
});

const jwt = (claims: object) => `e30.${Buffer.from(JSON.stringify(claims)).toString("base64url")}.c2ln`;
const now = () => Math.floor(Date.now() / 1000);

async function refusalOf(token: string): Promise<string> {
  auth.signInWith(token);
  expect(await auth.token(false)).toBe(token || null);
  expect(await auth.token(true)).toBe(null);
  return auth.refusal;
}

describe("a token that does not count", () => {
  it("is called what it is", async () => {
    expect(await refusalOf("")).toMatch(/^There is no token/);
    expect(await refusalOf("rubbish")).toMatch(/^That is no token/);
    expect(await refusalOf("a.b.c")).toMatch(/^That is no token/);
    expect(await refusalOf(jwt({ exp: now() - 60 }))).toMatch(/^The token ended at \d/);
    expect(await refusalOf(jwt({ exp: now() + 60, sub: "ÿ?>" }))).toMatch(/does not accept/);
    expect(await refusalOf(jwt({ sub: "demo" }))).toMatch(/does not accept/);
  });

  it("says nothing of it to who signs in next", async () => {
    await refusalOf("rubbish");
    auth.signOut();
    expect(auth.refusal).toBe("");
  });
});

describe("a user by name", () => {
  it("gets a token twice at once", async () => {
    asked.mockImplementation(async () => Response.json({ token: "t", expires_at: new Date(Date.now() + 600_000) }));
    auth.signInAs("demo");
    expect(await Promise.all([auth.token(false), auth.token(false)])).toEqual(["t", "t"]);
  });

  it("is told why there is none", async () => {
    asked.mockResolvedValueOnce(Response.json({ message: "that name is reserved" }, { status: 400 }));
    auth.signInAs("_clarion");
    expect(await auth.token(false)).toBe(null);
    expect(auth.refusal).toBe("that name is reserved");
    asked.mockResolvedValueOnce(new Response("", { status: 404 }));
    expect(await auth.token(false)).toBe(null);
    expect(auth.refusal).toMatch(/no tokens to users by name/);
  });

  it("is not told that he is nobody while the server is away", async () => {
    asked.mockResolvedValueOnce(new Response("", { status: 502 }));
    await expect(auth.detectDevelopment()).rejects.toThrow("502");
  });
});
