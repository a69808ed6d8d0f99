"""The agent: asked a question about a folder, it searches the files and answers with quotes.

No model is involved: it looks for the question's words, weighs rare ones more, and shows the places
where most of them stand together. Everything it does is published as it happens.
"""

from __future__ import annotations

import math
import re
import time
import traceback
from collections import defaultdict
from dataclasses import dataclass

import grpc

from clarion.v1 import event_pb2

from publisher import LEAVE_AFTER_SECONDS, Run, to_json
from tools import Folder, Match, ToolError

NAME = "file-searcher"
MOST_WORDS = 5
MOST_QUOTES = 3
# Lines before and after a match that count as the same place.
REACH = 3
QUOTE_LINES = 8
STOP_WORDS = frozenset("""
a about after all also am an and any are as at be been before being between both but by can could did do
does doing done for from get gets had has have how if in into is it its just like make makes many may me
mean might more most much must my no not of off on once one only or other our out over own say says shall
she should so some such tell than that the their them then there these they this those through to too under
until up use used uses using very was we were what when where which while who whom whose why will with
would you your folder file files happen happens code project repository please show find
""".split())
PATH = re.compile(r"[\w.-]+(?:/[\w.-]+)+|\b[\w-]+\.(?:md|cc|h|py|js|proto|txt|sh|yaml|json)\b")


@dataclass
class Place:
    file: str
    line: int
    score: float


class Agent:
    """Answers one question within one run."""

    def __init__(self, run: Run, folder: str, pace_seconds: float):
        self._run = run
        self._folder = Folder(folder)
        self._pace = pace_seconds  # between pieces of text, so that people can follow
        self._serial = 0  # of thoughts and tool calls
        self._counts: dict[str, tuple[int, int]] = {}  # word -> matches, files

    def answer(self, question: str) -> None:
        """Ends the run in every case; raises only what the service itself refuses."""
        try:
            self._investigate(question)
        except ToolError as error:
            self._fail(error.error_type, str(error), "I could not read the folder that you asked about.",
                       "Check that the folder exists and can be read, then ask again.")
        except KeyboardInterrupt:
            cancelled = event_pb2.AgentCompleted(outcome=event_pb2.RUN_OUTCOME_CANCELLED)
            self._run.publish(give_up_after=LEAVE_AFTER_SECONDS, agent_completed=cancelled)
            raise
        except grpc.RpcError:
            raise  # there is nobody left to tell
        except Exception as error:
            traceback.print_exc()
            self._fail("internal", repr(error), "Something went wrong while I was searching.", "Ask again.")

    # --- Steps ---

    def _investigate(self, question: str) -> None:
        words = keywords(question)
        self._think(f"The question is about {listed(words) or 'the folder as a whole'}. "
                    "First I need to know which files there are.")
        overview = self._tool("list_files", {"folder": self._folder.root.name}, self._folder.list_files)
        named = self._read_named_files(question)
        matches = {word: self._search(word) for word in words}
        places = self._rank(matches, question)
        if places:
            self._think(f"{len(places)} places mention several of these words close together. "
                        f"The best is in {places[0].file}; I read around it.")
        quotes = named + [quote for place in places[:MOST_QUOTES] if (quote := self._quote(place))]
        self._say(self._compose(overview, quotes))
        self._run.publish(agent_completed=event_pb2.AgentCompleted(
            outcome=event_pb2.RUN_OUTCOME_SUCCESS,
            result=to_json({
                "files": overview["files"],
                "lines": overview["lines"],
                "words": {word: {"matches": m, "files": f} for word, (m, f) in self._counts.items()},
                "quoted": [f"{quote['file']}:{quote['line']}" for quote in quotes],
            })))

    def _read_named_files(self, question: str) -> list[dict]:
        """A file that the question names is read, and may turn out not to exist."""
        read = []
        for name in PATH.findall(question)[:2]:
            try:
                found = self._tool("read_lines", {"file": name, "first": 1, "last": QUOTE_LINES},
                                   lambda name=name: self._folder.read_lines(name, 1, QUOTE_LINES))
                read.append({**found, "line": 1})
            except ToolError:
                self._think(f"There is no {name}. I look for the words instead.")
        return read

    def _search(self, word: str) -> list[Match]:
        found: list[Match] = []

        def search() -> dict:
            summary, matches = self._folder.search_text(re.escape(stem(word)))
            found.extend(matches)
            self._counts[word] = (summary["matches"], summary["files"])
            return summary

        self._tool("search_text", {"pattern": stem(word)}, search)
        return found

    def _rank(self, matches: dict[str, list[Match]], question: str) -> list[Place]:
        """Places by the weight of the different words within reach; at most two of a file.

        A file that holds the question itself answers nothing.
        """
        asking = {m.file for found in matches.values() for m in found if question in m.text}
        total = max(1, len(self._folder.files))
        weight = {word: math.log(1 + total / (1 + len({m.file for m in found}))) for word, found in matches.items()}
        lines: dict[str, dict[int, set[str]]] = defaultdict(lambda: defaultdict(set))
        for word, found in matches.items():
            for match in found:
                lines[match.file][match.line].add(word)
        places = []
        for file, marked in lines.items():
            if file in asking:
                continue
            best = []
            for line, own in marked.items():
                near = set().union(*(marked.get(at, set()) for at in range(line - REACH, line + REACH + 1)))
                score = sum(weight[word] for word in near) + 0.5 * sum(weight[word] for word in own)
                best.append(Place(file, line, score))
            best.sort(key=lambda place: (-place.score, place.line))
            places.extend(apart(best)[:2])
        places.sort(key=lambda place: (-place.score, place.file, place.line))
        return places

    def _quote(self, place: Place) -> dict | None:
        first = max(1, place.line - 2)
        arguments = {"file": place.file, "first": first, "last": first + QUOTE_LINES - 1}
        try:
            read = self._tool("read_lines", arguments, lambda: self._folder.read_lines(**arguments))
            return {**read, "line": place.line}
        except ToolError:
            return None

    def _compose(self, overview: dict, quotes: list[dict]) -> str:
        parts = [f"I looked through {overview['files']:,} files with {overview['lines']:,} lines."]
        if not quotes:
            parts.append("None of them mentions what you asked about.")
        for number, quote in enumerate(quotes):
            lead = "The place that says most is" if number == 0 else "Also"
            width = len(str(quote["first_line"] + len(quote["lines"])))
            body = "\n".join(f"{quote['first_line'] + i:>{width}}  {line}" for i, line in enumerate(quote["lines"]))
            parts.append(f"{lead} `{quote['file']}:{quote['line']}`:")
            parts.append(f"```\n{body}\n```")
        if self._counts:
            parts.append("\n".join(f"- `{word}`: {matches:,} lines in {files:,} files"
                                   for word, (matches, files) in self._counts.items()))
        return "\n\n".join(parts)

    # --- Publishing ---

    def _think(self, text: str) -> None:
        message_id = f"thought-{self._run.run_id}-{self._next()}"
        for piece, last in pieces(text, words_each=4):
            self._pause()
            self._run.publish(agent_thinking=event_pb2.AgentThinking(
                message_id=message_id, delta=piece, is_final=last))

    def _say(self, text: str) -> None:
        message_id = f"answer-{self._run.run_id}"
        for piece, last in pieces(text, words_each=3):
            self._pause()
            self._run.publish(agent_message_delta=event_pb2.AgentMessageDelta(
                message_id=message_id, role="assistant", delta=piece, is_final=last))

    def _tool(self, name: str, arguments: dict, work) -> dict:
        """Runs a tool between its two events. Its failure is published, then raised."""
        call_id = f"call-{self._run.run_id}-{self._next()}"
        self._pause()
        self._run.publish(tool_executing=event_pb2.ToolExecuting(
            tool_call_id=call_id, tool_name=name, arguments=to_json(arguments)))
        begin = time.monotonic()
        done = event_pb2.ToolCompleted(tool_call_id=call_id, tool_name=name)
        try:
            result = work()
        except ToolError as error:
            done.status = event_pb2.TOOL_STATUS_FAILED
            done.error_type, done.message = error.error_type, str(error)
            raise
        else:
            done.status = event_pb2.TOOL_STATUS_SUCCEEDED
            done.result = to_json(result)
            return result
        finally:
            if done.status != event_pb2.TOOL_STATUS_UNSPECIFIED:
                done.duration_ms = round((time.monotonic() - begin) * 1000)
                self._run.publish(tool_completed=done)

    def _fail(self, error_type: str, message: str, user_message: str, action: str) -> None:
        self._run.publish(agent_error=event_pb2.AgentError(
            error_type=error_type,
            failure=event_pb2.FailureInfo(message=message, user_message=user_message, suggested_action=action,
                                          is_recoverable=False, retry_possible=True)))

    def _next(self) -> int:
        self._serial += 1
        return self._serial

    def _pause(self) -> None:
        if self._pace > 0:
            time.sleep(self._pace)


def keywords(question: str) -> list[str]:
    """The question's words that are worth searching for, in order, without repeats."""
    words = [word.lower() for word in re.findall(r"[A-Za-z_][\w]{2,}", PATH.sub(" ", question))]
    kept = [word for word in dict.fromkeys(words) if word not in STOP_WORDS]
    return kept[:MOST_WORDS]


def stem(word: str) -> str:
    """What the forms of a word have in common, roughly: accepted and accepts as accept."""
    for ending in ("ing", "ed", "es", "s"):
        if word.endswith(ending) and len(word) - len(ending) >= 4:
            return word[: -len(ending)]
    return word


def apart(places: list[Place]) -> list[Place]:
    """Leaves out places that would quote the same lines again."""
    kept: list[Place] = []
    for place in places:
        if all(abs(place.line - other.line) > QUOTE_LINES for other in kept):
            kept.append(place)
        if len(kept) == 2:
            break
    return kept


def pieces(text: str, words_each: int):
    """Cuts text as a model would stream it: (piece, is it the last?). Joined, the text again."""
    tokens = re.findall(r"\s*\S+|\s+$", text)
    groups = ["".join(tokens[i:i + words_each]) for i in range(0, len(tokens), words_each)] or [""]
    for index, group in enumerate(groups):
        yield group, index == len(groups) - 1


def listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1] if words else ""
