// An agent's text as paragraphs, lists, code blocks and `code`: the little of Markdown that answers need.
// Builds nodes; the text itself is never read as HTML.

import { el } from "./dom.js";

/** Of a block longer than this only the text is shown, so that what is drawn while it grows stays cheap. */
const LONGEST_FORMATTED = 50_000;

interface Block {
  text: string;
  /** Where it begins in the whole text. */
  at: number;
}

/** A message's text that grows at its end: only its last block is looked at again. */
export class Prose {
  readonly element: HTMLElement;
  #text = "";
  #blocks: (Block & { node: HTMLElement })[] = [];

  constructor(element: HTMLElement) {
    this.element = element;
  }

  draw(text: string): void {
    const grows = text.startsWith(this.#text);
    const last = grows ? Math.max(0, this.#blocks.length - 1) : 0;
    const from = this.#blocks[last]?.at ?? 0;
    this.#text = text;
    const next = blocksOf(text, from);
    next.forEach((block, index) => {
      const old = this.#blocks[last + index];
      const node = drawingOf(block.text);
      if (!old) {
        this.#blocks.push({ ...block, node });
        this.element.append(node);
      } else {
        // In place, so that what the reader has selected stays.
        if (old.text !== block.text && !become(old.node, node)) old.node.replaceWith((old.node = node));
        Object.assign(old, block);
      }
    });
    for (const { node } of this.#blocks.splice(last + next.length)) node.remove();
  }
}

// Paragraphs, and code blocks with their fences, from where one begins. An open fence at the end, as while
// streaming, is code.
function blocksOf(text: string, from: number): Block[] {
  const blocks: Block[] = [];
  let at = from;
  text.slice(from).split(/^```/m).forEach((part, index) => {
    if (index % 2 === 1) {
      blocks.push({ text: `\`\`\`${part}`, at: at - 3 });
    } else {
      for (const { 0: raw, index: begin } of part.matchAll(/[^\n]+(?:\n(?!\n)[^\n]*)*/g)) {
        const paragraph = raw.replace(/\n+$/, "");
        if (paragraph.trim() !== "") blocks.push({ text: paragraph, at: at + begin });
      }
    }
    at += part.length + 3;
  });
  return blocks;
}

function drawingOf(text: string): HTMLElement {
  if (text.startsWith("```")) {
    const code = text.slice(3).replace(/^[^\n]*(\n|$)/, "").replace(/\n$/, "");
    return el("pre", { tabindex: 0 }, el("code", {}, code));
  }
  if (text.length > LONGEST_FORMATTED) return el("p", {}, text);
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

// Makes `old` what `next` is, with as many of its nodes as can stay; false: it is another kind of thing.
function become(old: Node, next: Node): boolean {
  if (old instanceof Text && next instanceof Text) {
    if (next.data.startsWith(old.data)) old.appendData(next.data.slice(old.length));
    else old.data = next.data;
    return true;
  }
  if (!(old instanceof Element && next instanceof Element)) return false;
  if (old.tagName !== next.tagName || old.className !== next.className) return false;
  const children = [...next.childNodes];
  children.forEach((child, index) => {
    const before = old.childNodes[index];
    if (!before) old.append(child);
    else if (!become(before, child)) before.replaceWith(child);
  });
  while (old.childNodes.length > children.length) old.lastChild!.remove();
  return true;
}
