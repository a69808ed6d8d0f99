// The user's threads: what the list shows of each. No DOM in here.

export class Threads {
  constructor() {
    this.byId = new Map();
  }

  get(threadId) {
    return this.byId.get(threadId);
  }

  join(threadId) {
    let thread = this.byId.get(threadId);
    if (!thread) {
      thread = {
        id: threadId,
        at: 0, // of the last event that is known, milliseconds
        startedAt: 0, // of the last run that is known: the list's order, which deltas do not shuffle
        title: "", // the first question that is known
        titleOffset: Infinity,
        activity: "",
        unseen: 0, // events that came and were not shown
        peekedTo: 0, // what lies up to here is known to be old
        activeRuns: new Set(),
      };
      this.byId.set(threadId, thread);
    }
    return thread;
  }

  subscribed(frame) {
    const thread = this.join(frame.thread_id);
    thread.activeRuns = new Set((frame.active_runs ?? []).map((run) => run.run_id));
    return thread;
  }

  event(event, seen) {
    const thread = this.join(event.thread_id);
    thread.at = Math.max(thread.at, Date.parse(event.accepted_at ?? event.timestamp) || 0);
    if (!seen) thread.unseen += 1;
    if (event.type === "agent_started" || thread.startedAt === 0) thread.startedAt = thread.at;
    if (event.type === "agent_started") {
      thread.activeRuns.add(event.run_id);
      const title = titleOf(event.input);
      if (title !== "" && event.offset < thread.titleOffset) {
        thread.title = title;
        thread.titleOffset = event.offset;
      }
    } else if (event.type === "agent_completed" || event.type === "agent_error") {
      thread.activeRuns.delete(event.run_id);
    }
    thread.activity = activityOf(event);
    return thread;
  }

  // Most recently started first; those of which nothing is known yet as they came.
  sorted() {
    return [...this.byId.values()].sort((a, b) => b.startedAt - a.startedAt);
  }
}

// The question, if the input has something like one.
export function titleOf(input) {
  if (typeof input === "string") return input;
  if (input === null || typeof input !== "object") return "";
  for (const key of ["question", "prompt", "query", "message", "text", "input"]) {
    if (typeof input[key] === "string") return input[key];
  }
  return "";
}

function activityOf(event) {
  switch (event.type) {
    case "agent_started": return `${event.agent_name} started`;
    case "agent_thinking": return `${event.agent_name} is thinking`;
    case "agent_message_delta": return `${event.agent_name} is writing`;
    case "tool_executing": return `${event.tool_name} is running`;
    case "tool_progress": return event.message || "a tool is running";
    case "tool_completed": return `${event.tool_name} ${event.status}`;
    case "agent_completed": return event.outcome === "success" ? `${event.agent_name} finished` : `${event.agent_name}: ${event.outcome}`;
    default: return event.user_message || event.type.replaceAll("_", " ");
  }
}
