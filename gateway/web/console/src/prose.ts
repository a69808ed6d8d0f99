// An agent's text as paragraphs, lists, code blocks and `code`: the little of Markdown that answers need.
// Builds nodes; the text itself is never read as HTML.

import { el, setAttribute } from "./dom.js";

/** Of a block longer than this only the text is shown, so that what is drawn while it grows stays cheap. */
const LONGEST_FORMATTED = 50_000;

interface Block {
  text: string;
  /** Where its paragraph begins in the whole text. */
  at: number;
}

/** A message's text that grows at its end: only its last paragraph is looked at again. */
export class Prose {
  readonly element: HTMLElement;
  #text = "";
  #blocks: (Block & { node: HTMLElement })[] = [];

  constructor(element: HTMLElement) {
    this.element = element;
  }

  draw(text: string): void {
    const grows = text.startsWith(this.#text);
    const from = grows ? (this.#blocks[this.#blocks.length - 1]?.at ?? 0) : 0;
    const last = this.#blocks.filter(({ at }) => at < from).length;
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
        if (paragraph.trim() === "") continue;
        for (const text of partsOf(paragraph)) blocks.push({ text, at: at + begin });
      }
    }
    at += part.length + 3;
  });
  return blocks;
}

const ITEM = { ul: /^[-*] /, ol: /^\d{1,9}[.)] / };

function kindOf(line: string): "ul" | "ol" | "heading" | "text" {
  if (ITEM.ul.test(line)) return "ul";
  if (ITEM.ol.test(line)) return "ol";
  return /^#{1,6} ./.test(line) ? "heading" : "text";
}

// Lists and headings stand apart also where nobody left a line empty. What is indented belongs to its item.
function partsOf(paragraph: string): string[] {
  if (paragraph.length > LONGEST_FORMATTED) return [paragraph];
  const parts: string[] = [];
  let before = "";
  for (const line of paragraph.split("\n")) {
    const inItem = (before === "ul" || before === "ol") && /^\s/.test(line);
    const kind = inItem ? before : kindOf(line);
    if (kind === before && kind !== "heading") parts[parts.length - 1] += `\n${line}`;
    else parts.push(line);
    before = kind;
  }
  return parts;
}

function drawingOf(text: string): HTMLElement {
  if (text.startsWith("```")) {
    const code = text.slice(3).replace(/^[^\n]*(\n|$)/, "").replace(/\n$/, "");
    return el("pre", { tabindex: 0 }, el("code", {}, code));
  }
  if (text.length > LONGEST_FORMATTED) return el("p", {}, text);
  switch (kindOf(text)) {
    case "ul":
      return el("ul", {}, ...itemsOf(text).map((item) => el("li", {}, ...inline(item.replace(ITEM.ul, "")))));
    case "ol":
      return el("ol", {}, ...itemsOf(text).map((item) => el("li", { value: parseInt(item) }, ...inline(item.replace(ITEM.ol, "")))));
    case "heading":
      return el("p.heading", {}, ...inline(text.replace(/^#+ /, "")));
    case "text":
      return el("p", {}, ...inline(text));
  }
}

function itemsOf(text: string): string[] {
  return text.split(/\n(?!\s)/);
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
  for (const { name, value } of next.attributes) setAttribute(old, name, value);
  const children = [...next.childNodes];
  children.forEach((child, index) => {
    const before = old.childNodes[index];
    if (!before) old.append(child);
    else if (!become(before, child)) before.replaceWith(child);
  });
  while (old.childNodes.length > children.length) old.lastChild!.remove();
  return true;
}
