// The client library in pages of one's own: README's, and one with short-lived tokens.

import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";

import { Clarion, repository } from "../clients/program.mjs";
import { Agent, binaries, browser, fresh, runTests } from "./visitor.mjs";

const readme = fs.readFileSync(path.join(repository, "README.md"), "utf8");
const [, html] = /<!-- test: answer.html -->\n```html\n([^]*?)\n```/.exec(readme);

// A clarion with this page in place of the console.
async function serving(text, ...flags) {
  const folder = fs.mkdtempSync(path.join(binaries, "my-page-"));
  fs.writeFileSync(path.join(folder, "index.html"), text);
  const clarion = await Clarion.start(binaries, ["--dev", "--web-root", folder, ...flags]);
  const page = await browser.newPage();
  page.setDefaultTimeout(30_000);
  const complaints = [];
  page.on("pageerror", (error) => complaints.push(String(error)));
  await page.goto(clarion.page);
  const leave = async () => {
    assert.deepEqual(complaints, []);
    await page.close();
    await clarion.finish(false);
    fs.rmSync(folder, { recursive: true });
  };
  return { clarion, page, leave };
}

const tests = [
  ["README's page shows a streaming answer, through a reload and a restart", async () => {
    assert.ok(html.split("\n").length <= 21, "20 lines");
    const { clarion, page, leave } = await serving(html);
    const answer = (text) => page.waitForFunction((wanted) => document.querySelector("#answer").textContent === wanted, text);
    await page.waitForFunction(() => document.querySelector("#state").textContent.startsWith("CONNECTED (websocket)"));
    const agent = new Agent(clarion, "demo", "readme");
    await agent.say("agent_started", { input: "Say something." });
    await agent.text("Here ");
    await agent.text("I ");
    await answer("Here I ");
    await page.reload();
    await answer("Here I ");
    await clarion.stop("SIGKILL");
    await page.waitForFunction(() => document.querySelector("#state").textContent.startsWith("DISCONNECTED"));
    await clarion.run();
    await agent.text("am.", { is_final: true });
    await answer("Here I am.");
    const failure = { message: "", suggested_action: "", is_recoverable: false, retry_possible: false, estimated_recovery_time: null };
    await agent.say("agent_error", { error_type: "internal", synthetic: false, user_message: "It broke.", ...failure });
    await agent.end();
    await answer("Here I am.\n\nIt broke.");
    await leave();
  }],

  ["tokens that end soon are renewed on every transport, without a gap", async () => {
    const user = fresh("user");
    for (const transport of ["websocket", "sse", "polling"]) {
      const { clarion, page, leave } = await serving("<!doctype html><title>tokens</title>");
      // The gateway allows tokens 30 s beyond their end: what counts is that a new one comes before it.
      await page.exposeFunction("makeToken", () => clarion.token(user, 8));
      const thread = fresh("thread");
      await page.evaluate(async ([id, kind]) => {
        const { connect } = await import("/client/index.js");
        window.seen = [];
        window.asked = [];
        window.states = [];
        const clarion = connect({ token: ({ fresh }) => { window.asked.push(fresh); return window.makeToken(); }, transports: [kind] });
        clarion.on("connection", ({ state, tokenExpiresAt }) => window.states.push([state, tokenExpiresAt]));
        clarion.thread(id).on("agent_message_delta", ({ offset }) => window.seen.push(offset));
      }, [thread, transport]);
      const agent = new Agent(clarion, user, thread);
      await agent.say("agent_started", { input: "x" });
      await page.waitForFunction(() => window.states.at(-1)?.[0] === "CONNECTED");
      await agent.text("before ", { message_id: "a" });
      await page.waitForFunction(() => window.seen.length === 1);
      // Another end of the token is heard of, on the same connection.
      await page.waitForFunction(() => new Set(window.states.map(([, end]) => end).filter(Boolean)).size >= 2);
      await agent.text("after ", { message_id: "b" });
      await agent.end();
      await page.waitForFunction(() => window.seen.length === 2);
      assert.deepEqual(await page.evaluate(() => [window.asked.slice(0, 2), window.seen]), [[false, true], [2, 3]]);
      assert.equal(await page.evaluate(() => window.states.some(([state]) => state === "DISCONNECTED")), false);
      await leave();
    }
  }],

  ["threads that were looked at beside all others take no place; with all of them they end", async () => {
    const { clarion, page, leave } = await serving("<!doctype html><title>threads</title>", "--subscriptions-per-connection", "4");
    const user = fresh("user");
    const threads = Array.from({ length: 12 }, () => fresh("thread"));
    const agents = threads.map((thread) => new Agent(clarion, user, thread));
    for (const agent of agents) await agent.say("agent_started", { input: "x" });
    await page.exposeFunction("makeToken", () => clarion.token(user));
    await page.evaluate(async () => {
      const { connect } = await import("/client/index.js");
      const client = (window.client = connect({ token: () => window.makeToken(), transports: ["websocket"] }));
      window.seen = [];
      window.errors = [];
      window.frames = [];
      client.on("event", ({ thread_id, offset }) => window.seen.push([thread_id, offset]));
      client.on("error", ({ code }) => window.errors.push(code));
      client.on("frame", ({ type }) => window.frames.push(type));
      window.end = client.all();
    });
    await page.waitForFunction((count) => window.seen.length === count, threads.length);
    for (const thread of threads) {
      await page.evaluate(async (id) => {
        const caughtUp = new Promise((resolve) => window.client.thread(id).on("caught_up", resolve));
        window.client.thread(id).on("event", () => {});
        await caughtUp;
        window.client.thread(id).close();
      }, thread);
    }
    await page.waitForFunction((count) => window.frames.filter((type) => type === "unsubscribed").length === count, threads.length);
    for (const agent of agents) await agent.text("on it goes", { is_final: true });
    await page.waitForFunction((count) => window.seen.length === 2 * count, threads.length);
    await page.evaluate(() => window.end());
    await page.waitForFunction((count) => window.frames.filter((type) => type === "unsubscribed").length === count + 1, threads.length);
    for (const agent of agents) {
      await agent.say("agent_completed", { outcome: "success" });
      await agent.end();
    }
    // A thread that is asked for now is behind all that was under way.
    await page.evaluate(async (id) => {
      window.client.thread(id).on("agent_completed", () => (window.done = true));
    }, threads[0]);
    await page.waitForFunction(() => window.done);
    const [seen, errors] = await page.evaluate(() => [window.seen, window.errors]);
    assert.deepEqual(errors, []);
    for (const thread of threads.slice(1)) assert.deepEqual(seen.filter(([id]) => id === thread).map(([, offset]) => offset), [1, 2]);
    await leave();
  }],
];

const failures = await runTests(tests);
await browser.close();
process.exit(failures === 0 ? 0 : 1);
