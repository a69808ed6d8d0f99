// The words of the tests: somebody who looks at the page in a real browser, and agents that have something
// to say.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

import { chromium } from "playwright-core";

import { python, repository, runTests as run } from "../clients/program.mjs";

export const WIDE = { width: 1280, height: 860 };
export const PHONE = { width: 390, height: 780 };
const PATIENCE_MS = 30_000;
// Slow enough that a run is still going on when something happens to it.
const PACE_SECONDS = "0.03";

export const binaries = path.resolve(process.argv[2]);
export const screenshots = path.join(binaries, "screenshots");
fs.mkdirSync(screenshots, { recursive: true });

export const fresh = (kind) => `${kind}-${randomBytes(6).toString("hex")}`;

export const browser = await chromium.launch({
  executablePath: "/usr/bin/chromium",
  args: process.getuid() === 0 ? ["--no-sandbox"] : [],
});

// As program.mjs; of a test that fails, what each open page shows is kept beside the screenshots.
export function runTests(tests) {
  return run(tests.map(([name, test]) => [name, async () => {
    try {
      await test();
    } catch (error) {
      const pages = browser.contexts().flatMap((context) => context.pages());
      for (const [i, page] of pages.entries()) {
        const file = path.join(screenshots, `failed-${name.replace(/\W+/g, "-").slice(0, 40)}-${i + 1}.png`);
        await page.screenshot({ path: file }).catch(() => {});
        console.log(`${page.url()} is in ${file}`);
      }
      await Promise.all(browser.contexts().map((context) => context.close()));
      throw error;
    }
  }]));
}

export class Visitor {
  // options: of the browser's context; `at`: the page, if it is not clarion's own.
  static async arrive(clarion, user, { at = clarion.page, ...options } = {}) {
    const context = await browser.newContext({ viewport: WIDE, ...options });
    const visitor = await Visitor.open(clarion, context, at);
    await visitor.page.fill("#sign-in-user", user);
    await visitor.page.click("#sign-in-dev-button");
    await visitor.connected();
    return visitor;
  }

  // A tab.
  static async open(clarion, context, at = clarion.page) {
    const visitor = new Visitor();
    Object.assign(visitor, { clarion, context, page: await context.newPage(), complaints: [] });
    visitor.page.setDefaultTimeout(PATIENCE_MS);
    visitor.page.on("pageerror", (error) => visitor.complaints.push(String(error)));
    visitor.page.on("console", (message) => {
      // The browser itself logs every connection that fails; the page reports those in its own words.
      const network = /WebSocket connection to|Failed to load resource/.test(message.text());
      if (message.type() === "error" && !network) visitor.complaints.push(message.text());
    });
    await visitor.page.goto(at);
    return visitor;
  }

  connected(transport = "websocket") {
    return this.page.waitForSelector(`#connection[data-state="CONNECTED"][data-transport="${transport}"]`);
  }

  disconnected() {
    return this.page.waitForSelector('#connection[data-state="DISCONNECTED"]');
  }

  run(number, state) {
    return this.page.waitForSelector(`#timeline > .run:nth-of-type(${number})[data-state="${state}"]`);
  }

  choose(thread) {
    return this.page.click(`[data-thread-id="${thread}"]`);
  }

  // The thread is shown up to this offset at least.
  shown(offset) {
    return this.page.waitForFunction(
      (least) => Number(document.querySelector("#thread").dataset.offset) >= least, offset);
  }

  offset() {
    return this.page.$eval("#thread", (thread) => Number(thread.dataset.offset));
  }

  async events(last) {
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
    const log = await this.clarion.python("list", "--thread", thread);
    await this.shown(log.length);
    await this.page.waitForSelector("#older", { state: "hidden" });
    const answers = await this.page.$$eval(".message", (nodes) => nodes.map((node) => node.textContent).join(""));
    const shown = await this.events(log.length);
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

  // Wide and on a phone, light and dark.
  async pictures(name) {
    const { page } = this;
    for (const [shape, viewport] of [["phone", PHONE], ["wide", WIDE]]) {
      await page.setViewportSize(viewport);
      for (const colorScheme of ["dark", "light"]) {
        await page.emulateMedia({ colorScheme });
        await this.screenshot(`${name}-${shape}-${colorScheme}`);
      }
    }
  }

  screenshot(name) {
    return this.page.screenshot({ path: path.join(screenshots, `${name}.png`), animations: "disabled" });
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
export function ask(clarion, user, thread, question, ...more) {
  return start(python, [
    path.join(repository, "service/client/sample_agent/sample_agent.py"), "--service", clarion.service,
    "--user", user, "--thread", thread, "--folder", repository, "--pace", PACE_SECONDS, "--question", question, ...more,
  ]);
}

// An agent that says what the test tells it, line by line.
export class Agent {
  constructor(clarion, user, thread, run = fresh("run"), name = "outsider") {
    Object.assign(this, { user, thread, run, name, next: 1, said: 0 });
    this.program = start(clarion.ctl, ["--service", clarion.service, "publish", "--user", user, "--thread", thread], "pipe");
  }

  // Resolves when the line was taken.
  say(type, fields = {}) {
    const event = { event_id: `${this.run}-${this.next++}`, run_id: this.run, agent_name: this.name, type, ...fields };
    this.said += 1;
    return new Promise((resolve) => this.program.child.stdin.write(`${JSON.stringify(event)}\n`, resolve));
  }

  text(text, more = {}) {
    return this.say("agent_message_delta", { message_id: `${this.run}-m`, role: "assistant", delta: text, is_final: false, ...more });
  }

  // Everything is in the log.
  end() {
    this.program.child.stdin.end();
    return this.program.done;
  }
}

function start(command, args, stdin = "ignore") {
  const child = spawn(command, args, { stdio: [stdin, "pipe", "pipe"] });
  let output = "";
  child.stdout.on("data", (data) => { output += data; });
  child.stderr.on("data", (data) => { output += data; });
  const done = new Promise((resolve, reject) => {
    child.on("close", (code) => (code === 0 ? resolve() : reject(new Error(`${path.basename(command)} ended with ${code}:\n${output.slice(-2000)}`))));
  });
  done.catch(() => {}); // reported where it is awaited
  return { child, done };
}
