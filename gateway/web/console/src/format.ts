// Data as people read it.

import type { Json } from "clarion-client";

// More of a text than fits into a line.
const BRIEF = 300;

export function compactJson(value: unknown): string {
  return value === undefined ? "" : JSON.stringify(value);
}

export function prettyJson(value: unknown): string {
  return value === undefined ? "" : JSON.stringify(value, null, 2);
}

export function duration(ms: number): string {
  if (!Number.isFinite(ms) || ms < 0) return "";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const seconds = ms / 1000;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.floor(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return both(minutes, "min", Math.floor(seconds % 60), "s");
  return both(Math.floor(minutes / 60), "h", minutes % 60, "min");
}

function both(large: number, unit: string, small: number, smallUnit: string): string {
  return small === 0 ? `${large} ${unit}` : `${large} ${unit} ${small} ${smallUnit}`;
}

export function ago(ms: number): string {
  if (ms < 10_000) return "just now";
  if (ms < 60_000) return `${Math.floor(ms / 1000)} s ago`;
  if (ms < 3_600_000) return `${Math.floor(ms / 60_000)} min ago`;
  if (ms < 86_400_000) return `${Math.floor(ms / 3_600_000)} h ago`;
  return `${Math.floor(ms / 86_400_000)} d ago`;
}

/** A time of day; with the day, if it is another than today's. */
export function moment(timestamp: string | number | undefined): string {
  const at = new Date(timestamp ?? NaN);
  if (Number.isNaN(at.getTime())) return "";
  const day = at.toDateString() === new Date().toDateString() ? "" : `${at.toLocaleDateString()} `;
  return day + at.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
}

/** The question, if the input has something like one. */
export function questionOf(input: Json | undefined): string {
  if (typeof input === "string") return input;
  if (input === null || typeof input !== "object" || Array.isArray(input)) return "";
  for (const key of ["question", "prompt", "query", "message", "text", "input"]) {
    const value = input[key];
    if (typeof value === "string") return value;
  }
  return "";
}

/** Arguments as a line, as much of them as can be seen: {"pattern": "epoch"} as pattern: epoch. */
export function briefly(args: Json | undefined): string {
  if (args === undefined) return "";
  if (args === null || typeof args !== "object" || Array.isArray(args)) return compactJson(args).slice(0, BRIEF);
  return Object.entries(args)
    .map(([key, value]) => `${key}: ${typeof value === "string" ? value : compactJson(value)}`)
    .join(", ")
    .slice(0, BRIEF);
}

export function lastLine(text: string): string {
  const lines = text.slice(-2_000).trimEnd().split("\n");
  return (lines[lines.length - 1] ?? "").slice(-BRIEF);
}
