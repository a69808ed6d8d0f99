// The console: signs in, follows every thread of the user, shows one of them.
//
// It keeps nothing between visits. A thread that is opened begins with what is unfinished or not seen, and
// what came before is loaded page by page. What was drawn is acknowledged, nothing else.

import { connect, type ConnectionState } from "clarion-client";

import { Auth } from "./auth.js";
import { ConnectionView } from "./connection_view.js";
import { $, setText } from "./dom.js";
import { addressOf, ThreadList } from "./thread_list.js";
import { ThreadView } from "./thread_view.js";
import { Threads } from "./threads.js";
import { Trouble } from "./trouble.js";
import "./style.css";

const auth = new Auth(document.baseURI);
const trouble = new Trouble();
const client = connect({
  url: document.baseURI,
  client: "clarion-console",
  token: ({ fresh }) => auth.token(fresh),
  environment: trouble.environment,
});
const connectionView = new ConnectionView(client, () => auth.inDevelopment);
const threads = new Threads(client, planDraw);
const threadList = new ThreadList();
const threadView = new ThreadView(client);
// Then there is the list or the thread.
const narrow = window.matchMedia("(max-width: 720px)");
const ASK_AGAIN_MS = 2_000;
let chosen = false; // somebody chose the thread, so the page does not
let drawPlanned = false;
let leaveAll = () => {};

// --- Signing in and out ---

function enter(): void {
  document.body.dataset["signedIn"] = "yes";
  $("sign-in").hidden = true;
  $("workspace").hidden = false;
  $("sign-out").hidden = false;
  chosen = threadInAddress() !== null;
  leaveAll = client.all({ ack: "manual" });
  select(threadInAddress());
  planDraw();
}

function signIn(): void {
  enter();
  focusTitle();
}

function showSignIn(reason: string): void {
  document.body.dataset["signedIn"] = "no";
  $("sign-in").hidden = false;
  $("workspace").hidden = true;
  $("sign-out").hidden = true;
  $("sign-in-reason").hidden = reason === "";
  setText($("sign-in-reason"), reason);
}

function signOut(reason: string): void {
  auth.signOut();
  leaveAll();
  threadView.show(null);
  client.close();
  threads.clear();
  threadList.clear();
  drawTitle();
  for (const id of ["user", "announcer"]) setText($(id), "");
  showProblem("");
  showSignIn(reason);
  focusSignIn();
}

function focusSignIn(): void {
  $($("sign-in-dev").hidden ? "sign-in-token" : "sign-in-user").focus();
}

// --- What the client tells ---

client.on("connection", (state: ConnectionState) => {
  connectionView.draw(state);
  if (state.userId) setText($("user"), state.userId);
  if (state.state === "CONNECTED") {
    showProblem("");
    void threads.load();
  }
  if (state.state === "DISCONNECTED" || state.state === "ERROR") threads.unreachable();
  // The address stays: whoever signs in again goes on there.
  if (state.needsToken && auth.signedIn) signOut(auth.refusal || state.reason);
});
client.on("subscribed", (frame) => {
  threads.subscribed(frame);
  planDraw();
});
client.on("event", (event) => {
  threads.event(event, event.thread_id === threadView.threadId);
  planDraw();
});
client.on("error", (error) => {
  const gone = error.code === "NOT_FOUND" && error.threadId !== undefined;
  if (gone) threads.byId.delete(error.threadId!);
  else showProblem(`${error.userMessage || error.message} (${error.code})`);
  planDraw();
});

// --- The thread that is shown ---

// What is no id of a thread would make the gateway end the connection.
function threadInAddress(): string | null {
  const match = /^#thread=(.+)$/.exec(location.hash);
  try {
    const threadId = match ? decodeURIComponent(match[1]!) : "";
    return /^[!-~]{1,128}$/.test(threadId) ? threadId : null;
  } catch {
    return null;
  }
}

// Without a thread; a narrow screen shows the list then, and nothing counts as seen behind it.
function select(threadId: string | null): void {
  document.body.dataset["pane"] = threadId === null ? "threads" : "thread";
  threadView.show(threadId);
  drawTitle();
  writeAddress(threadId, history.state ?? {});
  planDraw();
}

// A state marks what the user has looked at. `afterList`: the list is one step back.
function writeAddress(threadId: string | null, state: { afterList?: boolean } | null): void {
  history.replaceState(state, "", threadId === null ? location.pathname + location.search : addressOf(threadId));
}

// Somebody chose it; null: the list.
function go(threadId: string | null): void {
  const left = threadView.threadId;
  chosen = threadId !== null;
  select(threadId);
  if (!narrow.matches) return;
  if (threadId === null) threadList.focus(left);
  else focusTitle();
}

// The thread that started last, unless somebody chose one, the list covers the screen, or what is shown
// still goes on or is being read.
function selectByItself(): void {
  if (chosen || threads.byId.size === 0 || narrow.matches) return;
  const sorted = threads.sorted();
  const shown = threads.get(threadView.threadId);
  if (shown && threadView.inUse) return;
  if (!shown) select((sorted.find((thread) => thread.activeRuns.size > 0) ?? sorted[0]!).id);
  else if (shown.activeRuns.size === 0 && sorted[0]!.startedAt > shown.startedAt) select(sorted[0]!.id);
}

// --- Drawing: once per frame of the screen ---

function planDraw(): void {
  if (drawPlanned) return;
  drawPlanned = true;
  trouble.environment.beforePaint(() => {
    drawPlanned = false;
    if (!auth.signedIn) return;
    selectByItself();
    threads.show(threadView.threadId);
    drawTitle();
    threadList.draw(threads, threadView.threadId, Date.now());
  });
}

function drawTitle(): void {
  threadView.title(threads.get(threadView.threadId)?.title || threadView.threadId || "");
}

// Where what was pressed is gone.
function focusTitle(): void {
  $(threadView.threadId === null ? "threads-title" : "thread-title").focus();
}

function showProblem(text: string): void {
  $("problem").hidden = text === "";
  setText($("problem-text"), text);
}

// --- Wiring ---

function wireSignIn(): void {
  $("sign-in-dev").addEventListener("submit", (event) => {
    event.preventDefault();
    auth.signInAs($<HTMLInputElement>("sign-in-user").value.trim());
    signIn();
  });
  $("sign-in-with-token").addEventListener("submit", (event) => {
    event.preventDefault();
    auth.signInWith($<HTMLTextAreaElement>("sign-in-token").value.trim());
    $<HTMLTextAreaElement>("sign-in-token").value = "";
    signIn();
  });
  $("sign-out").addEventListener("click", () => {
    signOut("");
    writeAddress(null, null);
  });
  $("problem-close").addEventListener("click", () => {
    showProblem("");
    focusTitle();
  });
}

function wireTrouble(): void {
  const menu = $<HTMLDetailsElement>("trouble");
  document.addEventListener("keydown", ({ key }) => {
    if (key !== "Escape" || !menu.open) return;
    menu.open = false;
    menu.querySelector("summary")!.focus();
  });
  document.addEventListener("pointerdown", ({ target }) => {
    if (!menu.contains(target as Node)) menu.open = false;
  });
  const toggle = (id: string, action: (on: boolean) => void) =>
    $<HTMLInputElement>(id).addEventListener("change", (event) => action((event.target as HTMLInputElement).checked));
  $("trouble-drop").addEventListener("click", () => trouble.dropConnection());
  $("trouble-expire").addEventListener("click", () => {
    auth.spoilToken();
    trouble.dropConnection();
  });
  toggle("trouble-websocket", (on) => trouble.blockWebSocket(on));
  toggle("trouble-streams", (on) => trouble.holdStreams(on));
  toggle("trouble-offline", (on) => trouble.offline(on));
}

function wire(): void {
  wireSignIn();
  wireTrouble();
  // Also the one that is shown already.
  $("thread-list").addEventListener("click", () => (chosen = true));
  window.addEventListener("hashchange", () => {
    // What somebody had looked at before he signed out.
    if (!auth.signedIn) return void (history.state !== null && writeAddress(null, null));
    const threadId = threadInAddress();
    if (history.state === null) writeAddress(threadId, { afterList: threadView.threadId === null });
    go(threadId);
  });
  $("back").addEventListener("click", () => {
    if (history.state?.afterList) return history.back();
    go(null);
  });
  narrow.addEventListener("change", planDraw);
  setInterval(() => {
    const now = Date.now();
    connectionView.tick(now);
    if (document.hidden || !auth.signedIn) return;
    threadView.tick(now);
    threadList.draw(threads, threadView.threadId, now);
  }, 1000);
}

function start(): void {
  wire();
  if (auth.signedIn) enter();
  else showSignIn("");
  void offerSignIn();
}

// A server that is not there yet is asked again.
async function offerSignIn(): Promise<void> {
  let development = false;
  try {
    development = await auth.detectDevelopment();
    $("sign-in-waiting").hidden = true;
  } catch {
    $("sign-in-waiting").hidden = false;
    setTimeout(() => void offerSignIn(), ASK_AGAIN_MS);
  }
  $("sign-in-dev").hidden = !development;
  $("sign-in-choice").hidden = !development;
  $("trouble").hidden = !development;
  $<HTMLDetailsElement>("sign-in-token-details").open = !development || $<HTMLTextAreaElement>("sign-in-token").value !== "";
  if ($("sign-in-waiting").hidden && !auth.signedIn && document.activeElement === document.body) focusSignIn();
}

start();
