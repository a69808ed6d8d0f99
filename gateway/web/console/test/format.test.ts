// Data as people read it.

import { describe, expect, it } from "vitest";

import { briefly, duration, moment } from "../src/format.js";

describe("a duration", () => {
  it("has a precision that people can use, and no unit is full", () => {
    expect([840, 5_400, 59_900, 60_000, 61_000, 3_660_000].map(duration)).toEqual(["840 ms", "5.4 s", "59 s", "1 min", "1 min 1 s", "1 h 1 min"]);
    expect([NaN, -1].map(duration)).toEqual(["", ""]);
  });
});

describe("a moment", () => {
  it("says the day if it is not today", () => {
    expect(moment("2020-02-29T12:00:00Z")).toContain("2020");
    expect(moment(Date.now())).not.toContain(String(new Date().getFullYear()));
    expect([moment(undefined), moment("nonsense")]).toEqual(["", ""]);
  });
});

describe("arguments", () => {
  it("are a line, however much they are", () => {
    expect(briefly({ train: "RE 6", days: [1, 2] })).toBe("train: RE 6, days: [1,2]");
    expect(briefly({ text: "x".repeat(100_000) }).length).toBeLessThan(1_000);
    expect(briefly("x".repeat(100_000)).length).toBeLessThan(1_000);
  });
});
