// Somebody's visit to the console: signing in, choosing and leaving a thread, by keyboard, with the browser's own
// ways, and when the server does not answer.

import assert from "node:assert/strict";

import { Clarion } from "../clients/program.mjs";
import { Agent, binaries, browser, fresh, PHONE, runTests, Visitor } from "./visitor.mjs";

const clarion = await Clarion.start(binaries, ["--dev"]);

const tokenOf = async (user) => (await (await fetch(new URL(`v1/dev/token?user=${user}`, clarion.page))).json()).token;

async function signInWith(page, token) {
  if (!(await page.isVisible("#sign-in-token"))) await page.click("#sign-in-choice");
  await page.fill("#sign-in-token", token);
  await page.click("#sign-in-token-button");
}

const focused = (page) => page.evaluate(() => document.activeElement.id || document.activeElement.dataset.threadId || document.activeElement.tagName);

// What the service knows to be seen.
async function acknowledged(user, thread) {
  const answer = await fetch(new URL("v1/threads", clarion.page), { headers: { Authorization: `Bearer ${await tokenOf(user)}` } });
  return (await answer.json()).threads.find(({ thread_id }) => thread_id === thread).acknowledged;
}

const tests = [
  ["a list that cannot be had says so, and comes when it can", async () => {
    const [user, thread] = [fresh("user"), fresh("thread")];
    await clarion.python("publish", "--user", user, "--thread", thread, "--run", fresh("run"), "--start", "--count", "2", "--complete");
    const context = await browser.newContext();
    let broken = true;
    await context.route("**/v1/threads?*", (route) => (broken ? route.fulfill({ status: 503, body: "{}" }) : route.fallback()));
    const visitor = await Visitor.open(clarion, context);
    const { page } = visitor;
    await page.fill("#sign-in-user", user);
    await page.click("#sign-in-dev-button");
    await page.waitForFunction(() => document.querySelector("#threads-empty").textContent.includes("could not be loaded"));
    broken = false;
    await page.waitForSelector("#threads-empty", { state: "hidden" });
    await page.waitForSelector(`#thread-list [data-thread-id="${thread}"]`);
    await visitor.leave();
  }],

  ["a user without threads is told that there are none", async () => {
    const visitor = await Visitor.arrive(clarion, fresh("user"));
    await visitor.page.waitForFunction(() => document.querySelector("#threads-empty").textContent.startsWith("No threads yet"));
    await visitor.leave();
  }],

  ["development is noticed also if the server comes later than the page", async () => {
    const context = await browser.newContext();
    let broken = true;
    await context.route("**/v1/dev/token?*", (route) => (broken ? route.abort() : route.fallback()));
    const visitor = await Visitor.open(clarion, context);
    await visitor.page.waitForSelector("#sign-in", { state: "visible" });
    assert.equal(await visitor.page.isVisible("#sign-in-dev"), false);
    broken = false;
    await visitor.page.waitForSelector("#sign-in-dev", { state: "visible" });
    assert.equal(await focused(visitor.page), "sign-in-user");
    await visitor.leave();
  }],

  ["a token that does not do is told by what is wrong with it, and the thread stays in the address", async () => {
    const [user, thread] = [fresh("user"), fresh("thread")];
    await clarion.python("publish", "--user", user, "--thread", thread, "--run", fresh("run"), "--start", "--count", "2", "--complete");
    const good = await tokenOf(user);
    const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const [header, payload] = good.split(".");
    const claims = JSON.parse(Buffer.from(payload, "base64url"));
    const visitor = await Visitor.open(clarion, await browser.newContext(), `${clarion.page}#thread=${thread}`);
    const { page } = visitor;
    for (const [token, reason] of [
      ["nonsense", /no token: a JSON Web Token has three parts/],
      [`${header}.${part({ ...claims, exp: 1_000_000 })}.x`, /ended at .*1970/],
      [`${header}.${part({ ...claims, sub: "somebody" })}.x`, /does not accept/],
    ]) {
      await signInWith(page, token);
      await page.waitForFunction((source) => new RegExp(source).test(document.querySelector("#sign-in-reason").textContent), reason.source);
      assert.equal(await page.isVisible("#sign-in"), true);
    }
    await signInWith(page, good);
    await visitor.run(1, "success");
    assert.equal(await page.getAttribute("#thread", "data-thread-id"), thread);
    await visitor.leave();
  }],

  ["the focus is never lost, and the title says where one is", async () => {
    const [user, thread] = [fresh("user"), fresh("thread")];
    const agent = new Agent(clarion, user, thread);
    await agent.say("agent_started", { input: "What is the time?" });
    await agent.text("line\n\n".repeat(100), { is_final: true });
    await agent.say("agent_completed", { outcome: "success" });
    await agent.end();
    const visitor = await Visitor.open(clarion, await browser.newContext({ viewport: PHONE }));
    const { page } = visitor;
    await page.waitForSelector("#sign-in-dev", { state: "visible" });
    await page.fill("#sign-in-user", user);
    await page.keyboard.press("Enter");
    await page.waitForSelector(`#thread-list [data-thread-id="${thread}"]`);
    assert.equal(await focused(page), "threads-title");
    await page.focus(`#thread-list [data-thread-id="${thread}"]`);
    await page.keyboard.press("Enter");
    await visitor.run(1, "success");
    assert.equal(await focused(page), "thread-title");
    assert.equal(await page.title(), "What is the time? – Clarion");
    await page.$eval("#scroller", (node) => { node.scrollTop = 0; });
    await page.focus("#to-end:not([hidden])");
    await page.keyboard.press("Enter");
    assert.equal(await focused(page), "scroller");
    await page.click("#back");
    await page.waitForSelector("#threads", { state: "visible" });
    await page.waitForFunction((id) => document.activeElement.dataset.threadId === id, thread);
    assert.equal(await page.title(), "Clarion");
    // The way back of the browser leads on from the list, not to the thread.
    assert.equal(new URL(page.url()).hash, "");
    await page.click("#sign-out");
    assert.equal(await focused(page), "sign-in-user");
    await visitor.leave();
  }],

  ["a thread that the list covers is not seen", async () => {
    const [user, thread] = [fresh("user"), fresh("thread")];
    const visitor = await Visitor.arrive(clarion, user, { viewport: PHONE });
    const { page } = visitor;
    const agent = new Agent(clarion, user, thread);
    await agent.say("agent_started", { input: "first" });
    await visitor.choose(thread);
    await visitor.shown(1);
    while ((await acknowledged(user, thread)) < 1);
    await page.click("#back");
    await page.waitForSelector("#threads", { state: "visible" });
    await agent.text("unseen ");
    await agent.text("words", { is_final: true });
    await page.waitForFunction((id) => document.querySelector(`[data-thread-id="${id}"] .unread:not([hidden])`)?.textContent === "2", thread);
    assert.equal(await acknowledged(user, thread), 1);
    await page.goForward();
    await page.waitForSelector("#thread", { state: "visible" });
    await visitor.shown(3);
    await agent.end();
    await visitor.leave();
  }],

  ["who is busy in a thread is not taken to a new one", async () => {
    const [user, first, second, third] = [fresh("user"), fresh("first"), fresh("second"), fresh("third")];
    const visitor = await Visitor.arrive(clarion, user);
    const { page } = visitor;
    const started = async (thread) => {
      await clarion.python("publish", "--user", user, "--thread", thread, "--run", fresh("run"), "--start", "--count", "1", "--complete");
      await page.waitForSelector(`#thread-list [data-thread-id="${thread}"]`);
    };
    const shown = () => page.getAttribute("#thread", "data-thread-id");
    await started(first);
    await page.waitForSelector(`[data-thread-id="${first}"][aria-current]`);
    await visitor.run(1, "success");
    await page.click("#show-events");
    await started(second);
    assert.equal(await shown(), first);
    await page.click("#show-timeline");
    await started(third);
    await page.waitForSelector(`[data-thread-id="${third}"][aria-current]`);
    await visitor.leave();
  }],

  ["an address that names no thread shows none", async () => {
    const user = fresh("user");
    for (const hash of ["#thread=%E0%A4%A", `#thread=${"x".repeat(129)}`, "#thread=a%20b", "#thread=%F0%9F%98%80", "#other"]) {
      const visitor = await Visitor.open(clarion, await browser.newContext(), `${clarion.page}${hash}`);
      await visitor.page.fill("#sign-in-user", user);
      await visitor.page.click("#sign-in-dev-button");
      await visitor.connected();
      await visitor.page.waitForSelector("#threads-empty", { state: "visible" });
      assert.equal(new URL(visitor.page.url()).hash, "");
      await visitor.leave();
    }
  }],

  ["a row that is being pressed stays where it is", async () => {
    const [user, first, second] = [fresh("user"), fresh("first"), fresh("second")];
    const visitor = await Visitor.arrive(clarion, user, { viewport: PHONE });
    const { page } = visitor;
    const start = (thread) => clarion.python("publish", "--user", user, "--thread", thread, "--run", fresh("run"), "--start", "--count", "1");
    const rows = () => page.$$eval("#thread-list a", (links) => links.map(({ dataset }) => dataset.threadId));
    await start(first);
    await page.hover(`[data-thread-id="${first}"]`);
    await page.mouse.down();
    await start(second);
    await page.waitForSelector(`[data-thread-id="${second}"]`);
    assert.deepEqual(await rows(), [first, second]);
    await page.mouse.up();
    await page.waitForSelector(`#thread[data-thread-id="${first}"]`, { state: "visible" });
    await page.click("#back");
    await page.waitForFunction((id) => document.querySelector("#thread-list a").dataset.threadId === id, second);
    await visitor.leave();
  }],

  ["what is looked for among the events is found, or is said not to be there", async () => {
    const [user, thread] = [fresh("user"), fresh("thread")];
    const agent = new Agent(clarion, user, thread);
    for (let run = 0; run < 301; run += 1) {
      await agent.say("agent_started", { run_id: `${agent.run}-${run}`, input: `Question ${run}` });
      await agent.say("agent_completed", { run_id: `${agent.run}-${run}`, outcome: "success" });
    }
    await agent.end();
    const visitor = await Visitor.arrive(clarion, user);
    const { page } = visitor;
    await visitor.choose(thread);
    await visitor.shown(602);
    await page.click("#show-events");
    await page.waitForSelector('.event[data-offset="602"]');
    assert.equal(await page.textContent("#events-more"), "Show the other 102");
    await page.$eval("#scroller", (node) => { node.scrollTop = 0; });
    await page.waitForSelector("#to-end:not([hidden])");
    const top = () => page.$eval('.event[data-offset="103"]', (row) => Math.round(row.getBoundingClientRect().top));
    const before = await top();
    await page.click("#events-more");
    await page.waitForSelector('.event[data-offset="1"]', { state: "attached" });
    assert.ok(Math.abs((await top()) - before) < 60, "what was read stays where it was"); // the button is gone
    assert.equal(await page.evaluate(() => document.activeElement.id), "scroller");
    await page.$eval("#scroller", (node) => { node.scrollTop = 0; });
    await page.fill("#events-text", "nobody said this");
    await page.waitForSelector("#events-none", { state: "visible" });
    await page.waitForSelector("#to-end", { state: "hidden" }); // there is nothing to scroll
    await visitor.leave();
  }],
];

const failures = await runTests(tests);
await browser.close();
await clarion.finish(failures > 0);
process.exit(failures === 0 ? 0 : 1);
