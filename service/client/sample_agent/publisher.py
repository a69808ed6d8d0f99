"""Publishes the events of runs, and does not give up while the service is away.

An event keeps its id when it is sent again, so a retry can never show it twice; the next event is
sent only after the one before was accepted, so a run stays in order.
"""

from __future__ import annotations

import json
import random
import secrets
import time

import grpc
from google.protobuf.duration_pb2 import Duration

from clarion.v1 import error_details_pb2, event_pb2, event_service_pb2, event_service_pb2_grpc

# CANCELLED: the call met the service just as it stopped.
RETRYABLE = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
BACKOFF_BASE_SECONDS = 0.1
BACKOFF_CAP_SECONDS = 1.0
GIVE_UP_AFTER_SECONDS = 300.0
# For a last word while leaving.
LEAVE_AFTER_SECONDS = 2.0
CALL_SECONDS = 10.0
# What StartRun may take beyond the time it waits for a browser.
START_MARGIN_SECONDS = 10.0


def to_json(value) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Clarion:
    """A connection to one service. Safe to use from several threads."""

    def __init__(self, address: str):
        # A service that restarts should be found within a second, not after gRPC's two minutes.
        options = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]
        self._channel = grpc.insecure_channel(address, options)
        self.events = event_service_pb2_grpc.EventServiceStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def start_run(self, *, user: str, thread: str, agent: str, run_input, ready_seconds: float) -> "Run":
        """Waits until a browser of the user follows the thread, but starts without one when time is up."""
        request = event_service_pb2.StartRunRequest(
            request_id=f"request-{secrets.token_hex(12)}",
            user_id=user,
            thread_id=thread,
            agent_name=agent,
            input=to_json(run_input),
            min_readiness=event_service_pb2.READINESS_SUBSCRIBED,
            ready_timeout=Duration(nanos=int(ready_seconds * 1e9) % 10**9, seconds=int(ready_seconds)),
            if_not_ready=event_service_pb2.IF_NOT_READY_START,
            trace_context=event_pb2.TraceContext(
                traceparent=f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"),
        )
        response = call(self.events.StartRun, request, timeout=ready_seconds + START_MARGIN_SECONDS)
        return Run(self, request, response)


class Run:
    """One run and its events. For one thread."""

    def __init__(self, clarion: Clarion, request, response):
        self._clarion = clarion
        self._request = request
        self._token = response.producer_token
        self._count = 0
        self.run_id = response.run_id
        self.thread_id = request.thread_id
        # Somebody was there to see it begin.
        self.seen = response.readiness >= event_service_pb2.READINESS_SUBSCRIBED

    def publish(self, *, give_up_after: float = GIVE_UP_AFTER_SECONDS, **payload) -> None:
        """publish(agent_thinking=AgentThinking(...)): the payload under its name in event.proto."""
        self._count += 1
        event = event_pb2.Event(
            event_id=f"{self.run_id}-{self._count}",
            user_id=self._request.user_id,
            thread_id=self.thread_id,
            run_id=self.run_id,
            agent_name=self._request.agent_name,
            trace_context=self._request.trace_context,
            **payload,
        )
        event.occurred_at.GetCurrentTime()
        request = event_service_pb2.PublishRequest(event=event, producer_token=self._token)
        call(self._clarion.events.Publish, request, timeout=CALL_SECONDS, give_up_after=give_up_after)


def call(method, request, *, timeout: float, give_up_after: float = GIVE_UP_AFTER_SECONDS):
    """Calls again while the service cannot be reached: for requests that may be repeated."""
    give_up_at = time.monotonic() + give_up_after
    attempt = 0
    while True:
        try:
            # Waits for the connection rather than failing at once: gRPC then reconnects by itself.
            return method(request, timeout=timeout, wait_for_ready=True)
        except grpc.RpcError as error:
            if error.code() not in RETRYABLE or time.monotonic() > give_up_at:
                raise
            ceiling = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2**attempt)
            time.sleep(retry_delay(error) + random.uniform(0, ceiling))
            attempt += 1


def details(error: grpc.RpcError) -> dict:
    """The typed details of a refusal: {reason, metadata, violations, retry_delay (seconds)}."""
    found = {"reason": "", "metadata": {}, "violations": [], "retry_delay": 0.0}
    for key, value in error.trailing_metadata() or ():
        if key != "grpc-status-details-bin":
            continue
        for detail in error_details_pb2.RpcStatus.FromString(value).details:
            name = detail.type_url.rsplit(".", 1)[-1]
            if name == "ErrorInfo":
                info = error_details_pb2.ErrorInfo.FromString(detail.value)
                found["reason"], found["metadata"] = info.reason, dict(info.metadata)
            elif name == "BadRequest":
                bad = error_details_pb2.BadRequest.FromString(detail.value)
                found["violations"] = [(v.field, v.description) for v in bad.field_violations]
            elif name == "RetryInfo":
                delay = error_details_pb2.RetryInfo.FromString(detail.value).retry_delay
                found["retry_delay"] = delay.seconds + delay.nanos / 1e9
    return found


def retry_delay(error: grpc.RpcError) -> float:
    return details(error)["retry_delay"]
