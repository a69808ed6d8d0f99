// Small helpers for building the page. Data reaches the document as text nodes and attributes only.

export type Child = Node | string | null | undefined | false;
export type Value = string | number | boolean | null | undefined;

/** The element of this id, which the page has. */
export function $<T extends HTMLElement = HTMLElement>(id: string): T {
  const element = document.getElementById(id);
  if (!element) throw new Error(`The page has no #${id}.`);
  return element as T;
}

/** el("p.note", {"data-kind": "missed"}, "text", child): a tag with classes, attributes and children. */
export function el<T extends keyof HTMLElementTagNameMap>(
  tagAndClasses: T | `${T}.${string}`,
  attributes: Record<string, Value> = {},
  ...children: Child[]
): HTMLElementTagNameMap[T] {
  const [tag, ...classes] = tagAndClasses.split(".");
  const element = document.createElement(tag as T);
  if (classes.length > 0) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes)) setAttribute(element, name, value);
  element.append(...children.filter((child): child is Node | string => child instanceof Node || typeof child === "string"));
  return element;
}

/** null, undefined and false: not there. */
export function setAttribute(element: Element, name: string, value: Value): void {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value === true ? "" : String(value));
}

/** What the change puts in front of the element does not move it on the screen. */
export function stayingAt(element: Element | null, scroller: HTMLElement, change: () => void): void {
  const top = () => element?.getBoundingClientRect().top ?? 0;
  const before = top();
  // The browser would do the same, but not at the very top.
  scroller.style.overflowAnchor = "none";
  change();
  scroller.scrollTop += top() - before;
  requestAnimationFrame(() => (scroller.style.overflowAnchor = ""));
}

export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** Text that grows at its end: only what is new is appended, so that a selection stays. */
export function growText(element: Element, text: string): void {
  const node = element.firstChild as Text | null;
  if (!node) element.append(text);
  else if (text.length > node.length && text.startsWith(node.data)) node.appendData(text.slice(node.length));
  else if (node.data !== text) node.data = text;
}
