#!/usr/bin/python3
"""A sample agent: searches a folder's files for the answer to a question, and publishes a run.

  sample_agent.py --user demo --thread my-thread --folder . --question "Where is retention decided?"
  sample_agent.py --user demo --folder . --serve

With --serve it waits for a browser of the user, answers a few questions about the folder while one is
connected, and every question that is typed on its standard input.
"""

from __future__ import annotations

import argparse
import queue
import secrets
import signal
import sys
import threading
import time

import stubs

stubs.load()

import grpc  # noqa: E402

import agent  # noqa: E402
from clarion.v1 import event_service_pb2  # noqa: E402
from publisher import Clarion, details  # noqa: E402

QUESTIONS = (
    "How is an event accepted before it is committed to the log?",
    "What does a browser do to resume after a lost connection?",
    "What does docs/retention.md say about expired events?",
    "Which error reasons tell the caller to retry?",
)
RUNS_PER_THREAD = 4
RECONNECT_SECONDS = 1.0


def main() -> int:
    options = parse()
    stop_on_signals()
    clarion = Clarion(options.service)
    try:
        if options.serve:
            serve(clarion, options)
        else:
            thread = options.thread or new_thread()
            print(f"thread {thread}", flush=True)
            ask(clarion, options, thread, options.question)
    except KeyboardInterrupt:
        return 130
    except grpc.RpcError as error:
        reason = details(error)["reason"] or error.code().name
        print(f"sample_agent: {reason}: {error.details()}", file=sys.stderr)
        return 1
    finally:
        clarion.close()
    return 0


def stop_on_signals() -> None:
    """The first one interrupts; those that follow do not disturb the leaving."""
    numbers = (signal.SIGINT, signal.SIGTERM)

    def interrupt(_number, _frame):
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, interrupt)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--service", default="127.0.0.1:7700", help="EventService of clarion (%(default)s)")
    parser.add_argument("--user", default="demo", help="whose thread it is (%(default)s)")
    parser.add_argument("--thread", help="the thread; default: a new one")
    parser.add_argument("--folder", default=".", help="where to search (%(default)s)")
    parser.add_argument("--pace", type=float, default=0.04, help="seconds between pieces of text (%(default)s)")
    parser.add_argument("--ready-timeout", type=float, default=10.0,
                        help="seconds to wait for a browser before a run starts without one (%(default)s)")
    parser.add_argument("--interval", type=float, default=30.0,
                        help="with --serve: seconds between its own questions (%(default)s)")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--question", help="answer this and exit")
    what.add_argument("--serve", action="store_true", help="answer questions until stopped")
    return parser.parse_args()


def ask(clarion: Clarion, options: argparse.Namespace, thread: str, question: str) -> None:
    run = clarion.start_run(user=options.user, thread=thread, agent=agent.NAME,
                            run_input={"question": question}, ready_seconds=options.ready_timeout)
    print(f"run {run.run_id}: {question}", flush=True)
    agent.Agent(run, options.folder, options.pace).answer(question)


def serve(clarion: Clarion, options: argparse.Namespace) -> None:
    presence = Presence(clarion, options.user)
    typed: queue.Queue[str] = queue.Queue()
    threading.Thread(target=read_questions, args=(typed,), daemon=True).start()
    thread, runs = new_thread(), 0
    while True:
        if runs > 0:
            question = next_question(typed, options.interval, presence)
        else:
            presence.wait()
            question = None
        if runs > 0 and runs % RUNS_PER_THREAD == 0:
            thread = new_thread()
        ask(clarion, options, thread, question or QUESTIONS[runs % len(QUESTIONS)])
        runs += 1


def next_question(typed: queue.Queue, interval: float, presence: "Presence") -> str | None:
    """What somebody typed, or None when it is time for one of our own and somebody is there."""
    try:
        return typed.get(timeout=interval)
    except queue.Empty:
        pass
    while not presence.here():
        try:
            return typed.get(timeout=1.0)
        except queue.Empty:
            continue
    return None


def read_questions(typed: queue.Queue) -> None:
    for line in sys.stdin:
        if line.strip():
            typed.put(line.strip())


def new_thread() -> str:
    return f"thread-{secrets.token_hex(8)}"


class Presence:
    """Whether a browser of the user is connected, as WatchConnections tells."""

    def __init__(self, clarion: Clarion, user: str):
        self._clarion = clarion
        self._user = user
        self._changed = threading.Condition()
        self._connected: set[str] = set()
        threading.Thread(target=self._watch, daemon=True).start()

    def here(self) -> bool:
        with self._changed:
            return bool(self._connected)

    def wait(self) -> None:
        with self._changed:
            # With a limit, so that signals are handled meanwhile.
            while not self._connected:
                self._changed.wait(1.0)

    def _watch(self) -> None:
        request = event_service_pb2.WatchConnectionsRequest(user_id=self._user)
        while True:
            try:
                for change in self._clarion.events.WatchConnections(request):
                    self._apply(change.connection)
            except (grpc.RpcError, ValueError):  # ValueError: the channel was closed, we are leaving
                pass
            with self._changed:
                self._connected.clear()
            time.sleep(RECONNECT_SECONDS)

    def _apply(self, connection) -> None:
        with self._changed:
            if connection.state == event_service_pb2.CONNECTION_STATE_CONNECTED:
                self._connected.add(connection.connection_id)
            else:
                self._connected.discard(connection.connection_id)
            self._changed.notify_all()


if __name__ == "__main__":
    sys.exit(main())
