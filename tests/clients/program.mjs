// The real clarion as a child process, on ports that were free and a directory of its own.

import { spawn } from "node:child_process";
import { createHmac } from "node:crypto";
import fs from "node:fs";
import http from "node:http";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const SECRET = "a secret of thirty-two bytes, at least";
const START_WITHIN_MS = 60_000;
const LOOK_EVERY_MS = 20;

export const repository = path.resolve(here, "../..");
export const python = "/usr/bin/python3";

async function freePort() {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

function answers(url) {
  return new Promise((resolve) => {
    http.get(url, (answer) => {
      answer.resume();
      resolve(answer.statusCode === 200);
    }).on("error", () => resolve(false));
  });
}

// One of our programs: started on the same ports and directory every time.
class Program {
  constructor(folder, name, binary, args, ready) {
    Object.assign(this, { folder, name, binary, args, ready });
  }

  // Starts the process and waits until it serves.
  async run() {
    const log = fs.openSync(path.join(this.folder, "clarion.log"), "a");
    const child = spawn(this.binary, this.args, { stdio: ["ignore", log, log] });
    fs.closeSync(log);
    this.child = child;
    this.ended = new Promise((resolve) => child.on("close", (code, signal) => resolve(signal ?? code)));
    let gone = false;
    this.ended.then(() => { gone = true; });
    const giveUpAt = Date.now() + START_WITHIN_MS;
    for (const url of this.ready) {
      while (!(await answers(url))) {
        if (gone || Date.now() > giveUpAt) throw new Error(`${this.name} does not serve ${url}`);
        await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
      }
    }
  }

  async stop(signal = "SIGTERM") {
    this.child.kill(signal);
    return this.ended;
  }
}

export class Clarion {
  // Both halves in one process.
  static async start(binaries, extra = []) {
    const clarion = await Clarion.#make(binaries);
    const { service, folder, ports } = clarion;
    clarion.programs = [new Program(folder, "clarion", path.join(binaries, "clarion/clarion"), [
      "--log-url", `embedded:${folder}/log`,
      "--listen", service,
      "--admin-listen", `127.0.0.1:${ports.admin}`,
      "--gateway-listen", `127.0.0.1:${ports.gateway}`,
      "--gateway-admin-listen", `127.0.0.1:${ports.gatewayAdmin}`,
      "--token-secret", SECRET,
      ...extra,
    ], clarion.ready)];
    await clarion.run();
    return clarion;
  }

  // The halves apart: `serviceProgram` and `gatewayProgram`.
  static async startApart(binaries, gatewayExtra = []) {
    const clarion = await Clarion.#make(binaries);
    const { service, folder, ports, ready } = clarion;
    clarion.serviceProgram = new Program(folder, "clarion-service", path.join(binaries, "service/clarion-service"), [
      "--log-url", `embedded:${folder}/log`, "--listen", service, "--admin-listen", `127.0.0.1:${ports.admin}`,
    ], [ready[0]]);
    clarion.gatewayProgram = new Program(folder, "clarion-gateway", path.join(binaries, "gateway/clarion-gateway"), [
      "--service", service, "--listen", `127.0.0.1:${ports.gateway}`, "--admin-listen", `127.0.0.1:${ports.gatewayAdmin}`,
      "--token-secret", SECRET, ...gatewayExtra,
    ], [ready[1]]);
    clarion.programs = [clarion.serviceProgram, clarion.gatewayProgram];
    await clarion.run();
    return clarion;
  }

  static async #make(binaries) {
    const clarion = new Clarion();
    clarion.folder = fs.mkdtempSync(path.join(os.tmpdir(), "clarion-"));
    const ports = { grpc: await freePort(), admin: await freePort(), gateway: await freePort(), gatewayAdmin: await freePort() };
    clarion.ports = ports;
    clarion.ctl = path.join(binaries, "service/ctl/clarionctl");
    clarion.service = `127.0.0.1:${ports.grpc}`;
    clarion.page = `http://127.0.0.1:${ports.gateway}/`;
    clarion.stream = `ws://127.0.0.1:${ports.gateway}/v1/stream`;
    clarion.ready = [`http://127.0.0.1:${ports.admin}/readyz`, `http://127.0.0.1:${ports.gatewayAdmin}/readyz`];
    return clarion;
  }

  async run() {
    try {
      for (const program of this.programs) await program.run();
    } catch (error) {
      throw new Error(`${error.message}:\n${this.log()}`);
    }
  }

  async stop(signal = "SIGTERM") {
    return Promise.all(this.programs.map((program) => program.stop(signal)));
  }

  // At the end of everything: the directory goes too, unless it is needed to understand a failure.
  async finish(failed) {
    await this.stop("SIGKILL");
    if (failed) console.error(`kept for inspection: ${this.folder}\n${this.log().slice(-4000)}`);
    else fs.rmSync(this.folder, { recursive: true, force: true });
  }

  log() {
    return fs.readFileSync(path.join(this.folder, "clarion.log"), "utf8");
  }

  token(user, seconds = 600) {
    const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
    const now = Math.floor(Date.now() / 1000);
    const text = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, iat: now, exp: now + seconds })}`;
    return `${text}.${createHmac("sha256", SECRET).update(text).digest("base64url")}`;
  }

  // Runs py_client.py and answers the JSON of each line it printed.
  async python(...args) {
    const { code, out, err } = await run(python, [path.join(here, "py_client.py"), "--service", this.service, ...args]);
    if (code !== 0) throw new Error(`py_client.py ${args.join(" ")} ended with ${code}:\n${err}${out}`);
    return out.trim().split("\n").filter((line) => line !== "").map((line) => JSON.parse(line));
  }
}

export async function run(command, args, options = {}) {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  let out = "";
  let err = "";
  child.stdout.on("data", (data) => { out += data; });
  child.stderr.on("data", (data) => { err += data; });
  const code = await new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", resolve);
  });
  return { code, out, err };
}

// Runs the tests one after the other and answers how many failed.
export async function runTests(tests) {
  let failures = 0;
  for (const [name, test] of tests) {
    const begin = Date.now();
    try {
      await test();
      console.log(`ok    ${name} (${Date.now() - begin} ms)`);
    } catch (error) {
      failures += 1;
      console.error(`FAIL  ${name}\n${error.stack ?? error}`);
    }
  }
  console.log(failures === 0 ? `${tests.length} passed` : `${failures} of ${tests.length} failed`);
  return failures;
}
