// An hour of an agent's talk, as fast as the page takes it: what it costs does not grow with what went
// before.

import assert from "node:assert/strict";

import { Clarion } from "../clients/program.mjs";
import { Agent, binaries, browser, fresh, runTests, Visitor } from "./visitor.mjs";

const BLOCKS = 10;
const MESSAGES_PER_BLOCK = 40;
const DELTAS_PER_MESSAGE = 250;

const clarion = await Clarion.start(binaries, ["--dev"]);

// How often pieces of the page's code were run since it was last asked. Unlike time this does not depend on
// what else the machine does.
async function work(devtools) {
  const { result } = await devtools.send("Profiler.takePreciseCoverage");
  return result.flatMap(({ functions }) => functions).flatMap(({ ranges }) => ranges).reduce((sum, { count }) => sum + count, 0);
}

// What the page has used so far, garbage collected.
async function usage(devtools) {
  await devtools.send("HeapProfiler.collectGarbage");
  const { metrics } = await devtools.send("Performance.getMetrics");
  const of = (name) => metrics.find((metric) => metric.name === name).value;
  return { heap: of("JSHeapUsedSize"), busy: of("TaskDuration"), nodes: of("Nodes") };
}

const tests = [
  ["a hundred thousand deltas: memory and main thread stay flat", async () => {
    const [user, thread] = [fresh("user"), fresh("thread")];
    const visitor = await Visitor.arrive(clarion, user);
    const agent = new Agent(clarion, user, thread);
    await agent.say("agent_started", { input: "Tell me everything." });
    await visitor.page.waitForSelector(`[data-thread-id="${thread}"][aria-current]`);
    const devtools = await visitor.context.newCDPSession(visitor.page);
    await devtools.send("Performance.enable");
    await devtools.send("Profiler.enable");
    await devtools.send("Profiler.startPreciseCoverage", { callCount: true, detailed: true });
    await visitor.page.evaluate(() => {
      window.painted = 0;
      const count = () => { window.painted += 1; requestAnimationFrame(count); };
      count();
    });
    const marks = [{ ...(await usage(devtools)), frames: 0 }];
    await work(devtools);
    for (let block = 0; block < BLOCKS; block += 1) {
      for (let message = 0; message < MESSAGES_PER_BLOCK; message += 1) {
        const message_id = `m${block}-${message}`;
        for (let word = 1; word <= DELTAS_PER_MESSAGE; word += 1) {
          await agent.text(word % 50 === 0 ? "word.\n\n" : "word ", { message_id, is_final: word === DELTAS_PER_MESSAGE });
        }
        const tool_call_id = `t${block}-${message}`;
        await agent.say("tool_executing", { tool_call_id, tool_name: "look", arguments: { block, message } });
        await agent.say("tool_completed", { tool_call_id, tool_name: "look", status: "succeeded", duration_ms: 5 });
      }
      await visitor.shown(agent.said);
      marks.push({ ...(await usage(devtools)), work: await work(devtools), frames: await visitor.page.evaluate(() => window.painted) });
    }
    const grown = marks.slice(1).map((mark, i) => ({
      heapKiB: Math.round((mark.heap - marks[i].heap) / 1024),
      busySeconds: Number((mark.busy - marks[i].busy).toFixed(2)),
      nodes: mark.nodes - marks[i].nodes,
      // A page that is painted more often does more.
      workPerStep: Math.round(mark.work / (10_000 + mark.frames - marks[i].frames)),
    }));
    console.table(grown);
    const mean = (rows, key) => rows.reduce((sum, row) => sum + row[key], 0) / rows.length;
    const [early, late] = [grown.slice(1, 4), grown.slice(-3)]; // the first one also warms up
    // A page that draws all of it each time does four times as much by then.
    assert.ok(mean(late, "workPerStep") < 3 * mean(early, "workPerStep"), "the page does more the longer it goes on");
    // What the text itself takes: 10,000 words, their paragraphs and tools.
    assert.ok(mean(late, "heapKiB") < 2 * mean(early, "heapKiB") + 256, "memory grows faster the longer it goes on");
    // A clock or a mark may show something at one measurement and nothing at the other.
    const [before, last] = grown.slice(-2).map(({ nodes }) => nodes);
    assert.ok(Math.abs(last - before) <= 4, `${last} nodes more after ${before}`);
    await agent.say("agent_completed", { outcome: "success" });
    await agent.end();
    await visitor.run(1, "success");
    const shown = await visitor.page.$$eval(".message", (nodes) => nodes.length);
    assert.equal(shown, BLOCKS * MESSAGES_PER_BLOCK);
    await visitor.leave();
  }],

  ["ten thousand events of every kind are looked through without a stutter", async () => {
    const [user, thread] = [fresh("user"), fresh("thread")];
    const agent = new Agent(clarion, user, thread);
    for (let turn = 0; turn < 500; turn += 1) {
      const run_id = `${agent.run}-${turn}`;
      await agent.say("agent_started", { run_id, input: `Question ${turn}` });
      for (let tool = 0; tool < 9; tool += 1) {
        const call = { run_id, tool_call_id: `c${turn}-${tool}`, tool_name: "look" };
        await agent.say("tool_executing", { ...call, arguments: { tool } });
        await agent.say("tool_completed", { ...call, status: "succeeded", duration_ms: 1 });
      }
      await agent.say("agent_completed", { run_id, outcome: "success" });
    }
    await agent.end();
    const visitor = await Visitor.arrive(clarion, user);
    const { page } = visitor;
    await page.evaluate(() => {
      window.longest = 0;
      new PerformanceObserver((list) => {
        for (const { duration } of list.getEntries()) window.longest = Math.max(window.longest, duration);
      }).observe({ type: "longtask", buffered: true });
    });
    await visitor.choose(thread);
    await visitor.shown(10_000);
    const loading = await page.evaluate(() => window.longest);
    await page.evaluate(() => { window.longest = 0; });
    // What comes now is drawn, and nothing else is touched.
    const devtools = await visitor.context.newCDPSession(page);
    await devtools.send("Performance.enable");
    await page.evaluate(() => {
      window.touched = 0;
      window.painted = 0;
      const count = () => { window.painted += 1; requestAnimationFrame(count); };
      count();
      new MutationObserver((changes) => { window.touched += changes.length; })
        .observe(document.querySelector("#timeline"), { subtree: true, childList: true, characterData: true, attributes: true });
    });
    const before = await usage(devtools);
    const last = new Agent(clarion, user, thread);
    await last.say("agent_started", { input: "One more." });
    for (let word = 0; word < 500; word += 1) await last.text(`word ${word} `);
    await last.end();
    await visitor.shown(10_501);
    const after = await usage(devtools);
    const { touched, painted } = await page.evaluate(() => ({ touched: window.touched, painted: window.painted }));
    assert.ok(touched < 20 + 5 * painted, `${touched} changes of the page in ${painted} paints`);
    // Up and down through all of it.
    await page.evaluate(async () => {
      const scroller = document.querySelector("#scroller");
      for (let step = 0; step <= 40; step += 1) {
        scroller.scrollTop = (scroller.scrollHeight * step) / 40;
        await new Promise(requestAnimationFrame);
      }
    });
    const scrolling = await page.evaluate(() => window.longest);
    console.log(`longest task: ${Math.round(loading)} ms while 10,000 events came, ${Math.round(scrolling)} ms after; ` +
      `500 deltas more: ${(1000 * (after.busy - before.busy)).toFixed(0)} ms of the main thread, ${touched} changes in ${painted} paints`);
    await page.click("#show-events");
    await page.waitForSelector('#events .event[data-offset="10501"]');
    assert.equal((await page.$$("#event-list .event")).length, 500); // the rest at a touch
    await page.fill("#events-text", "Question 77");
    await page.waitForFunction(() => document.querySelector("#events-count").textContent === "1 of 10002");
    await page.fill("#events-text", "");
    await page.selectOption("#events-type", "agent_started");
    await page.waitForFunction(() => document.querySelector("#events-count").textContent === "501 of 10002");
    await visitor.leave();
  }],
];

const failures = await runTests(tests);
await browser.close();
await clarion.finish(failures > 0);
process.exit(failures === 0 ? 0 : 1);
