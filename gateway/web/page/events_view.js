// The raw events of a thread, each as the very text that the server sent.

import { clock, el } from "./dom.js";

// More than this are not drawn at once; a button draws the rest.
const SHOWN = 1000;

export class EventsView {
  constructor(root) {
    this.root = root;
    this.list = el("ol.events");
    this.older = el("button.quiet", { type: "button", hidden: true });
    this.older.addEventListener("click", () => {
      this.limit = Infinity;
      this.#redraw();
    });
    root.append(this.older, this.list);
    this.limit = SHOWN;
    this.timeline = null;
    this.drawn = 0;
    this.generation = -1;
  }

  clear() {
    this.limit = SHOWN;
    this.timeline = null;
    this.generation = -1;
    this.list.replaceChildren();
    this.older.hidden = true;
  }

  draw(timeline) {
    if (timeline !== this.timeline || timeline.generation !== this.generation) {
      this.timeline = timeline;
      this.#redraw();
      return;
    }
    this.#append(this.drawn);
  }

  #redraw() {
    this.generation = this.timeline.generation;
    this.list.replaceChildren();
    const first = Math.max(0, this.timeline.entries.length - this.limit);
    this.older.hidden = first === 0;
    this.older.textContent = `Show ${first} older`;
    this.#append(first);
  }

  #append(from) {
    const { entries } = this.timeline;
    this.list.append(...entries.slice(from).map(row));
    this.drawn = entries.length;
  }
}

function row(entry) {
  if (!entry.event) {
    return el("li.event", { "data-type": "missed" }, el("pre", {}, JSON.stringify(entry.missed)));
  }
  const { event, text } = entry;
  const first = event.first_offset ?? event.offset;
  return el("li.event", { "data-offset": event.offset, "data-first-offset": first, "data-event-id": event.event_id, "data-type": event.type },
    el("details", {},
      el("summary", {},
        el("span.offset", {}, first === event.offset ? String(event.offset) : `${first}–${event.offset}`),
        el("span.type", {}, event.type),
        el("span.brief", {}, event.delta ?? event.tool_name ?? event.user_message ?? event.event_id),
        el("time", { datetime: event.timestamp }, clock(event.timestamp))),
      el("pre", { tabindex: 0 }, text)));
}
