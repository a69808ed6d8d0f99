// The events of a thread as JSON: filtered by type and text, each at its position.

import type { ClarionEvent, Missed } from "clarion-client";

import { $, el, setText, stayingAt } from "./dom.js";
import { moment, prettyJson } from "./format.js";

// More than this are not drawn at once; a button draws more.
const SHOWN = 500;

export class EventsView {
  readonly #list = $("event-list");
  readonly #missed = $("missed-list");
  readonly #more = $<HTMLButtonElement>("events-more");
  readonly #count = $("events-count");
  readonly #type = $<HTMLSelectElement>("events-type");
  readonly #text = $<HTMLInputElement>("events-text");
  #limit = SHOWN;
  #events: readonly ClarionEvent[] = [];
  // By the first offset of their events: the event of a message that streams is another one each time.
  #rows = new Map<number, { event: ClarionEvent; element: HTMLElement }>();

  constructor() {
    this.#more.addEventListener("click", () => {
      this.#limit += SHOWN;
      stayingAt(this.#list.firstElementChild, $("scroller"), () => this.#draw());
    });
    this.#type.addEventListener("change", () => this.#draw());
    this.#text.addEventListener("input", () => this.#draw());
  }

  clear(): void {
    this.#limit = SHOWN;
    this.#events = [];
    this.#rows.clear();
    this.#list.replaceChildren();
    this.#missed.replaceChildren();
    this.#type.options.length = 1; // "all"
    this.#text.value = "";
  }

  draw(events: readonly ClarionEvent[], missed: readonly Missed[]): void {
    if (events === this.#events) return;
    this.#events = events;
    this.#missed.replaceChildren(...missed.map(missedRow));
    this.#offerTypes();
    this.#draw();
  }

  #offerTypes(): void {
    const known = new Set([...this.#type.options].map(({ value }) => value));
    for (const { type } of this.#events) {
      if (known.has(type)) continue;
      known.add(type);
      this.#type.append(el("option", { value: type }, type));
    }
  }

  #draw(): void {
    const { value: type } = this.#type;
    const text = this.#text.value.trim().toLowerCase();
    const matches = this.#events.filter(
      (event) => (type === "" || event.type === type) && (text === "" || JSON.stringify(event).toLowerCase().includes(text)),
    );
    const shown = matches.slice(-this.#limit);
    const others = matches.length - shown.length;
    if (others === 0 && document.activeElement === this.#more) $("scroller").focus({ preventScroll: true });
    this.#more.hidden = others === 0;
    setText(this.#more, others <= SHOWN ? `Show the other ${others}` : `Show ${SHOWN} more of ${others}`);
    $("events-none").hidden = matches.length > 0 || this.#events.length === 0;
    setText(this.#count, matches.length === this.#events.length ? `${matches.length}` : `${matches.length} of ${this.#events.length}`);
    const rows = new Map(shown.map((event) => [firstOf(event), this.#row(event)]));
    for (const [first, { element }] of this.#rows) if (rows.get(first)?.element !== element) element.remove();
    let at = this.#list.firstElementChild;
    for (const { element } of rows.values()) {
      if (at === element) at = at.nextElementSibling;
      else this.#list.insertBefore(element, at);
    }
    this.#rows = rows;
  }

  #row(event: ClarionEvent): { event: ClarionEvent; element: HTMLElement } {
    const old = this.#rows.get(firstOf(event));
    if (old?.event === event) return old;
    const element = row(event);
    if (old) {
      // What is open stays open, and what has the focus keeps it.
      element.querySelector("details")!.open = old.element.querySelector("details")!.open;
      if (old.element.contains(document.activeElement)) queueMicrotask(() => element.querySelector("summary")!.focus());
    }
    return { event, element };
  }
}

function firstOf(event: ClarionEvent): number {
  return event.first_offset ?? event.offset;
}

function row(event: ClarionEvent): HTMLElement {
  const first = firstOf(event);
  const details = el(
    "details",
    {},
    el(
      "summary",
      {},
      el("span.offset", {}, first === event.offset ? String(event.offset) : `${first}–${event.offset}`),
      el("span.type", {}, event.type),
      el("span.brief", {}, briefOf(event)),
      el("time", { datetime: event.timestamp }, moment(event.timestamp)),
    ),
  );
  details.addEventListener("toggle", () => details.append(el("pre", { tabindex: 0 }, prettyJson(event))), { once: true });
  return el(
    "li.event",
    { "data-offset": event.offset, "data-first-offset": first, "data-event-id": event.event_id, "data-type": event.type },
    details,
  );
}

function missedRow({ fromOffset, toOffset, reason }: Missed): HTMLElement {
  return el(
    "li.event",
    { "data-type": "missed", "data-first-offset": fromOffset, "data-offset": toOffset },
    el("p", {}, el("span.offset", {}, `${fromOffset}–${toOffset}`), el("span.type", {}, "missed"), el("span.brief", {}, reason)),
  );
}

function briefOf(event: ClarionEvent): string {
  if ("delta" in event) return event.delta.slice(0, 200);
  if ("tool_name" in event) return event.tool_name;
  if ("step_name" in event) return event.step_name;
  if (event.type === "custom") return event.name;
  if ("user_message" in event) return event.user_message;
  return event.event_id;
}
