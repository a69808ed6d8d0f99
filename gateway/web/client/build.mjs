// Writes the package's code, minified, so that a page can load it as it is: index.js, and react.js, which
// imports it. The declarations come from tsc.

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import { build, transform } from "esbuild";
import { minify } from "terser";
import ts from "typescript";

const here = path.dirname(fileURLToPath(import.meta.url));

export async function buildClient(out) {
  fs.rmSync(out, { recursive: true, force: true });
  fs.mkdirSync(out, { recursive: true });
  for (const [name, external] of [["index", []], ["react", ["react", "./index.js"]]]) {
    const { outputFiles } = await build({
      absWorkingDir: here,
      entryPoints: [`src/${name}.ts`],
      write: false,
      bundle: true,
      minify: true,
      format: "esm",
      target: "es2022",
      external,
      logLevel: "warning",
    });
    // Private fields, which have short names by now, as properties that constructors set: a bundler whose
    // target knows no fields would make a WeakMap of each, and a page load a quarter more. The names are those
    // of a class alone, so no class here extends another one of ours.
    if (/\bextends (?!Error\b)/.test(outputFiles[0].text)) throw new Error("A class and its base would share their private fields.");
    if (/#[\w$]/.test(textsOf(outputFiles[0].text))) throw new Error("A text with # would be changed.");
    const { code: plain } = await transform(outputFiles[0].text.replace(/\b#/g, " _").replace(/#(?=[\w$])/g, "_"), {
      loader: "ts",
      target: "es2022",
      tsconfigRaw: { compilerOptions: { useDefineForClassFields: false } },
    });
    const { code } = await minify(plain, {
      module: true,
      ecma: 2020,
      compress: { passes: 3, pure_getters: true, unsafe_arrows: true, unsafe_methods: true },
      mangle: { properties: { regex: /^_/ } },
    });
    // Where components render on servers by default, the hook is for the others.
    fs.writeFileSync(path.join(out, `${name}.js`), name === "react" ? `"use client";${code}` : code);
  }
}

// Everything in the program that is text.
function textsOf(program) {
  const texts = [];
  const visit = (node) => {
    if (ts.isLiteralExpression(node) || ts.isTemplateLiteralToken(node)) texts.push(node.getText());
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile("program.js", program, ts.ScriptTarget.ES2022, true));
  return texts.join("\n");
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await buildClient(path.join(here, "dist"));
