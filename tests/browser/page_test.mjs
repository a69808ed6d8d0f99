// The page in a real browser, in front of the real clarion and the sample agent. What the page shows is
// compared with the log, event by event, so that "nothing missing, nothing twice" is checked and not seen.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import { chromium } from "playwright-core";

import { Clarion, python, repository, runTests } from "../clients/program.mjs";
import { lab, units } from "./units.mjs";

const QUESTION = "How is an event accepted before it is committed to the log?";
const WIDE = { width: 1280, height: 860 };
const PHONE = { width: 390, height: 780 };
const PATIENCE_MS = 30_000;
// Slow enough that a run is still going on when something happens to it.
const PACE_SECONDS = "0.03";

const binaries = process.argv[2];
const screenshots = path.join(binaries, "screenshots");
fs.mkdirSync(screenshots, { recursive: true });

const clarion = await Clarion.start(binaries, ["--dev"]);
const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: process.getuid() === 0 ? ["--no-sandbox"] : [],
});

const fresh = (kind) => `${kind}-${randomBytes(6).toString("hex")}`;

// --- Words of the tests ---

class Visitor {
  static async arrive(user, options = {}, where = clarion) {
    const visitor = new Visitor();
    visitor.context = await browser.newContext({ viewport: WIDE, ...options });
    visitor.page = await visitor.context.newPage();
    visitor.page.setDefaultTimeout(PATIENCE_MS);
    visitor.complaints = [];
    visitor.page.on("pageerror", (error) => visitor.complaints.push(String(error)));
    visitor.page.on("console", (message) => {
      // The browser itself logs every connection that fails; the page reports those in its own words.
      const network = /WebSocket connection to|Failed to load resource/.test(message.text());
      if (message.type() === "error" && !network) visitor.complaints.push(message.text());
    });
    await visitor.page.goto(where.page);
    await visitor.page.fill("#sign-in-user", user);
    await visitor.page.click("#sign-in-dev-button");
    await visitor.connected();
    return visitor;
  }

  connected() {
    return this.page.waitForSelector('#connection[data-state="CONNECTED"]');
  }

  run(number, state) {
    return this.page.waitForSelector(`.run:nth-of-type(${number})[data-state="${state}"]`);
  }

  // The thread is shown up to this offset at least.
  shown(offset) {
    return this.page.waitForFunction(
      (least) => Number(document.querySelector("#thread").dataset.offset) >= least, offset);
  }

  offset() {
    return this.page.$eval("#thread", (thread) => Number(thread.dataset.offset));
  }

  async rawEvents(last) {
    await this.page.click("#show-events");
    await this.page.waitForSelector(`#events .event[data-offset="${last}"]`);
    const events = await this.page.$$eval("#events .event", (rows) => rows.map((row) => ({
      first_offset: Number(row.dataset.firstOffset),
      offset: Number(row.dataset.offset),
      event_id: row.dataset.eventId,
      type: row.dataset.type,
    })));
    await this.page.click("#show-timeline");
    await this.page.waitForSelector(".run");
    return events;
  }

  // The log and the page say the same, and the answers are whole.
  async showsTheWholeLog(thread) {
    const log = await clarion.python("list", "--thread", thread);
    await this.shown(log.length);
    const answers = await this.page.$$eval(".message", (nodes) => nodes.map((node) => node.textContent).join(""));
    const shown = await this.rawEvents(log.length);
    // One row for each event, or for consecutive deltas: the last one's, all of one type.
    let seen = 0;
    for (const { first_offset, offset, event_id, type } of shown) {
      assert.equal(first_offset, seen + 1);
      assert.deepEqual([event_id, type], [log[offset - 1].event_id, log[offset - 1].type]);
      for (const covered of log.slice(first_offset - 1, offset)) assert.equal(covered.type, type);
      seen = offset;
    }
    assert.equal(seen, log.length);
    assert.deepEqual(log.map(({ offset }) => offset), log.map((_, index) => index + 1));
    const wanted = log.map(({ delta }) => delta ?? "").join("");
    assert.equal(squeeze(answers), squeeze(wanted));
  }

  screenshot(name) {
    return this.page.screenshot({ path: path.join(screenshots, `${name}.png`) });
  }

  async leave() {
    assert.deepEqual(this.complaints, []);
    await this.context.close();
  }
}

// Without what formatting takes away.
function squeeze(text) {
  return text.replace(/[\s`*-]+/g, "");
}

// Starts a run of the sample agent; `done` resolves when the program ended well.
function ask(user, thread, question, ...more) {
  const child = spawn(python, [
    path.join(repository, "service/client/sample_agent/sample_agent.py"), "--service", clarion.service,
    "--user", user, "--thread", thread, "--folder", repository, "--pace", PACE_SECONDS, "--question", question,
    ...more,
  ], { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  child.stdout.on("data", (data) => { output += data; });
  child.stderr.on("data", (data) => { output += data; });
  const done = new Promise((resolve, reject) => {
    child.on("close", (code) => (code === 0 ? resolve() : reject(new Error(`the agent ended with ${code}:\n${output}`))));
  });
  done.catch(() => {}); // reported where it is awaited
  return { done };
}

// --- The tests ---

const tests = [
  ["a run appears live, and a reload shows all of it", async () => {
    const [user, thread] = [fresh("user"), fresh("thread")];
    const visitor = await Visitor.arrive(user);
    const { done } = ask(user, thread, QUESTION);
    await visitor.run(1, "running");
    await visitor.page.waitForSelector(".message pre");
    await visitor.screenshot("live");
    await visitor.run(1, "success");
    await done;
    await visitor.showsTheWholeLog(thread);
    assert.equal(await visitor.page.textContent(".question"), QUESTION);
    assert.ok((await visitor.page.$$('.tool[data-status="succeeded"]')).length >= 4);

    await visitor.page.reload();
    await visitor.run(1, "success");
    await visitor.showsTheWholeLog(thread);
    await visitor.screenshot("after-reload");
    await visitor.leave();
  }],

  ["a reload in mid-run loses nothing and repeats nothing", async () => {
    const [user, thread] = [fresh("user"), fresh("thread")];
    const visitor = await Visitor.arrive(user);
    const { done } = ask(user, thread, QUESTION);
    await visitor.run(1, "running");
    await visitor.shown(20);
    await visitor.page.reload();
    await visitor.run(1, "running");
    await visitor.run(1, "success");
    await done;
    await visitor.showsTheWholeLog(thread);
    await visitor.leave();
  }],

  ["the page comes back by itself after kill -9 in mid-run", async () => {
    const [user, thread] = [fresh("user"), fresh("thread")];
    const visitor = await Visitor.arrive(user);
    const { done } = ask(user, thread, QUESTION);
    await visitor.run(1, "running");
    await visitor.shown(20);
    await clarion.stop("SIGKILL");
    // It tries again every now and then, and says nothing while it does.
    await visitor.page.waitForSelector('#connection[data-state="DISCONNECTED"] #connection-reason:not(:empty)');
    await visitor.screenshot("disconnected");
    const before = await visitor.offset();
    await clarion.run();
    await visitor.connected();
    await visitor.run(1, "success");
    await done;
    assert.ok((await visitor.offset()) > before);
    await visitor.showsTheWholeLog(thread);

    await visitor.page.reload();
    await visitor.run(1, "success");
    await visitor.showsTheWholeLog(thread);
    await visitor.leave();
  }],

  ["a second run and an older thread are all there after signing in elsewhere", async () => {
    const [user, first, second] = [fresh("user"), fresh("thread"), fresh("thread")];
    const visitor = await Visitor.arrive(user);
    await ask(user, first, "What is offset and epoch?", "--pace", "0").done;
    await ask(user, first, "What does docs/nowhere.md say about retention?", "--pace", "0").done;
    await ask(user, second, QUESTION, "--pace", "0").done;
    await visitor.page.click(`[data-thread-id="${first}"]`);
    await visitor.run(2, "success");
    await visitor.showsTheWholeLog(first);
    assert.equal((await visitor.page.$$('.tool[data-status="failed"]')).length, 1);

    const other = await Visitor.arrive(user);
    await other.page.click(`[data-thread-id="${second}"]`);
    await other.run(1, "success");
    await other.showsTheWholeLog(second);
    await other.page.click(`[data-thread-id="${first}"]`);
    await other.run(2, "success");
    await other.showsTheWholeLog(first);
    await other.leave();
    await visitor.leave();
  }],

  ["a failed run says what happened and what to do", async () => {
    const [user, thread] = [fresh("user"), fresh("thread")];
    const visitor = await Visitor.arrive(user);
    await ask(user, thread, "Where is everything?", "--folder", "/nonexistent", "--pace", "0").done;
    await visitor.run(1, "error");
    assert.match(await visitor.page.textContent(".failure .user-message"), /could not read the folder/);
    assert.match(await visitor.page.textContent(".failure .suggested-action"), /Check that the folder exists/);
    await visitor.screenshot("failed");
    await visitor.leave();
  }],

  ["text of events is never read as HTML", async () => {
    const [user, thread, run] = [fresh("user"), fresh("thread"), fresh("run")];
    const text = `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script> & "quoted"`;
    const visitor = await Visitor.arrive(user);
    await clarion.python("publish", "--user", user, "--thread", thread, "--run", run, "--start", "--count", "1",
      "--text", text, "--complete");
    await visitor.run(1, "success");
    assert.equal(await visitor.page.textContent(".message"), text);
    assert.equal(await visitor.page.evaluate(() => window.pwned), undefined);
    assert.equal(await visitor.page.$$eval(".message img, .message script", (nodes) => nodes.length), 0);
    await visitor.leave();
  }],

  ["what is no longer kept is said before what is", async () => {
    const brief = await Clarion.start(binaries, ["--dev", "--thread-max-events", "20"]);
    try {
      const [user, thread, run] = [fresh("user"), fresh("thread"), fresh("run")];
      await brief.python("publish", "--user", user, "--thread", thread, "--run", run, "--start", "--count", "60");
      const visitor = await Visitor.arrive(user, {}, brief);
      const note = await visitor.page.waitForSelector("#timeline .missed");
      const floor = Number(await note.getAttribute("data-to")) + 1;
      assert.equal(await note.textContent(), `Updates 1 to ${floor - 1} are missing: they were kept no longer.`);
      await visitor.shown(61);
      const [first, ...others] = await visitor.rawEvents(61);
      assert.equal(first.type, "missed");
      assert.equal(others[0].first_offset, floor);
      for (const [i, event] of others.slice(1).entries()) assert.equal(event.first_offset, others[i].offset + 1);
      assert.equal(others.at(-1).offset, 61);
      await visitor.screenshot("missed");
      await visitor.leave();
    } finally {
      await brief.finish(false);
    }
  }],

  ["another user sees none of it", async () => {
    const [owner, thread, run] = [fresh("user"), fresh("thread"), fresh("run")];
    await clarion.python("publish", "--user", owner, "--thread", thread, "--run", run, "--start", "--count", "3");
    const visitor = await Visitor.arrive(fresh("stranger"));
    await visitor.page.evaluate((id) => { location.hash = `#thread=${id}`; }, thread);
    await visitor.page.waitForSelector("#thread-claim:not([hidden])");
    assert.equal((await visitor.page.$$(".run, #thread-list li")).length, 0);
    await visitor.leave();
  }],

  ["the page works with the keyboard alone, in the dark, and on a phone", async () => {
    const [user, thread] = [fresh("user"), fresh("thread")];
    await ask(user, thread, QUESTION, "--pace", "0", "--ready-timeout", "0").done;
    const dark = await Visitor.arrive(user, { colorScheme: "dark" });
    await dark.run(1, "success");
    await dark.screenshot("dark");
    await dark.page.focus("#thread-list a");
    await dark.page.keyboard.press("Tab");
    await dark.page.keyboard.press("Tab");
    await dark.page.keyboard.press("Enter");
    await dark.page.waitForSelector("#events .event");
    await dark.screenshot("dark-events");
    await dark.leave();

    const phone = await Visitor.arrive(user, { viewport: PHONE, deviceScaleFactor: 2 });
    await phone.page.waitForSelector(`[data-thread-id="${thread}"]`);
    await phone.screenshot("phone-list");
    await phone.page.click(`[data-thread-id="${thread}"]`);
    await phone.run(1, "success");
    await phone.screenshot("phone-thread");
    const overflow = await phone.page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(overflow <= 0, `the page is ${overflow} px wider than the screen`);
    await phone.page.click("#back");
    await phone.page.waitForSelector("#threads", { state: "visible" });
    await phone.leave();
  }],

  ["a user whom the server refuses is told why, and another can sign in", async () => {
    const page = await browser.newPage();
    page.setDefaultTimeout(PATIENCE_MS);
    await page.goto(clarion.page);
    await page.fill("#sign-in-user", "_clarion");
    await page.click("#sign-in-dev-button");
    await page.waitForSelector("#sign-in-reason:not([hidden])");
    assert.match(await page.textContent("#sign-in-reason"), /must not be _clarion: that name is reserved/);
    await page.fill("#sign-in-user", fresh("user"));
    await page.click("#sign-in-dev-button");
    await page.waitForSelector('#connection[data-state="CONNECTED"]');
    await page.close();
  }],

  ["signing out forgets everything", async () => {
    const [user, thread, run] = [fresh("user"), fresh("thread"), fresh("run")];
    await clarion.python("publish", "--user", user, "--thread", thread, "--run", run, "--start", "--count", "2");
    const visitor = await Visitor.arrive(user);
    await visitor.run(1, "running");
    await visitor.page.click("#sign-out");
    await visitor.page.waitForSelector("#sign-in", { state: "visible" });
    await visitor.page.reload();
    await visitor.page.waitForSelector("#sign-in", { state: "visible" });
    assert.equal((await visitor.page.$$(".run, #thread-list li")).length, 0);
    await visitor.leave();
  }],
];

// The page's modules by themselves, each test in a page of its own.
for (const [name, test] of Object.entries(units)) {
  tests.push([name, async () => {
    const page = await browser.newPage();
    await page.goto(clarion.page);
    await page.waitForSelector("#sign-in-dev:not([hidden])");
    await page.evaluate(lab);
    await page.evaluate(test);
    await page.close();
  }]);
}

const failures = await runTests(tests);
await browser.close();
await clarion.finish(failures > 0);
process.exit(failures === 0 ? 0 : 1);
