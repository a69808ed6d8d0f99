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
];

const failures = await runTests(tests);
await browser.close();
process.exit(failures === 0 ? 0 : 1);
