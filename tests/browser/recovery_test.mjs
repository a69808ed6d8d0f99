// Everything that goes wrong between a page and the log, while an agent is in the middle of its answer.
// Afterwards the page shows what the log has, whole and once.

import assert from "node:assert/strict";

import { Clarion, run } from "../clients/program.mjs";
import { Proxy } from "./proxy.mjs";
import { Agent, binaries, browser, fresh, runTests, Visitor } from "./visitor.mjs";

// Short heartbeats: a connection that froze is found out soon.
const HEARTBEAT_MS = "1000";
const clarion = await Clarion.startApart(binaries, ["--dev", "--heartbeat-ms", HEARTBEAT_MS]);

// An answer in three parts: before, during and after the trouble.
class Story {
  static async begin(options = {}) {
    const story = new Story();
    const [user, thread] = [fresh("user"), fresh("thread")];
    Object.assign(story, { user, thread, agent: new Agent(clarion, user, thread) });
    story.visitor = await Visitor.arrive(clarion, user, options);
    await story.agent.say("agent_started", { input: { question: "What happens when things break?" } });
    await story.tell("before");
    await story.visitor.shown(21);
    return story;
  }

  async tell(part) {
    for (let word = 1; word <= 20; word += 1) await this.agent.text(`${part} ${word} `);
  }

  // After the trouble.
  async end(...visitors) {
    await this.tell("after");
    await this.agent.say("agent_completed", { outcome: "success" });
    await this.agent.end();
    for (const visitor of [this.visitor, ...visitors]) {
      await visitor.run(1, "success");
      await visitor.showsTheWholeLog(this.thread);
      await visitor.leave();
    }
  }
}

const tests = [
  ["the gateway is killed, and comes back", async () => {
    const story = await Story.begin();
    await clarion.gatewayProgram.stop("SIGKILL");
    await story.visitor.disconnected();
    await story.visitor.pictures("disconnected");
    await story.tell("during");
    await clarion.gatewayProgram.run();
    await story.visitor.connected();
    await story.end();
  }],

  ["the service is killed, and comes back", async () => {
    const story = await Story.begin();
    await clarion.serviceProgram.stop("SIGKILL");
    await story.tell("during"); // the publisher tries again
    await clarion.serviceProgram.run();
    await story.end();
  }],

  ["the gateway is stopped for a new version, and the page comes back by itself", async () => {
    const story = await Story.begin();
    await clarion.gatewayProgram.stop("SIGTERM");
    await story.tell("during");
    await clarion.gatewayProgram.run();
    await story.visitor.connected();
    await story.end();
  }],

  ["WebSockets are blocked, then streams are held back, then both are well again", async () => {
    const proxy = await Proxy.start(clarion.page);
    const story = await Story.begin({ at: proxy.page });
    const { visitor } = story;
    proxy.blockWebSocket = true;
    proxy.cut();
    await visitor.connected("sse");
    await visitor.pictures("event-stream");
    await story.tell("by event stream");
    await visitor.shown(41);
    proxy.holdAnswers = true;
    proxy.cut();
    await visitor.connected("polling");
    await visitor.pictures("polling");
    await story.tell("by polling");
    await visitor.shown(61);
    proxy.holdAnswers = proxy.blockWebSocket = false;
    await visitor.connected("websocket");
    await story.end();
    proxy.stop();
  }],

  ["the network goes, and comes back", async () => {
    const story = await Story.begin();
    await story.visitor.context.setOffline(true);
    await story.visitor.disconnected();
    await story.visitor.page.waitForFunction(() => /offline/.test(document.querySelector("#connection-reason").textContent));
    await story.visitor.pictures("offline");
    await story.tell("during");
    await story.visitor.context.setOffline(false);
    await story.visitor.connected();
    await story.end();
  }],

  ["the laptop sleeps, and wakes up", async () => {
    const story = await Story.begin();
    const page = await story.visitor.context.newCDPSession(story.visitor.page);
    await page.send("Page.setWebLifecycleState", { state: "frozen" });
    const devtools = await browser.newBrowserCDPSession();
    const { processInfo } = await devtools.send("SystemInfo.getProcessInfo");
    const renderers = processInfo.filter(({ type }) => type === "renderer").map(({ id }) => id);
    for (const pid of renderers) process.kill(pid, "SIGSTOP");
    await story.tell("during");
    // The gateway gives it up: nobody answers its pings.
    const connections = () => run(clarion.ctl, ["--service", clarion.service, "--json", "connections", "--user", story.user]);
    while (/"state":"connected"/.test((await connections()).out));
    for (const pid of renderers) process.kill(pid, "SIGCONT");
    await page.send("Page.setWebLifecycleState", { state: "active" });
    await story.end();
  }],

  ["three tabs see the same", async () => {
    const story = await Story.begin();
    const tabs = [];
    for (let tab = 0; tab < 2; tab += 1) {
      const other = await Visitor.open(clarion, story.visitor.context);
      await other.page.fill("#sign-in-user", story.user);
      await other.page.click("#sign-in-dev-button");
      await other.connected();
      tabs.push(other);
    }
    await story.tell("during");
    for (const tab of tabs) await tab.shown(41);
    await story.tell("after");
    await story.agent.say("agent_completed", { outcome: "success" });
    await story.agent.end();
    for (const visitor of [story.visitor, ...tabs]) {
      await visitor.page.bringToFront();
      await visitor.run(1, "success");
      await visitor.showsTheWholeLog(story.thread);
      assert.deepEqual(visitor.complaints, []);
    }
    await story.visitor.context.close();
  }],

  ["a reload in mid-message shows the whole message", async () => {
    const story = await Story.begin();
    await story.visitor.page.reload();
    await story.visitor.run(1, "running");
    await story.tell("during");
    await story.end();
  }],

  ["each trouble of the menu is got over", async () => {
    const story = await Story.begin();
    const { visitor } = story;
    const { page } = visitor;
    const heard = await page.evaluateHandle(() => {
      const states = [];
      const note = () => states.push(document.querySelector("#connection").dataset.state);
      new MutationObserver(note).observe(document.querySelector("#connection"), { attributes: true, attributeFilter: ["data-state"] });
      return states;
    });
    await page.click("#trouble summary");
    await page.click("#trouble-drop");
    await page.waitForFunction((states) => states.includes("DISCONNECTED"), heard);
    await visitor.connected();
    await Promise.all([page.waitForRequest(/v1\/dev\/token/), page.click("#trouble-expire")]);
    await visitor.connected();
    await story.tell("during");
    await page.check("#trouble-offline");
    await visitor.disconnected();
    await page.uncheck("#trouble-offline");
    await visitor.connected();
    await page.check("#trouble-websocket");
    await visitor.connected("sse");
    await visitor.pictures("trouble");
    await page.check("#trouble-streams");
    await visitor.connected("polling");
    await Promise.all([page.waitForRequest(/v1\/dev\/token/), page.click("#trouble-expire")]);
    await story.tell("more");
    await visitor.shown(61);
    await page.uncheck("#trouble-websocket");
    await page.uncheck("#trouble-streams");
    await visitor.connected("websocket");
    await page.click("#trouble summary");
    await story.end();
  }],
];

// What a test that failed left open would be in the way of the next.
const failures = await runTests(tests.map(([name, test]) => [name, async () => {
  try {
    await test();
  } finally {
    for (const context of browser.contexts()) await context.close();
  }
}]));
await browser.close();
await clarion.finish(failures > 0);
process.exit(failures === 0 ? 0 : 1);
