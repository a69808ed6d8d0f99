// @vitest-environment jsdom
// The events as JSON.

import type { ClarionEvent } from "clarion-client";
import { beforeEach, describe, expect, it } from "vitest";

import { EventsView } from "../src/events_view.js";

let view: EventsView;

beforeEach(() => {
  document.body.innerHTML =
    '<select id="events-type"><option value="">all</option></select><input id="events-text"><span id="events-count"></span>' +
    '<button id="events-more"></button><ol id="missed-list"></ol><p id="events-none"></p><ol id="event-list"></ol>';
  view = new EventsView();
});

function delta(offset: number, first: number): ClarionEvent {
  return { type: "agent_message_delta", offset, first_offset: first, event_id: `e${offset}`, delta: "x", message_id: "m", timestamp: "2026-01-01T00:00:00Z" } as ClarionEvent;
}

const rows = () => [...document.querySelectorAll<HTMLElement>("#event-list > .event")].map((row) => [row.dataset["firstOffset"], row.dataset["offset"]]);

describe("events", () => {
  it("of a message that streams are one row, which stays open and keeps the focus", async () => {
    view.draw([delta(3, 1), delta(4, 4)], []);
    document.querySelectorAll("details")[1]!.open = true;
    document.querySelectorAll("summary")[1]!.focus();
    view.draw([delta(3, 1), delta(9, 4)], []);
    await Promise.resolve();
    expect(rows()).toEqual([["1", "3"], ["4", "9"]]);
    const [first, second] = [...document.querySelectorAll("details")];
    expect([first!.open, second!.open]).toEqual([false, true]);
    expect(document.activeElement).toBe(second!.querySelector("summary"));
  });

  it("of steps and of one's own say their names", () => {
    const of = (event: object) => ({ offset: 1, event_id: "e", timestamp: "2026-01-01T00:00:00Z", ...event }) as ClarionEvent;
    view.draw([of({ type: "step_started", step_name: "Look around" }), of({ type: "custom", offset: 2, name: "map_moved", value: null })], []);
    expect([...document.querySelectorAll(".brief")].map(({ textContent }) => textContent)).toEqual(["Look around", "map_moved"]);
  });

  it("that were rolled back are gone", () => {
    view.draw([delta(3, 1), delta(9, 4)], []);
    view.draw([delta(3, 1)], []);
    expect(rows()).toEqual([["1", "3"]]);
  });
});
