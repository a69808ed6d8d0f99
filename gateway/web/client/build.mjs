// Writes the package's code: one file for each entry and one that both share, minified, so that a page can
// load them as they are. The declarations come from tsc.

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const here = path.dirname(fileURLToPath(import.meta.url));

export async function buildClient(out) {
  fs.rmSync(out, { recursive: true, force: true });
  await build({
    absWorkingDir: here,
    entryPoints: ["src/index.ts", "src/react.ts"],
    outdir: out,
    bundle: true,
    splitting: true,
    chunkNames: "shared",
    format: "esm",
    target: "es2022",
    minify: true,
    external: ["react"],
    logLevel: "warning",
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildClient(path.join(here, "dist"));
