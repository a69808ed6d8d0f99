// @vitest-environment jsdom
// An agent's text, as it streams.

import { beforeEach, describe, expect, it } from "vitest";

import { Prose } from "../src/prose.js";

let element: HTMLElement;
let prose: Prose;

beforeEach(() => {
  element = document.createElement("div");
  prose = new Prose(element);
});

const TEXT = [
  "# A heading", "Some `code` and **bold**,\nover two lines.", "- one\n- two", "1. first\n2. second",
  "## Lists\nBehind text:\n3. three\n   and more\n5. five\n- point\nBehind a list.\n2026000001. is no item",
  "```js\nconst a = 1;\n\nconst b = 2;\n```", "After it.\n```\nopen", "fence",
].join("\n\n");

describe("prose", () => {
  it("is paragraphs, lists, headings and code", () => {
    prose.draw(TEXT.slice(0, TEXT.indexOf("After")));
    expect([...element.children].map(({ tagName }) => tagName)).toEqual(["P", "P", "UL", "OL", "P", "P", "OL", "UL", "P", "PRE"]);
    expect(element.querySelector("code")!.textContent).toBe("code");
    expect(element.querySelector("strong")!.textContent).toBe("bold");
    expect([...element.querySelectorAll("ol > li")].map((item) => [item.getAttribute("value"), item.textContent])).toEqual([
      ["1", "first"], ["2", "second"], ["3", "three\n   and more"], ["5", "five"],
    ]);
    expect(element.querySelector("pre")!.textContent).toBe("const a = 1;\n\nconst b = 2;");
  });

  it("looks the same however it came", () => {
    prose.draw(TEXT);
    const whole = element.innerHTML;
    for (const step of [1, 2, 3, 7, 40]) {
      const other = document.createElement("div");
      const streamed = new Prose(other);
      for (let end = 0; end < TEXT.length; end += step) streamed.draw(TEXT.slice(0, end));
      streamed.draw(TEXT);
      expect(other.innerHTML).toBe(whole);
    }
  });

  it("draws another text from its beginning", () => {
    prose.draw(TEXT);
    prose.draw("Something else.");
    expect(element.innerHTML).toBe("<p>Something else.</p>");
    prose.draw("");
    expect(element.innerHTML).toBe("");
  });

  it("keeps the nodes of what was drawn, so that a selection stays", () => {
    prose.draw("One.\n\nTwo and **three** and");
    const [first, second] = [...element.children];
    const words = second!.lastChild;
    prose.draw("One.\n\nTwo and **three** and more");
    expect([element.children[0], element.children[1]]).toEqual([first, second]);
    expect(second!.lastChild).toBe(words);
    expect(words!.textContent).toBe(" and more");
  });

  it("keeps its form however long it is, and looks at its last block only", () => {
    let text = "";
    for (let n = 0; n < 600; n += 1) {
      text += `**${n}** is a number${" of many".repeat(25)}.\n\n`;
      prose.draw(text);
    }
    expect(text.length).toBeGreaterThan(100_000);
    expect(element.querySelectorAll("p > strong").length).toBe(600);
    const before = [...element.children];
    prose.draw(`${text}The end.`);
    expect([...element.children].slice(0, -1).every((node, index) => node === before[index])).toBe(true);
  });

  it("is text, never HTML", () => {
    prose.draw('<img src="x" onerror="alert(1)"> `<b>`');
    expect(element.querySelector("img, b")).toBeNull();
  });
});
