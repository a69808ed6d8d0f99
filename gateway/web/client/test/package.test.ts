// What is published: as small as it says, nothing in it that is not meant to be, and types that hold.

import { execFileSync } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

import { build } from "esbuild";
import { beforeAll, describe, expect, it } from "vitest";

const root = fileURLToPath(new URL("..", import.meta.url));
const dist = path.join(root, "dist");
const LIMIT_BYTES = 12 * 1024;

/** What is left of the package in a page that only does this. */
async function bundle(code: string): Promise<string> {
  const { outputFiles } = await build({
    stdin: { contents: code, resolveDir: root },
    bundle: true,
    minify: true,
    format: "esm",
    target: "es2020",
    external: ["react"],
    tsconfigRaw: {}, // as outside of this folder: the package, not its sources
    write: false,
    logLevel: "silent",
  });
  return outputFiles[0]!.text;
}

const zipped = (text: string | Buffer) => gzipSync(text, { level: 9 }).length;

beforeAll(() => {
  execFileSync("npm", ["run", "--silent", "build"], { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
}, 60_000);

describe("the package", () => {
  it("is less than 12 KiB for a page that loads it as it is", () => {
    const bytes = zipped(fs.readFileSync(path.join(dist, "index.js")));
    console.log(`clarion-client: ${bytes} bytes gzipped`);
    expect(bytes).toBeLessThan(LIMIT_BYTES);
  });

  it("is as small in a bundle for older browsers, and the hook adds little", async () => {
    const client = zipped(await bundle('import { connect } from "clarion-client"; console.log(connect);'));
    const both = zipped(await bundle('import { connect } from "clarion-client"; import { useThread } from "clarion-client/react"; console.log(connect, useThread);'));
    console.log(`bundled: ${client} bytes gzipped, with the hook ${both}`);
    expect(client).toBeLessThan(1.03 * zipped(fs.readFileSync(path.join(dist, "index.js"))));
    expect(both - client).toBeLessThan(1024);
  });

  it("leaves out what a page does not use", async () => {
    const text = await bundle('import { ClarionError } from "clarion-client"; console.log(ClarionError);');
    expect(text.length).toBeLessThan(1024);
    expect(await bundle('import "clarion-client"; import "clarion-client/react";')).toMatch(/^(import"react";\s*)?$/);
  });

  it("needs nothing at run time, and React only for the hook", () => {
    const manifest = JSON.parse(fs.readFileSync(path.join(root, "package.json"), "utf8")) as Record<string, unknown>;
    expect(manifest["dependencies"]).toBeUndefined();
    const imports = (name: string) => [...fs.readFileSync(path.join(dist, name), "utf8").matchAll(/from\s*"([^"]+)"/g)].map(([, from]) => from);
    expect(imports("index.js")).toEqual([]);
    expect(imports("react.js").sort()).toEqual(["./index.js", "react"]);
  });

  it("contains what is listed here", () => {
    const [pack] = JSON.parse(
      execFileSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], { cwd: root, stdio: ["ignore", "pipe", "ignore"] }).toString(),
    ) as { files: { path: string }[] }[];
    const names = pack!.files.map((file) => file.path).sort();
    const modules = fs.readdirSync(path.join(root, "src")).map((name) => `dist/${name.replace(".ts", ".d.ts")}`);
    const code = ["dist/index.js", "dist/react.js"];
    expect(names).toEqual(["LICENSE", "README.md", "package.json", ...code, ...modules].sort());
  });

  it("has types that hold where it is used", () => {
    const page = fs.mkdtempSync(path.join(os.tmpdir(), "clarion-page-"));
    fs.mkdirSync(path.join(page, "node_modules"));
    for (const name of ["clarion-client", "react", "@types"]) {
      const at = [path.join(root, "../node_modules", name)].find((candidate) => fs.existsSync(candidate))!;
      fs.symlinkSync(fs.realpathSync(at), path.join(page, "node_modules", name));
    }
    fs.writeFileSync(
      path.join(page, "page.ts"),
      `import { connect, type ThreadState, type ToolCompletedEvent } from "clarion-client";
       import { useThread } from "clarion-client/react";
       const thread = connect({ url: "/", token: async ({ fresh }) => (fresh ? null : "t") }).thread("t");
       thread.on("tool_completed", (event) => { const same: ToolCompletedEvent = event; const ms: number = same.duration_ms; void ms; });
       thread.on("state", (state: ThreadState) => void state.runs[0]?.items);
       for await (const event of thread) if (event.type === "agent_error") { const text: string = event.user_message; void text; }
       // @ts-expect-error: there is no such event
       thread.on("agent_exploded", () => {});
       // @ts-expect-error: a delta has no duration
       thread.on("agent_message_delta", (event) => event.duration_ms);
       // @ts-expect-error: what the client says to its threads is not the page's
       thread.missed({});
       connect({ url: undefined, token: "t" });
       export const error: string | undefined = useThread("t").error?.userMessage;
      `,
    );
    const options = ["--noEmit", "--strict", "--exactOptionalPropertyTypes", "--target", "es2022", "--lib", "es2022,dom,dom.iterable", "--types", "react"];
    const tsc = path.join(root, "../node_modules/typescript/bin/tsc");
    for (const resolution of [["--module", "esnext", "--moduleResolution", "bundler"], ["--module", "nodenext"]]) {
      fs.writeFileSync(path.join(page, "package.json"), '{"type": "module"}');
      execFileSync(process.execPath, [tsc, ...options, ...resolution, "page.ts"], { cwd: page, stdio: ["ignore", "inherit", "inherit"] });
    }
    fs.rmSync(page, { recursive: true });
  }, 60_000);
});
