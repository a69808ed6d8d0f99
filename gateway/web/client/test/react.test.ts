// @vitest-environment jsdom
// The hook, in a real renderer.

import { act, createElement, StrictMode, type ReactNode } from "react";
import { createRoot, hydrateRoot } from "react-dom/client";
import { renderToString } from "react-dom/server";
import { afterEach, beforeEach, describe, expect, it } from "vitest";

import { ClarionProvider, useThread, type UseThread } from "../src/react.js";
import { delta, event, subscribed, World } from "./world.js";

(globalThis as { IS_REACT_ACT_ENVIRONMENT?: boolean }).IS_REACT_ACT_ENVIRONMENT = true;

let root: { render(node: ReactNode): void; unmount(): void };
let element: HTMLElement;
let renders: UseThread[];
let world: World;

beforeEach(() => {
  element = document.body.appendChild(document.createElement("div"));
  root = createRoot(element);
  renders = [];
  world = new World();
});

afterEach(() => {
  act(() => root.unmount());
  element.remove();
});

function Answer({ id }: { id: string }): ReactNode {
  const seen = useThread(id);
  renders.push(seen);
  return createElement("p", null, seen.state.messages.map(({ text }) => text).join("|"));
}

async function show(client: ReturnType<World["client"]>, ...children: ReactNode[]): Promise<void> {
  await act(async () => root.render(createElement(StrictMode, null, createElement(ClarionProvider, { client }, ...children))));
}

const paint = () => act(() => world.paint());

describe("useThread", () => {
  it("renders what comes, under StrictMode, with one subscription", async () => {
    const client = world.client({ transports: ["websocket"] });
    await show(client, createElement(Answer, { id: "t", key: 1 }), createElement(Answer, { id: "t", key: 2 }));
    const socket = await act(() => world.connected());
    expect(world.sockets).toHaveLength(0);
    expect(socket.said[0]).toMatchObject({ subscribe: [{ thread_id: "t" }] });
    socket.say(subscribed({ id: "connect" }), delta(1, "Hello"), delta(2, ", world"));
    await paint();
    expect(element.textContent).toBe("Hello, worldHello, world");
    const last = renders[renders.length - 1]!;
    expect(last).toMatchObject({ connection: { state: "CONNECTED" }, error: null, events: [{ offset: 2, first_offset: 1 }] });
    await world.advance(5_000);
    expect([socket.count("subscribe"), socket.count("unsubscribe")]).toEqual([0, 0]);
  });

  it("acknowledges what was rendered, and nothing else", async () => {
    const client = world.client({ transports: ["websocket"] });
    await show(client, createElement(Answer, { id: "t" }));
    const socket = await act(() => world.connected());
    socket.say(subscribed({ id: "connect" }), event(1), event(2));
    await world.advance(200);
    expect(socket.count("ack")).toBe(0);
    await paint();
    await world.advance(200);
    expect(socket.last("ack")).toMatchObject({ offset: 2 });
  });

  it("renders once for all that came between two paints", async () => {
    const client = world.client({ transports: ["websocket"] });
    await show(client, createElement(Answer, { id: "t" }));
    const socket = await act(() => world.connected());
    await act(async () => socket.say(subscribed({ id: "connect" })));
    await paint();
    const before = renders.length;
    for (let offset = 1; offset <= 1_000; offset += 1) socket.say(delta(offset, "x"));
    await paint();
    expect(renders.length - before).toBeLessThanOrEqual(2); // StrictMode renders twice
    expect(element.textContent).toHaveLength(1_000);
  });

  it("leaves one thread for another", async () => {
    const client = world.client({ transports: ["websocket"] });
    await show(client, createElement(Answer, { id: "t" }));
    const socket = await act(() => world.connected());
    socket.say(subscribed({ id: "connect" }), delta(1, "one"));
    await paint();
    await show(client, createElement(Answer, { id: "u" }));
    expect(element.textContent).toBe("");
    expect(socket.last("subscribe")).toMatchObject({ thread_id: "u" });
    await world.advance(1_000);
    expect(socket.last("unsubscribe")).toEqual({ type: "unsubscribe", thread_id: "t" });
  });

  it("says why there is nothing", async () => {
    world.token = null;
    const client = world.client();
    await show(client, createElement(Answer, { id: "t" }));
    await act(() => world.advance(0));
    expect(renders[renders.length - 1]!.error).toMatchObject({ code: "UNAUTHENTICATED", userMessage: "Please sign in again." });
  });

  it("says why a thread is followed no longer", async () => {
    const client = world.client({ transports: ["websocket"] });
    await show(client, createElement(Answer, { id: "t" }));
    const socket = await act(() => world.connected());
    socket.say(subscribed({ id: "connect" }), { type: "error", thread_id: "t", code: "NOT_FOUND", user_message: "It is gone." });
    await paint();
    expect(renders[renders.length - 1]!.error).toMatchObject({ code: "NOT_FOUND", userMessage: "It is gone.", threadId: "t" });
  });

  it("takes a page over as it came, and shows then what is here already", async () => {
    const client = world.client({ transports: ["websocket"] });
    client.thread("t").state();
    (await world.connected()).say(subscribed({ id: "connect" }), delta(1, "Hello"));
    const page = createElement(ClarionProvider, { client }, createElement(Answer, { id: "t" }));
    act(() => root.unmount());
    element.innerHTML = "<p></p>"; // the server knew nothing
    const complaints: unknown[] = [];
    await act(async () => {
      root = hydrateRoot(element, page, { onRecoverableError: (error) => complaints.push(error) });
    });
    expect([element.textContent, complaints]).toEqual(["Hello", []]);
  });

  it("renders on a server without a connection, and is taken over without a word", async () => {
    const client = world.client({ transports: ["websocket"] });
    const page = createElement(ClarionProvider, { client }, createElement(Answer, { id: "t" }));
    act(() => root.unmount());
    element.innerHTML = renderToString(page);
    expect(element.innerHTML).toBe("<p></p>");
    await world.advance(1_000);
    expect([world.sockets.length, world.watchers, world.pendingTimers]).toEqual([0, 0, 0]);
    const complaints: unknown[] = [];
    await act(async () => {
      root = hydrateRoot(element, page, { onRecoverableError: (error) => complaints.push(error) });
    });
    const socket = await act(() => world.connected());
    socket.say(subscribed({ id: "connect" }), delta(1, "Hello"));
    await paint();
    expect([element.textContent, complaints]).toEqual(["Hello", []]);
  });

  it("without a provider says what is missing", () => {
    expect(() => renderToString(createElement(Answer, { id: "t" }))).toThrow("There is no <ClarionProvider> above this component.");
  });

  it("names no token as the reason where none was given", async () => {
    await show(world.client({ transports: ["websocket"] }), createElement(Answer, { id: "t" }));
    const socket = await act(() => world.connected());
    await act(async () => socket.drop(4403));
    expect(renders[renders.length - 1]).toMatchObject({ connection: { state: "ERROR" }, error: { code: "GATEWAY_UNAVAILABLE" } });
  });

  it("goes on when the client is opened again after close()", async () => {
    const client = world.client({ transports: ["websocket"] });
    await show(client, createElement(Answer, { id: "t" }));
    const socket = await act(() => world.connected());
    await act(async () => socket.say(subscribed({ id: "connect" }), delta(1, "one")));
    await paint();
    await act(async () => client.close());
    await paint();
    expect(element.textContent).toBe("");
    await act(async () => client.open());
    const next = await act(() => world.connected());
    await act(async () => next.say(subscribed({ id: "connect" }), delta(1, "two")));
    await paint();
    expect(element.textContent).toBe("two");
  });
});
