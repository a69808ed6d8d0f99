#!/usr/bin/python3
"""A backend written by somebody else: Debian's python3-grpcio and stubs generated from our protos.

  py_client.py --service ADDRESS publish --user U --thread T --run R --first 1 --count 100
  py_client.py --service ADDRESS list --thread T       the log, one JSON line for each event
  py_client.py --service ADDRESS start-run --user U --thread T
  py_client.py --service ADDRESS check                 its own tests

CLARION_STUBS names the directory that holds the generated `clarion` package.
"""

import argparse
import json
import os
import secrets
import sys

sys.path.insert(0, os.environ["CLARION_STUBS"])

import grpc  # noqa: E402
from google.protobuf.duration_pb2 import Duration  # noqa: E402

from clarion.v1 import error_details_pb2, event_pb2, position_pb2  # noqa: E402
from clarion.v1 import event_service_pb2 as api  # noqa: E402
from clarion.v1.event_service_pb2_grpc import EventServiceStub  # noqa: E402

SECONDS = 20


def message(user, thread, run, number, text=None, final=False):
    return event_pb2.Event(
        event_id=f"{run}-{number}", user_id=user, thread_id=thread, run_id=run, agent_name="outsider",
        agent_message_delta=event_pb2.AgentMessageDelta(
            message_id=f"{run}-m", role="assistant", delta=text or f"word {number} ", is_final=final))


def started(user, thread, run):
    return event_pb2.Event(event_id=f"{run}-started", user_id=user, thread_id=thread, run_id=run,
                           agent_name="outsider", agent_started=event_pb2.AgentStarted())


def completed(user, thread, run):
    return event_pb2.Event(event_id=f"{run}-completed", user_id=user, thread_id=thread, run_id=run,
                           agent_name="outsider",
                           agent_completed=event_pb2.AgentCompleted(outcome=event_pb2.RUN_OUTCOME_SUCCESS))


def publish(stub, event):
    return stub.Publish(api.PublishRequest(event=event), timeout=SECONDS)


def say(**fields):
    print(json.dumps(fields), flush=True)


def publish_command(stub, options):
    events = [message(options.user, options.thread, options.run, number, options.text)
              for number in range(options.first, options.first + options.count)]
    if options.start:
        events.insert(0, started(options.user, options.thread, options.run))
    if options.complete:
        events.append(completed(options.user, options.thread, options.run))
    for event in events:
        answer = publish(stub, event)
        say(event_id=event.event_id, offset=answer.offset, epoch=answer.epoch, duplicate=answer.duplicate,
            disposition=api.Disposition.Name(answer.disposition), subscriptions=answer.subscriptions)


def list_command(stub, options):
    for event in whole_log(stub, options.thread):
        say(offset=event.offset, event_id=event.event_id, type=event.WhichOneof("payload"),
            delta=event.agent_message_delta.delta)


def start_run_command(stub, options):
    answer = stub.StartRun(api.StartRunRequest(
        request_id=secrets.token_hex(8), user_id=options.user, thread_id=options.thread, agent_name="outsider",
        min_readiness=api.READINESS_SUBSCRIBED, ready_timeout=Duration(seconds=10),
        if_not_ready=api.IF_NOT_READY_FAIL), timeout=SECONDS)
    say(run_id=answer.run_id, readiness=api.Readiness.Name(answer.readiness), offset=answer.started.offset,
        disposition=api.Disposition.Name(answer.started.disposition), subscriptions=answer.started.subscriptions)


def whole_log(stub, thread, page_size=7):
    """By pages, each after the last position of the one before."""
    events, after = [], None
    while True:
        page = stub.ListEvents(api.ListEventsRequest(thread_id=thread, after=after, page_size=page_size),
                               timeout=SECONDS)
        events.extend(page.events)
        if page.complete or not page.events:
            return events
        after = position_pb2.Position(epoch=page.last.epoch, offset=page.events[-1].offset)


# --- Its own tests ---

def refused(call, code, reason):
    """The error that `call` must fail with; answers the fields that a BadRequest names."""
    try:
        call()
    except grpc.RpcError as error:
        assert error.code() == code, f"{error.code()} instead of {code}: {error.details()}"
        info, fields = details(error)
        assert info.domain == "clarion", f"domain {info.domain!r}"
        assert info.reason == reason, f"{info.reason} instead of {reason}: {error.details()}"
        return fields
    raise AssertionError(f"{reason} was expected, but the call succeeded")


def details(error):
    packed = dict(error.trailing_metadata())["grpc-status-details-bin"]
    info, fields = error_details_pb2.ErrorInfo(), []
    for detail in error_details_pb2.RpcStatus.FromString(packed).details:
        if detail.type_url == "type.googleapis.com/google.rpc.ErrorInfo":
            info.ParseFromString(detail.value)
        elif detail.type_url == "type.googleapis.com/google.rpc.BadRequest":
            bad = error_details_pb2.BadRequest.FromString(detail.value)
            fields = [violation.field for violation in bad.field_violations]
    return info, fields


def new(kind):
    return f"{kind}-{secrets.token_hex(6)}"


def offsets_count_from_one_and_a_repeat_is_a_duplicate(stub):
    user, thread, run = new("user"), new("thread"), new("run")
    publish(stub, started(user, thread, run))
    first = publish(stub, message(user, thread, run, 1))
    again = publish(stub, message(user, thread, run, 1))
    assert (first.offset, first.duplicate) == (2, False), first
    assert (again.offset, again.duplicate, again.epoch) == (2, True, first.epoch), again
    assert first.disposition == api.DISPOSITION_QUEUED and first.queued_until.seconds > 0, first


def an_event_id_with_another_payload_is_refused(stub):
    user, thread, run = new("user"), new("thread"), new("run")
    publish(stub, started(user, thread, run))
    publish(stub, message(user, thread, run, 1))
    refused(lambda: publish(stub, message(user, thread, run, 1, text="something else")),
            grpc.StatusCode.INVALID_ARGUMENT, "CONTEXT_INVALID")


def missing_fields_are_named(stub):
    event = message(new("user"), new("thread"), new("run"), 1)
    event.thread_id = ""
    event.agent_message_delta.message_id = ""
    fields = refused(lambda: publish(stub, event), grpc.StatusCode.INVALID_ARGUMENT, "CONTEXT_INVALID")
    assert "event.thread_id" in fields and "event.agent_message_delta.message_id" in fields, fields


def a_value_that_nobody_knows_is_refused_rather_than_ignored(stub):
    request = api.StartRunRequest(request_id=new("request"), user_id=new("user"), thread_id=new("thread"),
                                  agent_name="tester", if_exists=99)
    fields = refused(lambda: stub.StartRun(request, timeout=SECONDS),
                     grpc.StatusCode.INVALID_ARGUMENT, "CONTEXT_INVALID")
    assert "if_exists" in fields, fields


def a_thread_belongs_to_one_user(stub):
    thread, run = new("thread"), new("run")
    owner = new("user")
    publish(stub, started(owner, thread, run))
    refused(lambda: publish(stub, message(new("stranger"), thread, run, 1)),
            grpc.StatusCode.PERMISSION_DENIED, "THREAD_OWNERSHIP")
    refused(lambda: stub.ListEvents(api.ListEventsRequest(thread_id=thread, user_id=new("stranger")),
                                    timeout=SECONDS),
            grpc.StatusCode.PERMISSION_DENIED, "THREAD_OWNERSHIP")


def a_stream_answers_every_event_in_order(stub):
    user, thread, run = new("user"), new("thread"), new("run")
    events = [started(user, thread, run)] + [message(user, thread, run, n) for n in range(1, 200)]
    batches = [events[at:at + 32] for at in range(0, len(events), 32)]
    requests = (api.PublishStreamRequest(events=[api.PublishRequest(event=e) for e in batch]) for batch in batches)
    results = [result for answer in stub.PublishStream(requests, timeout=SECONDS) for result in answer.results]
    assert [r.event_id for r in results] == [e.event_id for e in events], "results are not those of the events"
    assert [r.accepted.offset for r in results] == list(range(1, 201)), results
    assert [e.event_id for e in whole_log(stub, thread)] == [e.event_id for e in events]


def an_event_can_be_looked_up(stub):
    user, thread, run = new("user"), new("thread"), new("run")
    publish(stub, started(user, thread, run))
    found = stub.GetEvent(api.GetEventRequest(thread_id=thread, event_id=f"{run}-started"), timeout=SECONDS)
    assert found.event.offset == 1 and found.event.run_id == run and not found.acknowledged, found
    refused(lambda: stub.GetEvent(api.GetEventRequest(thread_id=thread, event_id="nobody"), timeout=SECONDS),
            grpc.StatusCode.NOT_FOUND, "NOT_FOUND")


def threads_are_listed_with_their_open_runs(stub):
    user, thread, run = new("user"), new("thread"), new("run")
    publish(stub, started(user, thread, run))
    listed = stub.ListThreads(api.ListThreadsRequest(user_id=user), timeout=SECONDS).threads
    assert [t.thread_id for t in listed] == [thread], listed
    assert listed[0].last.offset == 1 and [r.run_id for r in listed[0].active_runs] == [run], listed


def waiting_for_a_browser_that_never_comes_says_so(stub):
    request = api.AwaitReadyRequest(user_id=new("user"), thread_id=new("thread"),
                                    min_readiness=api.READINESS_SUBSCRIBED, timeout=Duration(nanos=50_000_000))
    refused(lambda: stub.AwaitReady(request, timeout=SECONDS), grpc.StatusCode.FAILED_PRECONDITION, "NOT_READY")


def starting_a_run_twice_with_one_request_id_starts_it_once(stub):
    user, thread = new("user"), new("thread")
    request = api.StartRunRequest(request_id=new("request"), user_id=user, thread_id=thread, agent_name="outsider")
    first = stub.StartRun(request, timeout=SECONDS)
    again = stub.StartRun(request, timeout=SECONDS)
    assert again.run_id == first.run_id and again.producer_token == first.producer_token, (first, again)
    assert [e.WhichOneof("payload") for e in whole_log(stub, thread)] == ["agent_started"]


def every_canary_arrives(stub):
    answer = stub.CheckWiring(api.CheckWiringRequest(), timeout=SECONDS)
    assert answer.ok and len(answer.canaries) >= 17, answer


TESTS = (
    offsets_count_from_one_and_a_repeat_is_a_duplicate,
    an_event_id_with_another_payload_is_refused,
    missing_fields_are_named,
    a_value_that_nobody_knows_is_refused_rather_than_ignored,
    a_thread_belongs_to_one_user,
    a_stream_answers_every_event_in_order,
    an_event_can_be_looked_up,
    threads_are_listed_with_their_open_runs,
    waiting_for_a_browser_that_never_comes_says_so,
    starting_a_run_twice_with_one_request_id_starts_it_once,
    every_canary_arrives,
)


def check_command(stub, _options):
    failed = []
    for test in TESTS:
        try:
            test(stub)
        except Exception as error:  # every test is told about, whatever it died of
            failed.append(test.__name__)
            print(f"FAIL  {test.__name__}: {type(error).__name__}: {error}", file=sys.stderr)
        else:
            say(passed=test.__name__)
    if failed:
        sys.exit(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--service", required=True)
    commands = parser.add_subparsers(required=True)
    publishing = commands.add_parser("publish")
    publishing.set_defaults(command=publish_command)
    publishing.add_argument("--user", required=True)
    publishing.add_argument("--thread", required=True)
    publishing.add_argument("--run", required=True)
    publishing.add_argument("--first", type=int, default=1)
    publishing.add_argument("--count", type=int, default=0)
    publishing.add_argument("--text")
    publishing.add_argument("--start", action="store_true", help="agent_started first")
    publishing.add_argument("--complete", action="store_true", help="agent_completed last")
    listing = commands.add_parser("list")
    listing.set_defaults(command=list_command)
    listing.add_argument("--thread", required=True)
    starting = commands.add_parser("start-run")
    starting.set_defaults(command=start_run_command)
    starting.add_argument("--user", required=True)
    starting.add_argument("--thread", required=True)
    checking = commands.add_parser("check")
    checking.set_defaults(command=check_command)
    options = parser.parse_args()
    with grpc.insecure_channel(options.service) as channel:
        options.command(EventServiceStub(channel), options)


if __name__ == "__main__":
    main()
