// bundle.mjs DIRECTORY: what the gateway serves: the console, and in client/ the library as it is.

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { build } from "vite";

import { buildClient } from "./client/build.mjs";

const out = path.resolve(process.argv[2]);
await build({ root: fileURLToPath(new URL("console", import.meta.url)), logLevel: "warn", build: { outDir: out } });
await buildClient(path.join(out, "client"));
// Newer than what it was made of, also where nothing changed.
for (const name of fs.readdirSync(out, { recursive: true })) fs.utimesSync(path.join(out, name), new Date(), new Date());
