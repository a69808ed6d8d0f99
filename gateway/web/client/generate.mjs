// Writes src/wire.ts: the types of what goes over the wire, from the protos and proto/contract, as clarion.v1.json
// has it.
//
// The rules are those of stream.proto and event_json.h: names as in the proto, one flat object, enums as
// lower_snake strings, JSON text as the value it is.

import fs from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

import protobuf from "protobufjs";

const here = path.dirname(fileURLToPath(import.meta.url));
const protos = path.resolve(here, "../../../proto");
const out = path.join(here, "src/wire.ts");

// Envelope fields that the JSON object spells differently, or has none of.
const ENVELOPE = [
  ["offset", "number", "Its place in the thread, from 1."],
  ["first_offset?", "number", "Of a compacted event: the first offset it stands for; `offset` is the last."],
  ["event_id", "string", "Unique in its thread."],
  ["thread_id", "string", "The conversation."],
  ["run_id", "string", "The run it belongs to."],
  ["user_id", "string", "The thread's owner."],
  ["agent_name", "string", "Who runs."],
  ["timestamp", "string", "The producer's clock, RFC 3339."],
  ["accepted_at", "string", "When Clarion took it, RFC 3339."],
  ["traceparent?", "string", "W3C trace context of the producer."],
  ["tracestate?", "string", "Vendor state of the trace context."],
];

// Frames leave out what is empty or 0. These are always there.
const ALWAYS = new Set([
  "Connected.connection_id", "Connected.user_id", "Connected.protocol", "CaughtUp.thread_id", "Bound.thread_id",
  "MissedRange.thread_id", "MissedRange.reason", "StreamError.code", "Probe.nonce", "Acked.thread_id",
  "Connect.token", "Connect.protocol", "Ack.thread_id", "Ack.epoch", "Ack.offset", "Refresh.token",
  "ProbeReply.nonce", "RunInput.thread_id", "RunInput.run_id", "RunInput.kind",
]);
// In JSON they go by another name or shape.
const SPELLED = new Map([
  ["Subscribe.positions", null],
  ["Subscribe.after", "Position | ThreadPosition[]"],
]);

const root = new protobuf.Root();
root.resolvePath = (_, target) => (target.startsWith("google/") ? target : path.join(protos, target));
root.loadSync(["clarion/v1/stream.proto", "clarion/v1/event_service.proto"], {
  keepCase: true,
  alternateCommentMode: true,
  preferTrailingComment: false,
});
root.resolveAll();
const find = (name) => root.lookup(`clarion.v1.${name}`);

const lines = [];
const say = (...text) => lines.push(...text);
const words = (text) => (text ?? "").replace(/\s*\n\s*/g, " ").trim();

function comment(text, indent = "") {
  if (words(text) !== "") say(`${indent}/** ${words(text)} */`);
}

function enumOf(type) {
  const prefix = `${type.name.replace(/([a-z])([A-Z])/g, "$1_$2").toUpperCase()}_`;
  return Object.entries(type.values)
    .filter(([, number]) => number !== 0)
    .map(([name]) => JSON.stringify(name.slice(prefix.length).toLowerCase()))
    .join(" | ");
}

function typeOf(field) {
  const type = field.resolvedType;
  if (type instanceof protobuf.Enum) return enumOf(type);
  if (type) return type.name === "Timestamp" ? "string" : type.name;
  if (field.type === "bool") return "boolean";
  if (field.type !== "string") return "number";
  return /^JSON text/.test(words(field.comment)) ? "Json" : "string";
}

// `said` by pages: what is undefined is left out.
function fields(type, isOptional, said = false) {
  for (const field of type.fieldsArray) {
    if (field.resolvedType?.name === "FailureInfo") continue; // flat: the interface extends it
    const spelled = SPELLED.get(`${type.name}.${field.name}`);
    if (spelled === null) continue;
    const list = field.repeated ? "[]" : "";
    const optional = isOptional(field) ? "?" : "";
    let value = spelled ?? typeOf(field);
    if (list && value.includes("|")) value = `(${value})`;
    comment(field.comment, "  ");
    const more = field.name === "estimated_recovery_time" ? " | null" : optional && said ? " | undefined" : "";
    say(`  ${field.name}${optional}: ${value}${list}${more};`);
  }
}

const explicit = (field) => field.options?.proto3_optional === true;
const isMessage = (field) => field.resolvedType instanceof protobuf.Type;

say("// Generated from proto by generate.mjs.", "");
comment("Any JSON value.");
say("export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };", "");

const unions = { Payload: [], Client: [], Server: [] };
const done = new Set();

function part(name, isOptional) {
  if (done.has(name)) return;
  done.add(name);
  const type = find(name);
  for (const field of type.fieldsArray) {
    if (isMessage(field) && field.resolvedType.name !== "Timestamp") part(field.resolvedType.name, isOptional);
  }
  comment(type.comment);
  say(`export interface ${name} {`);
  fields(type, isOptional);
  say("}", "");
}

// --- Events ---

const payload = (field) => explicit(field) && field.name !== "estimated_recovery_time" || isMessage(field);
comment("What every event carries.");
say("export interface EventEnvelope {");
for (const [name, type, text] of ENVELOPE) {
  comment(text, "  ");
  say(`  ${name}: ${type};`);
}
say("}", "");
for (const member of find("Event").oneofs.payload.fieldsArray) {
  const type = member.resolvedType;
  for (const field of type.fieldsArray) {
    if (isMessage(field) && field.resolvedType.name !== "Timestamp") part(field.resolvedType.name, payload);
  }
  const failure = type.fieldsArray.some((field) => field.resolvedType?.name === "FailureInfo");
  comment(type.comment);
  say(`export interface ${type.name}Event extends EventEnvelope${failure ? ", FailureInfo" : ""} {`);
  say(`  type: ${JSON.stringify(member.name)};`);
  fields(type, payload);
  say("}", "");
  unions.Payload.push(`${type.name}Event`);
}
comment("One fact about a run.");
say("export type ClarionEvent =", ...unions.Payload.map((name) => `  | ${name}`));
lines[lines.length - 1] += ";";
say("");
comment("The `type` of an event.");
say('export type EventType = ClarionEvent["type"];', "");
comment("The event of a type.");
say("export type EventOf<T extends EventType> = Extract<ClarionEvent, { type: T }>;", "");

// --- Frames ---

const frame = (type) => (field) => !ALWAYS.has(`${type.name}.${field.name}`);
for (const name of ["Position", "ThreadPosition", "ActiveRun"]) part(name, () => false);
part("ThreadSummary", (field) => field.name === "last_event_at");
for (const [side, union] of [["Client", unions.Client], ["Server", unions.Server]]) {
  for (const member of find(`${side}Frame`).oneofs.frame.fieldsArray) {
    const type = member.resolvedType;
    if (type.name === "Event") continue;
    const name = `${type.name}Frame`;
    comment(type.comment);
    say(`export interface ${name} {`, `  type: ${JSON.stringify(member.name)};`);
    comment(side === "Client" ? "Echoed in the answer." : "Of the frame that this one answers.", "  ");
    say("  id?: string | undefined;");
    const nested = new Map([["Subscribe", 'Omit<SubscribeFrame, "type" | "id">']]);
    const before = lines.length;
    fields(type, frame(type), side === "Client");
    for (let i = before; i < lines.length; i += 1) {
      for (const [from, to] of nested) lines[i] = lines[i].replace(`: ${from}[]`, `: ${to}[]`);
    }
    say("}", "");
    union.push(name);
  }
}
comment("What a browser says.");
say("export type ClientFrame =", ...unions.Client.map((name) => `  | ${name}`));
lines[lines.length - 1] += ";";
say("");
comment("What is said to a browser, besides events.");
say("export type ControlFrame =", ...unions.Server.map((name) => `  | ${name}`));
lines[lines.length - 1] += ";";
say("");
comment("What is said to a browser.");
say("export type ServerFrame = ControlFrame | ClarionEvent;");

say("");

// --- Reasons ---

const reasons = fs.readFileSync(path.join(protos, "contract/reason.h"), "utf8").matchAll(/ReasonRow\{Reason::\w+,\s*("\w+")/g);
comment("Why Clarion refused something, or failed: README, Errors. Later versions have more.");
say("export type Reason =", ...[...reasons].map(([, name]) => `  | ${name}`));
lines[lines.length - 1] += ";";

const text = `${lines.join("\n")}\n`;
if (!fs.existsSync(out) || fs.readFileSync(out, "utf8") !== text) fs.writeFileSync(out, text);
