// An agent's text as paragraphs, lists, code blocks and `code`: the little of Markdown that answers need.
// Builds nodes; the text itself is never read as HTML.

import { el } from "./dom.js";

const LONGEST_FORMATTED = 100_000;

/** A message's text that grows at its end: what was drawn and does not change any more stays. */
export class Prose {
  readonly element: HTMLElement;
  #blocks: { text: string; node: HTMLElement }[] = [];

  constructor(element: HTMLElement) {
    this.element = element;
  }

  draw(text: string): void {
    const parts = text.length > LONGEST_FORMATTED ? [text] : blocksOf(text);
    let same = 0;
    while (same < parts.length && this.#blocks[same]?.text === parts[same]) same += 1;
    for (const { node } of this.#blocks.splice(same)) node.remove();
    for (const part of parts.slice(same)) {
      const node = text.length > LONGEST_FORMATTED ? el("p", {}, part) : block(part);
      this.#blocks.push({ text: part, node });
      this.element.append(node);
    }
  }
}

// Paragraphs, and code blocks with their fences. An open fence at the end, as while streaming, is code.
function blocksOf(text: string): string[] {
  const blocks: string[] = [];
  text.split(/^```/m).forEach((part, index) => {
    if (index % 2 === 1) blocks.push(`\`\`\`${part}`);
    else blocks.push(...part.split(/\n{2,}/).map((one) => one.replace(/^\n+|\n+$/g, "")).filter((one) => one.trim() !== ""));
  });
  return blocks;
}

function block(text: string): HTMLElement {
  if (text.startsWith("```")) {
    const code = text.slice(3).replace(/^[^\n]*(\n|$)/, "").replace(/\n$/, "");
    return el("pre", { tabindex: 0 }, el("code", {}, code));
  }
  const lines = text.split("\n");
  if (lines.every((line) => /^[-*] /.test(line))) {
    return el("ul", {}, ...lines.map((line) => el("li", {}, ...inline(line.slice(2)))));
  }
  if (lines.every((line) => /^\d+[.)] /.test(line))) {
    return el("ol", {}, ...lines.map((line) => el("li", {}, ...inline(line.replace(/^\d+[.)] /, "")))));
  }
  const heading = /^(#{1,6}) ([^\n]+)$/.exec(text);
  if (heading) return el("p.heading", {}, ...inline(heading[2]!));
  return el("p", {}, ...inline(text));
}

function inline(text: string): (string | HTMLElement)[] {
  const parts = text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/).filter((part) => part !== "");
  return parts.map((part) => {
    if (part.length > 2 && part.startsWith("`")) return el("code", {}, part.slice(1, -1));
    if (part.length > 4 && part.startsWith("**")) return el("strong", {}, part.slice(2, -2));
    return part;
  });
}
