// The page: signs in, follows every thread of the user, shows one of them.
//
// It remembers no events. The thread that is shown is read from its start, so that a reload shows all
// that is kept of it; the others only tell the list that something happened. What was drawn is
// acknowledged, nothing else.

import { Auth } from "./auth.js";
import { ago, clock, el, setAttribute, setText } from "./dom.js";
import { EventsView } from "./events_view.js";
import { State, Stream } from "./stream.js";
import { Threads } from "./threads.js";
import { Timeline } from "./timeline.js";
import { TimelineView } from "./view.js";

// Of so many threads that have nothing new, what they are about and when they were last active is asked
// for: the whole of a short one, the last event of a long one.
const PEEKS = 40;
const SHORT_THREAD = 500;
// Closer to the end than this, the reader is taken along.
const FOLLOW_PX = 80;

const $ = (id) => document.getElementById(id);

const auth = new Auth(document.baseURI);
const threads = new Threads();
const timelineView = new TimelineView($("timeline"));
const eventsView = new EventsView($("events"));
const rows = new Map(); // thread_id -> its row of the list
let timeline = null; // of the thread that is shown
let caughtUp = false;
let claim = false;
let peeks = 0;
let status = { state: State.DISCONNECTED, reason: "" };
let raw = false;
let drawPlanned = false;
let following = true; // the reader is at the end of the timeline
let chosen = false; // somebody chose the thread, so the page does not

const stream = new Stream({
  url: streamUrl(),
  client: "clarion-page",
  getToken: (fresh) => auth.getToken(fresh),
  onState: showState,
  onFrame: receive,
  onProblem: showProblem,
});

function streamUrl() {
  const url = new URL("v1/stream", document.baseURI);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

// --- Signing in and out ---

async function start() {
  wire();
  if (auth.signedIn) enter();
  else showSignIn("");
  const development = await auth.detectDevelopment();
  $("sign-in-dev").hidden = !development;
  $("sign-in-choice").hidden = !development;
  $("sign-in-token-details").open = !development;
}

function enter() {
  document.body.dataset.signedIn = "yes";
  $("sign-in").hidden = true;
  $("workspace").hidden = false;
  $("sign-out").hidden = false;
  chosen = threadInAddress() !== null;
  select(threadInAddress());
  stream.open();
}

function showSignIn(reason) {
  $("sign-in").hidden = false;
  $("workspace").hidden = true;
  $("sign-out").hidden = true;
  $("sign-in-reason").hidden = reason === "";
  setText($("sign-in-reason"), reason);
}

function signOut() {
  stream.close();
  document.body.dataset.signedIn = "no";
  auth.signOut();
  threads.byId.clear();
  rows.clear();
  $("thread-list").replaceChildren();
  timelineView.clear();
  eventsView.clear();
  timeline = null;
  peeks = 0;
  setText($("user"), "");
  showProblem("");
  history.replaceState(null, "", location.pathname + location.search);
  showSignIn("");
}

// --- Frames ---

function receive(frame, text) {
  switch (frame.type) {
    case "connected":
      setText($("user"), frame.user_id);
      showProblem("");
      break;
    case "bound":
      threads.join(frame.thread_id);
      break;
    case "subscribed":
      if (!frame.all) subscribed(frame);
      break;
    case "caught_up":
      if (shows(frame.thread_id)) {
        timeline.caughtUp();
        caughtUp = true;
      }
      break;
    case "missed":
      if (shows(frame.thread_id) && timeline.started) timeline.missed(frame);
      break;
    case "error":
      showProblem(`${frame.user_message || frame.message || "Something went wrong."} (${frame.code})`);
      break;
    case "unsubscribed":
    case "refreshed":
    case "going_away":
    case "acked":
      break;
    default:
      if (frame.event_id) event(frame, text);
  }
  planDraw();
}

function subscribed(frame) {
  if (frame.claim) {
    if (shows(frame.thread_id)) claim = true;
    return;
  }
  const thread = threads.subscribed(frame);
  if (shows(frame.thread_id)) {
    claim = false;
    caughtUp = false;
    timeline.begin(frame);
    return;
  }
  const last = frame.last_offset ?? 0;
  const nothingComes = (frame.from_offset ?? 1) > last;
  if (nothingComes && last > 0 && thread.at === 0 && peeks < PEEKS) {
    peeks += 1;
    thread.peekedTo = last;
    stream.subscribe(frame.thread_id,
      last <= SHORT_THREAD ? { from: "start" } : { after: { epoch: frame.epoch, offset: last - 1 } });
  }
}

function event(event, text) {
  const shown = shows(event.thread_id);
  const thread = threads.join(event.thread_id);
  threads.event(event, shown || event.offset <= thread.peekedTo);
  // What comes before the answer to our own subscription comes again after it.
  if (!shown || !timeline.started) return;
  timeline.event(event, text);
  if (!caughtUp) return;
  if (event.type === "agent_completed") announce(`${event.agent_name}: ${event.outcome}`);
  if (event.type === "agent_error") announce(event.user_message ?? "The run failed.");
}

function shows(threadId) {
  return timeline !== null && timeline.threadId === threadId;
}

// --- The thread that is shown ---

function threadInAddress() {
  const match = /^#thread=(.+)$/.exec(location.hash);
  if (!match) return null;
  try {
    return decodeURIComponent(match[1]);
  } catch {
    return null;
  }
}

function select(threadId) {
  document.body.dataset.pane = threadId === null ? "threads" : "thread";
  if (threadId === null || shows(threadId)) return;
  timeline = new Timeline(threadId);
  caughtUp = false;
  claim = false;
  following = true;
  const thread = threads.get(threadId);
  if (thread) thread.unseen = 0;
  timelineView.clear();
  eventsView.clear();
  stream.subscribe(threadId, { from: "start" });
  if (threadInAddress() !== threadId) history.replaceState(null, "", addressOf(threadId));
  planDraw();
}

function addressOf(threadId) {
  return `#thread=${encodeURIComponent(threadId)}`;
}

// Shows the thread that started last, unless somebody chose one, the list covers the screen, or what is
// shown still goes on.
function selectByItself() {
  if (chosen || threads.byId.size === 0 || window.matchMedia("(max-width: 720px)").matches) return;
  const sorted = threads.sorted();
  const shown = timeline && threads.get(timeline.threadId);
  if (!shown) select((sorted.find((thread) => thread.activeRuns.size > 0) ?? sorted[0]).id);
  else if (shown.activeRuns.size === 0 && sorted[0].startedAt > shown.startedAt) select(sorted[0].id);
}

// --- Drawing: once per frame of the screen, and only what changed ---

function planDraw() {
  if (drawPlanned) return;
  drawPlanned = true;
  requestAnimationFrame(() => {
    drawPlanned = false;
    selectByItself();
    drawThread();
    drawList();
  });
}

function drawThread() {
  $("thread").dataset.threadId = timeline?.threadId ?? "";
  $("thread-empty").hidden = timeline !== null;
  $("thread-body").hidden = timeline === null;
  if (timeline === null) return;

  if (raw) eventsView.draw(timeline);
  else timelineView.draw(timeline, timeline.takeChanges());
  $("thread-claim").hidden = !claim;
  $("thread-waiting").hidden = claim || timeline.entries.length > 0;
  setAttribute($("thread"), "data-caught-up", caughtUp);
  setAttribute($("thread"), "data-offset", timeline.last);
  const thread = threads.get(timeline.threadId);
  setText($("thread-title"), thread?.title || timeline.threadId);
  setAttribute($("thread-title"), "title", timeline.threadId);
  const runs = timeline.runs.size;
  setText($("thread-facts"), claim ? "" : `${runs} ${runs === 1 ? "run" : "runs"}, ${timeline.last} updates`);
  if (following) toTheEnd();

  if (thread) thread.unseen = 0;
  if (timeline.started && timeline.last > 0 && !claim) {
    stream.ack(timeline.threadId, timeline.epoch, timeline.last);
  }
}

function drawList() {
  const sorted = threads.sorted();
  const list = $("thread-list");
  const focused = document.activeElement;
  const now = Date.now();
  sorted.forEach((thread, index) => {
    const row = rowOf(thread);
    drawRow(row, thread, now);
    if (list.children[index] !== row.item) list.insertBefore(row.item, list.children[index] ?? null);
  });
  if (focused instanceof HTMLElement && focused !== document.activeElement && list.contains(focused)) focused.focus();
  $("threads-empty").hidden = sorted.length > 0;
}

function rowOf(thread) {
  let row = rows.get(thread.id);
  if (row) return row;
  const title = el("span.title");
  const activity = el("span.activity");
  const time = el("span.time");
  const dot = el("span.dot", { "aria-hidden": "true" });
  const link = el("a", { href: addressOf(thread.id), "data-thread-id": thread.id }, dot, title, time, activity);
  row = { item: el("li", {}, link), link, title, activity, time };
  rows.set(thread.id, row);
  return row;
}

function drawRow(row, thread, now) {
  setText(row.title, thread.title || thread.id);
  setText(row.activity, thread.activity || "Nothing new");
  setText(row.time, thread.at > 0 ? ago(now - thread.at) : "");
  setAttribute(row.link, "aria-current", shows(thread.id) ? "true" : null);
  setAttribute(row.link, "data-live", thread.activeRuns.size > 0);
  setAttribute(row.link, "data-unseen", thread.unseen > 0 && !shows(thread.id));
  setAttribute(row.link, "title", thread.id);
}

// --- Connection state, problems, announcements ---

function showState(next) {
  const before = status;
  status = { ...next, userId: next.userId ?? before.userId, tokenExpiresAt: next.tokenExpiresAt ?? before.tokenExpiresAt };
  $("connection").dataset.state = status.state;
  setText($("connection-label"), status.state);
  showWait();
  $("retry").hidden = status.state !== State.DISCONNECTED || !status.retryAt;
  if (status.state === State.ERROR && status.needsToken) {
    auth.signOut();
    showSignIn(status.reason);
  }
}

function showWait() {
  const parts = [];
  if (status.reason) parts.push(status.reason.replace(/\.$/, ""));
  if (status.state === State.DISCONNECTED && status.retryAt) {
    parts.push(`trying again in ${Math.max(0, Math.ceil((status.retryAt - Date.now()) / 1000))} s`);
  }
  if (status.state === State.CONNECTED && !auth.session?.user && endsSoon()) {
    parts.push(`the token ends at ${clock(status.tokenExpiresAt)}`);
  }
  setText($("connection-reason"), parts.join(", "));
}

function endsSoon() {
  return Date.parse(status.tokenExpiresAt ?? "") - Date.now() < 120_000;
}

function showProblem(text) {
  $("problem").hidden = text === "";
  setText($("problem-text"), text);
}

function announce(text) {
  setText($("announcer"), text);
}

// --- Scrolling ---

function toTheEnd() {
  const scroller = $("scroller");
  scroller.scrollTop = scroller.scrollHeight;
}

function noteScroll() {
  const scroller = $("scroller");
  following = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < FOLLOW_PX;
  $("to-end").hidden = following;
}

// --- Wiring ---

function showRaw(on) {
  raw = on;
  $("show-timeline").setAttribute("aria-pressed", String(!on));
  $("show-events").setAttribute("aria-pressed", String(on));
  $("timeline").hidden = on;
  $("events").hidden = !on;
  if (!on) timelineView.clear(); // what came meanwhile is drawn with the rest
  planDraw();
}

// Up and down move through the list.
function moveInList(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  const links = [...$("thread-list").querySelectorAll("a")];
  const at = links.indexOf(document.activeElement);
  const next = links[at + step];
  if (at < 0 || !next) return;
  event.preventDefault();
  next.focus();
}

function wire() {
  $("sign-in-dev").addEventListener("submit", (event) => {
    event.preventDefault();
    auth.signInAs($("sign-in-user").value.trim());
    enter();
  });
  $("sign-in-with-token").addEventListener("submit", (event) => {
    event.preventDefault();
    auth.signInWith($("sign-in-token").value.trim());
    $("sign-in-token").value = "";
    enter();
  });
  $("sign-out").addEventListener("click", signOut);
  $("retry").addEventListener("click", () => stream.retryNow());
  $("problem-close").addEventListener("click", () => showProblem(""));
  $("show-timeline").addEventListener("click", () => showRaw(false));
  $("show-events").addEventListener("click", () => showRaw(true));
  $("thread-list").addEventListener("keydown", moveInList);
  $("scroller").addEventListener("scroll", noteScroll, { passive: true });
  $("to-end").addEventListener("click", () => {
    following = true;
    toTheEnd();
  });
  window.addEventListener("hashchange", () => {
    if (!auth.signedIn) return;
    chosen = threadInAddress() !== null;
    select(threadInAddress());
  });
  window.addEventListener("online", () => stream.retryNow());
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) stream.retryNow();
  });
  setInterval(() => {
    showWait();
    if (raw || timeline === null || document.hidden) return;
    timelineView.tick(Date.now());
    drawList();
  }, 1000);
}

start();
