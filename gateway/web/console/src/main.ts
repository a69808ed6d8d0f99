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

// The list of threads, and whether this is development, if there was no answer.
const LIST_AGAIN_MS = 5_000;
const ASK_AGAIN_MS = 3_000;

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
let chosen = false; // somebody chose the thread, so the page does not
let listBehind = false; // on a phone: the browser's way back leads to the list
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

// Until it is here, and as long as there is a connection.
async function loadThreads(): Promise<void> {
  await threads.load();
  if (threads.list !== "failed") return;
  setTimeout(() => {
    if (client.connection.state === "CONNECTED") void loadThreads();
  }, LIST_AGAIN_MS);
}

function showSignIn(reason: string): void {
  document.body.dataset["signedIn"] = "no";
  document.title = "Clarion";
  $("sign-in").hidden = false;
  $("workspace").hidden = true;
  $("sign-out").hidden = true;
  $("sign-in-reason").hidden = reason === "";
  setText($("sign-in-reason"), reason);
}

// The address stays for whoever signs in again because the token ended.
function signOut(reason: string): void {
  auth.signOut();
  leaveAll();
  threadView.show(null);
  client.close();
  threads.clear();
  threadList.clear();
  for (const id of ["user", "announcer", "thread-title"]) setText($(id), "");
  showProblem("");
  showSignIn(reason);
  focusSignIn();
}

function focusSignIn(): void {
  $(!$("sign-in-dev").hidden ? "sign-in-user" : "sign-in-token").focus();
}

// --- What the client tells ---

client.on("connection", (state: ConnectionState) => {
  connectionView.draw(state);
  if (state.userId) setText($("user"), state.userId);
  if (state.state === "CONNECTED") {
    showProblem("");
    void loadThreads();
  }
  if (state.needsToken && auth.signedIn) signOut(auth.refusal(Date.now()) || state.reason);
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

function threadInAddress(): string | null {
  const match = /^#thread=(.+)$/.exec(location.hash);
  try {
    return match ? decodeURIComponent(match[1]!) : null;
  } catch {
    return null;
  }
}

// null: the list. On a phone it covers the thread, which nobody sees then.
function select(threadId: string | null): void {
  document.body.dataset["pane"] = threadId === null ? "threads" : "thread";
  threadView.show(threadId);
  if (threadInAddress() !== threadId) setAddress(threadId === null ? "" : addressOf(threadId));
  planDraw();
}

function setAddress(hash: string): void {
  history.replaceState(null, "", location.pathname + location.search + hash);
}

function narrow(): boolean {
  return window.matchMedia("(max-width: 720px)").matches;
}

// The thread that started last, unless somebody chose one or is busy in it, the list covers the screen, or what
// is shown still goes on.
function selectByItself(): void {
  if (chosen || threads.byId.size === 0 || narrow()) return;
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
    const shown = threads.get(threadView.threadId);
    threadView.title(shown?.title || threadView.threadId || "");
    threadList.draw(threads, threadView.threadId, Date.now());
  });
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
    enter();
    $("threads-title").focus();
  });
  $("sign-in-with-token").addEventListener("submit", (event) => {
    event.preventDefault();
    auth.signInWith($<HTMLTextAreaElement>("sign-in-token").value.trim());
    $<HTMLTextAreaElement>("sign-in-token").value = "";
    enter();
    $("threads-title").focus();
  });
  $("sign-out").addEventListener("click", () => {
    signOut("");
    setAddress("");
  });
  $("problem-close").addEventListener("click", () => showProblem(""));
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
  window.addEventListener("hashchange", ({ oldURL }) => {
    if (!auth.signedIn) return;
    const [before, now] = [threadView.threadId, threadInAddress()];
    chosen = now !== null;
    listBehind = chosen && new URL(oldURL).hash === "";
    select(now);
    if (!narrow()) return;
    if (now === null) threadList.focus(before);
    else $("thread-title").focus();
  });
  $("back").addEventListener("click", (event) => {
    event.preventDefault();
    if (listBehind) return history.back();
    const before = threadView.threadId;
    select(null);
    threadList.focus(before);
  });
  setInterval(() => {
    const now = Date.now();
    connectionView.tick(now);
    if (document.hidden || !auth.signedIn) return;
    threadView.tick(now);
    threadList.draw(threads, threadView.threadId, now);
  }, 1000);
}

async function start(): Promise<void> {
  wire();
  if (auth.signedIn) enter();
  else showSignIn("");
  await detectDevelopment();
}

// Until the server has said.
async function detectDevelopment(): Promise<void> {
  let development: boolean;
  try {
    development = await auth.detectDevelopment();
  } catch {
    return void setTimeout(detectDevelopment, ASK_AGAIN_MS);
  }
  $("sign-in-dev").hidden = !development;
  $("sign-in-choice").hidden = !development;
  $<HTMLDetailsElement>("sign-in-token-details").open = !development;
  $("trouble").hidden = !development;
  if (!auth.signedIn && document.activeElement === document.body) focusSignIn();
}

void start();
