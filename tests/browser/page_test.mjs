// The page in a real browser, in front of the real clarion and the sample agent. What the page shows is
// compared with the log, event by event, so that "nothing missing, nothing twice" is checked and not seen.

import assert from "node:assert/strict";
import path from "node:path";

import { Clarion, run } from "../clients/program.mjs";
import { ask, binaries, browser, fresh, PHONE, runTests, screenshots, Visitor } from "./visitor.mjs";

const QUESTION = "How is an event accepted before it is committed to the log?";

const clarion = await Clarion.start(binaries, ["--dev"]);

const tests = [
  ["a run appears live, and a reload shows all of it", async () => {
    const [user, thread] = [fresh("user"), fresh("thread")];
    const visitor = await Visitor.arrive(clarion, user);
    const { done } = ask(clarion, user, thread, QUESTION);
    await visitor.run(1, "running");
    await visitor.page.waitForSelector(".message pre");
    await visitor.pictures("live");
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
    const visitor = await Visitor.arrive(clarion, user);
    const { done } = ask(clarion, user, thread, QUESTION);
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
    const visitor = await Visitor.arrive(clarion, user);
    const { done } = ask(clarion, user, thread, QUESTION);
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
    const visitor = await Visitor.arrive(clarion, user);
    await ask(clarion, user, first, "What is offset and epoch?", "--pace", "0").done;
    await ask(clarion, user, first, "What does docs/nowhere.md say about retention?", "--pace", "0").done;
    await ask(clarion, user, second, QUESTION, "--pace", "0").done;
    await visitor.page.click(`[data-thread-id="${first}"]`);
    await visitor.run(2, "success");
    await visitor.showsTheWholeLog(first);
    assert.equal((await visitor.page.$$('.tool[data-status="failed"]')).length, 1);

    const other = await Visitor.arrive(clarion, user);
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
    const visitor = await Visitor.arrive(clarion, user);
    await ask(clarion, user, thread, "Where is everything?", "--folder", "/nonexistent", "--pace", "0").done;
    await visitor.run(1, "error");
    assert.match(await visitor.page.textContent(".failure .user-message"), /could not read the folder/);
    assert.match(await visitor.page.textContent(".failure .suggested-action"), /Check that the folder exists/);
    await visitor.screenshot("failed");
    await visitor.leave();
  }],

  ["text of events is never read as HTML", async () => {
    const [user, thread, run] = [fresh("user"), fresh("thread"), fresh("run")];
    const text = `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script> & "quoted"`;
    const visitor = await Visitor.arrive(clarion, user);
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
      const visitor = await Visitor.arrive(brief, user);
      const note = await visitor.page.waitForSelector("#timeline .missed");
      const floor = Number(await note.getAttribute("data-to")) + 1;
      assert.equal(await note.textContent(), `Updates 1 to ${floor - 1} are missing: they were kept no longer.`);
      await visitor.shown(61);
      const [first, ...others] = await visitor.events(61);
      assert.equal(first.type, "missed");
      assert.equal(others[0].first_offset, floor);
      for (const [i, event] of others.slice(1).entries()) assert.equal(event.first_offset, others[i].offset + 1);
      assert.equal(others.at(-1).offset, 61);
      await visitor.pictures("missed");
      await visitor.leave();
    } finally {
      await brief.finish(false);
    }
  }],

  ["another user sees none of it", async () => {
    const [owner, thread, run] = [fresh("user"), fresh("thread"), fresh("run")];
    await clarion.python("publish", "--user", owner, "--thread", thread, "--run", run, "--start", "--count", "3");
    const visitor = await Visitor.arrive(clarion, fresh("stranger"));
    await visitor.page.evaluate((id) => { location.hash = `#thread=${id}`; }, thread);
    await visitor.page.waitForSelector("#thread-claim:not([hidden])");
    assert.equal((await visitor.page.$$(".run, #thread-list li")).length, 0);
    await visitor.leave();
  }],

  ["the page works with the keyboard alone, in the dark, and on a phone", async () => {
    const [user, thread] = [fresh("user"), fresh("thread")];
    await ask(clarion, user, thread, QUESTION, "--pace", "0", "--ready-timeout", "0").done;
    const dark = await Visitor.arrive(clarion, user, { colorScheme: "dark" });
    await dark.run(1, "success");
    await dark.screenshot("dark");
    await dark.page.focus("#thread-list a");
    await dark.page.keyboard.press("Tab");
    await dark.page.keyboard.press("Tab");
    await dark.page.keyboard.press("Enter");
    await dark.page.waitForSelector("#events .event");
    await dark.screenshot("dark-events");
    await dark.leave();

    const phone = await Visitor.arrive(clarion, user, { viewport: PHONE, deviceScaleFactor: 2 });
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
    page.setDefaultTimeout(30_000);
    await page.goto(clarion.page);
    await page.fill("#sign-in-user", "_clarion");
    await page.click("#sign-in-dev-button");
    await page.waitForSelector("#sign-in-reason:not([hidden])");
    await page.screenshot({ path: path.join(screenshots, "refused.png") });
    assert.match(await page.textContent("#sign-in-reason"), /must not be _clarion: that name is reserved/);
    await page.fill("#sign-in-user", fresh("user"));
    await page.click("#sign-in-dev-button");
    await page.waitForSelector('#connection[data-state="CONNECTED"]');
    await page.close();
  }],

  ["a thread that is deleted leaves the list, and what is shown of it goes", async () => {
    const [user, gone, kept] = [fresh("user"), fresh("gone"), fresh("kept")];
    for (const thread of [kept, gone]) {
      await clarion.python("publish", "--user", user, "--thread", thread, "--run", fresh("run"), "--start", "--count", "2");
    }
    const visitor = await Visitor.arrive(clarion, user);
    await visitor.choose(gone);
    await visitor.run(1, "running");
    const deleted = await run(clarion.ctl, ["--service", clarion.service, "delete-thread", gone, "--user", user, "--yes"]);
    assert.equal(deleted.code, 0, deleted.err);
    await visitor.page.waitForSelector(`#thread-list [data-thread-id="${gone}"]`, { state: "detached" });
    await visitor.page.waitForSelector("#thread-error", { state: "visible" });
    assert.equal((await visitor.page.$$(".run")).length, 0);
    await visitor.choose(kept);
    await visitor.run(1, "running");
    assert.equal(await visitor.page.isVisible("#thread-error"), false);
    await visitor.leave();
  }],

  ["what was asked for before somebody signed out is shown to nobody", async () => {
    const [first, second, thread] = [fresh("user"), fresh("user"), fresh("thread")];
    await clarion.python("publish", "--user", first, "--thread", thread, "--run", fresh("run"), "--start", "--count", "2");
    const context = await browser.newContext();
    const visitor = await Visitor.open(clarion, context);
    const { page } = visitor;
    let answer;
    const held = new Promise((resolve) => { answer = resolve; });
    await page.route("**/v1/threads?*", async (route) => {
      const response = await route.fetch();
      await held;
      await route.fulfill({ response });
    }, { times: 1 });
    await page.fill("#sign-in-user", first);
    const [request] = await Promise.all([page.waitForRequest("**/v1/threads?*"), page.click("#sign-in-dev-button")]);
    await page.click("#sign-out");
    await page.fill("#sign-in-user", second);
    await page.click("#sign-in-dev-button");
    await visitor.connected();
    answer();
    await (await request.response()).finished();
    await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => setTimeout(resolve))));
    assert.equal((await page.$$("#thread-list li")).length, 0);
    await visitor.leave();
  }],

  ["signing out forgets everything", async () => {
    const [user, thread, run] = [fresh("user"), fresh("thread"), fresh("run")];
    await clarion.python("publish", "--user", user, "--thread", thread, "--run", run, "--start", "--count", "2");
    const visitor = await Visitor.arrive(clarion, user);
    await visitor.run(1, "running");
    await visitor.page.click("#sign-out");
    await visitor.page.waitForSelector("#sign-in", { state: "visible" });
    await visitor.page.reload();
    await visitor.page.waitForSelector("#sign-in", { state: "visible" });
    assert.equal((await visitor.page.$$(".run, #thread-list li")).length, 0);
    await visitor.leave();
  }],
];

const failures = await runTests(tests);
await browser.close();
await clarion.finish(failures > 0);
process.exit(failures === 0 ? 0 : 1);
