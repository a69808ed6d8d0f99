// What README.md prints is run as it stands; what it lists is compared with what the programs say.

import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";

import WebSocket from "ws";

import { Clarion, python, repository, run, runTests } from "./program.mjs";

const PATIENCE_MS = 15_000;

const binaries = process.argv[2];
const readme = fs.readFileSync(path.join(repository, "README.md"), "utf8");
const source = (name) => fs.readFileSync(path.join(repository, name), "utf8");

function snippet(name) {
  const match = new RegExp(`<!-- test: ${name} -->\n\`\`\`\\w+\n([^]*?)\n\`\`\``).exec(readme);
  assert.ok(match, `README.md has no snippet ${name}`);
  return match[1];
}

// The text between one heading and the next of its level.
function chapter(title) {
  const begin = readme.indexOf(`\n## ${title}\n`);
  assert.notEqual(begin, -1, title);
  const end = readme.indexOf("\n## ", begin + 4);
  return readme.slice(begin, end === -1 ? undefined : end);
}

// name -> default, as a program's --help has them: "off" of a switch, null of what is empty. The second
// spelling of secrets, --NAME-file, is prose in README.md.
async function flagsOf(program) {
  const { code, out } = await run(path.join(binaries, program), ["--help"]);
  assert.equal(code, 0, program);
  const flags = new Map();
  for (const [, name, kind, value] of out.matchAll(/^ {2}(--[a-z][a-z0-9-]+)(?: ([A-Z]+)(?:=(\S+))?)?/gm)) {
    const empty = value === undefined || value === "[]";
    if (kind !== "PATH") flags.set(name, kind === undefined ? "off" : empty ? null : value);
  }
  flags.delete("--version");
  assert.ok(flags.size > 5, out);
  return flags;
}

// The rows of one table of the configuration: name -> default.
function flagsListed(title) {
  const table = new RegExp(`\n${title}[^|]*:\n\n([^]*?)\n(?:\n|$)`).exec(chapter("Configuration"));
  assert.ok(table, title);
  const flags = new Map();
  for (const line of table[1].split("\n").slice(2)) {
    const [, names, value] = line.split(" | ").length === 3 ? /^\| (.*?) \| (.*?) \|/.exec(line) : [];
    assert.ok(names, line);
    for (const name of names.split(", ")) flags.set(name.replaceAll("`", ""), value);
  }
  return flags;
}

// A default stands in the table as it is, perhaps with what it means behind it; words say what empty means.
function says(listed, value) {
  if (value === null) return /^[a-z]/.test(listed) && listed !== "off";
  return listed.replaceAll("`", "").split(" ")[0] === value;
}

function assertListed(program, real, listed) {
  assert.deepEqual([...listed.keys()].sort(), [...real.keys()].sort(), program);
  for (const [name, value] of real) {
    assert.ok(says(listed.get(name), value), `${program} ${name}: ${value}, but README.md says ${listed.get(name)}`);
  }
}

// JSON objects that stand one behind the other at the beginning of a text.
function splitJson(text) {
  const objects = [];
  for (let begin = 0, depth = 0, quoted = false, at = 0; text[begin] === "{" && at < text.length; ++at) {
    const character = text[at];
    if (character === "\\") ++at;
    else if (character === '"') quoted = !quoted;
    else if (!quoted && character === "{") ++depth;
    else if (!quoted && character === "}" && --depth === 0) {
      objects.push(JSON.parse(text.slice(begin, at + 1)));
      begin = at + 1;
    }
  }
  return objects;
}

// Stands in for the browser's WebSocket; the test plays the server.
class ScriptedSocket {
  static all = [];
  constructor() {
    this.sent = [];
    ScriptedSocket.all.push(this);
  }
  send(text) { this.sent.push(JSON.parse(text)); }
  say(frame) { this.onmessage({ data: JSON.stringify(frame) }); }
}

const tests = [
  ["the Python program publishes, and the JavaScript shows it in order", async () => {
    const clarion = await Clarion.start(binaries, ["--dev"]);
    try {
      const shown = [];
      const done = new Promise((resolve, reject) => {
        const patience = setTimeout(() => reject(new Error(`only ${JSON.stringify(shown)} came`)), PATIENCE_MS);
        const watch = new Function("WebSocket", `${snippet("watch.js")}; return watch;`)(WebSocket);
        const getToken = async () => (await (await fetch(`${clarion.page}v1/dev/token?user=demo`)).json()).token;
        watch(clarion.stream, getToken, (frame) => {
          if (!frame.event_id) return;
          shown.push([frame.offset, frame.type]);
          if (frame.type !== "agent_completed") return;
          clearTimeout(patience);
          resolve();
        });
      });
      const program = snippet("publish.py").replace("127.0.0.1:7700", clarion.service);
      const { code, out, err } = await run(python, ["-c", program],
        { env: { ...process.env, PYTHONPATH: process.env.CLARION_STUBS } });
      assert.equal(code, 0, err);
      assert.match(out, /readiness READINESS_SUBSCRIBED/);
      assert.match(out, /offset 2 DISPOSITION_DELIVERING/);
      await done;
      assert.deepEqual(shown, [[1, "agent_started"], [2, "agent_message_delta"], [3, "agent_completed"]]);
    } finally {
      await clarion.finish(false);
    }
  }],

  ["what curl asks for is answered, once the Python program has published", async () => {
    const clarion = await Clarion.start(binaries, ["--dev"]);
    try {
      const publish = snippet("publish.py").replace("127.0.0.1:7700", clarion.service);
      assert.equal((await run(python, ["-c", publish],
        { env: { ...process.env, PYTHONPATH: process.env.CLARION_STUBS } })).code, 0);
      const script = snippet("curl.sh").replace("http://127.0.0.1:7710", clarion.page.replace(/\/$/, ""));
      const { out, err } = await run("bash", ["-c", script]);
      const [threads, page, last, before, next] = out.split("}{").length > 4 ? splitJson(out) : [];
      assert.deepEqual(threads?.threads.map((thread) => thread.thread_id), ["readme"], out + err);
      const offsets = (answer) => answer.events.map((event) => event.offset);
      assert.deepEqual([page, last, before, next].map(offsets), [[1, 2, 3], [1, 2, 3], [1, 2], [3]]);
      assert.match(out, /\nid: [^:\n]+:3\ndata: \{"offset":3,"type":"agent_completed"/);
      assert.match(out, /data: \{"type":"subscribed","all":true\}/);
      assert.match(out, /"frames":\[\{"type":"connected".*"type":"agent_completed".*\]\}$/);
    } finally {
      await clarion.finish(false);
    }
  }],

  ["the JavaScript names the most recently active of more threads than a connect may name", async () => {
    const later = [];
    const watch = new Function("WebSocket", "setTimeout", `${snippet("watch.js")}; return watch;`)(
      ScriptedSocket, (action) => later.push(action));
    watch("ws://nowhere", async () => "token", () => {});
    const [first] = ScriptedSocket.all;
    await first.onopen();
    for (let number = 0; number < 1100; ++number) {
      first.say({ type: "subscribed", thread_id: `t${number}`, epoch: "e", from_offset: 1 });
    }
    first.say({ type: "custom", event_id: "x", thread_id: "t0", offset: 1 });
    first.onclose({ code: 1006 });
    later.pop()();
    const second = ScriptedSocket.all.at(-1);
    await second.onopen();
    const { after } = second.sent[0].subscribe[0];
    assert.equal(after.length, 1024);
    assert.deepEqual(after[0], { thread_id: "t77", epoch: "e", offset: 0 });
    assert.deepEqual(after.at(-1), { thread_id: "t0", epoch: "e", offset: 1 });
  }],

  ["every flag of the programs is listed with its default, and no other", async () => {
    const service = flagsListed("`clarion-service`, and `clarion`");
    const gateway = flagsListed("`clarion-gateway`, and `clarion`");
    assertListed("clarion-service", await flagsOf("service/clarion-service"), service);
    assertListed("clarion-gateway", await flagsOf("gateway/clarion-gateway"), gateway);
    const both = new Map(service);
    for (const [name, value] of gateway) {
      if (name === "--listen" || name === "--admin-listen") both.set(name.replace("--", "--gateway-"), value);
      else if (!name.startsWith("--service")) both.set(name, value);
    }
    assertListed("clarion", await flagsOf("clarion/clarion"), both);
    const prose = chapter("Configuration").match(/--[a-z][a-z0-9-]+/g).map((name) => name.replace("secret-file", "secret"));
    assert.deepEqual(prose.filter((name) => name !== "--help" && !both.has(name) && !gateway.has(name)), []);
  }],

  ["every reason and every close code is listed with its row", async () => {
    const errors = chapter("Errors");
    const codes = { InvalidArgument: "INVALID_ARGUMENT", Unavailable: "UNAVAILABLE", NotFound: "NOT_FOUND",
      FailedPrecondition: "FAILED_PRECONDITION", ResourceExhausted: "RESOURCE_EXHAUSTED", Aborted: "ABORTED",
      AlreadyExists: "ALREADY_EXISTS", DataLoss: "DATA_LOSS", PermissionDenied: "PERMISSION_DENIED",
      Unauthenticated: "UNAUTHENTICATED" };
    const reasons = [...source("proto/contract/reason.h").matchAll(
      /ReasonRow\{Reason::k\w+, "(\w+)",\s*absl::StatusCode::k(\w+),\s*Retry::k(\w+)/g)];
    assert.ok(reasons.length >= 19);
    for (const [, name, code, retry] of reasons) {
      assert.ok(errors.includes(`| \`${name}\` | ${codes[code]} | ${retry.toLowerCase()} |`), name);
    }
    const table = source("proto/contract/close_code.h");
    const numbers = [...table.matchAll(/ {2}(k\w+) = (\d+),/g)];
    assert.ok(numbers.length >= 11);
    for (const [, constant, number] of numbers) {
      const name = new RegExp(`CloseCode::${constant}, "(\\w+)"`).exec(table)[1];
      assert.ok(errors.includes(`| ${number} | ${name} |`), `${number} ${name}`);
    }
  }],
];

const failures = await runTests(tests);
process.exit(failures === 0 ? 0 : 1);
