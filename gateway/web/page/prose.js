// An agent's text as paragraphs, code blocks and `code`: the little of Markdown that answers need.
// Builds nodes; the text itself is never read as HTML.

import { el } from "./dom.js";

const LONGEST_FORMATTED = 100_000;

// Returns children for one message. An open fence at the end, as while streaming, is shown as code.
export function prose(text) {
  if (text.length > LONGEST_FORMATTED) return [el("p", {}, text)];
  const nodes = [];
  text.split(/^```[^\n]*\n?/m).forEach((part, index) => {
    if (index % 2 === 1) {
      nodes.push(el("pre", { tabindex: 0 }, el("code", {}, part.replace(/\n$/, ""))));
      return;
    }
    for (const paragraph of part.split(/\n{2,}/)) {
      if (paragraph.trim() !== "") nodes.push(block(paragraph.replace(/^\n+|\n+$/g, "")));
    }
  });
  return nodes;
}

function block(paragraph) {
  const lines = paragraph.split("\n");
  if (lines.every((line) => /^[-*] /.test(line))) {
    return el("ul", {}, ...lines.map((line) => el("li", {}, ...inline(line.slice(2)))));
  }
  return el("p", {}, ...inline(paragraph));
}

function inline(text) {
  return text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/).filter((part) => part !== "").map((part) => {
    if (part.length > 2 && part.startsWith("`")) return el("code", {}, part.slice(1, -1));
    if (part.length > 4 && part.startsWith("**")) return el("strong", {}, part.slice(2, -2));
    return part;
  });
}
