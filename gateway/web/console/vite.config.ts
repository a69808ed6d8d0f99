import { fileURLToPath } from "node:url";

import { defineConfig } from "vite";

// File names stay the same from version to version: the gateway serves them with an ETag.
export default defineConfig({
  base: "./",
  resolve: { alias: { "clarion-client": fileURLToPath(new URL("../client/src/index.ts", import.meta.url)) } },
  build: {
    target: "es2022",
    modulePreload: false,
    emptyOutDir: true,
    rollupOptions: { output: { entryFileNames: "console.js", assetFileNames: "console[extname]" } },
  },
});
