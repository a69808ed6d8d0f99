#include "service/ctl/publish_stream.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "grpc/grpc.h"
#include "proto/base/text.h"
#include "proto/contract/error.h"
#include "service/ctl/publish_result.h"
#include "telemetry/runtime/thread_scheduler.h"

namespace clarion::ctl {
namespace {

using Clock = std::chrono::steady_clock;

// The service's bounds on a batch.
constexpr size_t kBatchEvents = 1024;
constexpr size_t kBatchBytes = 1024 * 1024;
// What gRPC takes, at either end, unless it is told otherwise.
constexpr size_t kMessageBytes = GRPC_DEFAULT_MAX_RECV_MESSAGE_LENGTH;
// Tags and lengths around an event, and around a `resumes` for it.
constexpr size_t kEventOverhead = 32;

constexpr auto kFirstPause = std::chrono::milliseconds(50);
constexpr auto kLongestPause = std::chrono::milliseconds(2000);
// How long a service may take to end a call whose every event it answered.
constexpr auto kFinishWait = std::chrono::milliseconds(1000);

// In a request, at most.
size_t BytesOf(const v1::Event& event) {
  return event.ByteSizeLong() + event.thread_id().size() + event.event_id().size() + kEventOverhead;
}

std::chrono::milliseconds MillisOf(const google::protobuf::Duration& duration) {
  return std::chrono::milliseconds(duration.seconds() * 1000 + duration.nanos() / 1'000'000);
}

// The same call may succeed the next time.
bool WorthRepeating(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable ||
         status.code() == absl::StatusCode::kCancelled ||
         status.code() == absl::StatusCode::kDeadlineExceeded ||
         status.code() == absl::StatusCode::kAborted;
}

// The call failed for something in the batch.
bool AboutTheBatch(const absl::Status& status) {
  return status.code() == absl::StatusCode::kInvalidArgument ||
         status.code() == absl::StatusCode::kResourceExhausted;
}

}  // namespace

absl::Status CheckFits(const v1::Event& event) {
  const size_t bytes = BytesOf(event);
  if (bytes <= kMessageBytes) return absl::OkStatus();
  return MakeError(Reason::kBufferOverflow,
                   Concat("the event takes ", bytes, " bytes, and a gRPC message holds ",
                          kMessageBytes, " at most"));
}

struct PublishSession::Stream {
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReaderWriter<v1::PublishStreamRequest, v1::PublishStreamResponse>>
      call;
};

PublishSession::PublishSession(Client::Stub& stub, std::chrono::milliseconds give_up)
    : stub_(stub), give_up_(give_up), scheduler_(MakeThreadScheduler()) {}

PublishSession::~PublishSession() {
  if (stream_ == nullptr) return;
  give_up_at_ = Clock::now() + std::min(give_up_, kFinishWait);
  Arm();
  stream_->call->WritesDone();
  (void)stream_->call->Finish();  // every event has its result already
  Disarm();
  scheduler_.reset();  // before the stream that its task may be using
}

void PublishSession::Arm() {
  timer_ = scheduler_->After(give_up_at_ - Clock::now(),
                             [stream = stream_.get()] { stream->context.TryCancel(); });
}

void PublishSession::Settle(const Waiting& waiting, const v1::PublishResult& result, Round* round,
                            const Report& report) {
  if (!result.has_refused() || !result.refused().retryable()) {
    ++round->settled;
    return report(waiting.index, result);
  }
  const v1::Refusal& refusal = result.refused();
  // ABORTED: stopped by an event before it, which is the one to name.
  const bool stopped = refusal.code() != static_cast<int>(absl::StatusCode::kAborted);
  round->again.push_back({waiting.index, waiting.event, stopped || waiting.stopped_its_thread});
  round->pause = std::max(round->pause, MillisOf(refusal.retry_after()));
  if (stopped) round->last_refusal = result;
}

// Writes, and reads until every event has an answer. False: the stream broke before.
bool PublishSession::Exchange(const v1::PublishStreamRequest& request,
                              const std::vector<Waiting>& waiting, size_t* answered, Round* round,
                              const Report& report) {
  if (!stream_->call->Write(request)) return false;
  v1::PublishStreamResponse response;
  while (*answered < waiting.size()) {
    if (!stream_->call->Read(&response)) return false;
    const size_t settled = round->settled;
    for (const v1::PublishResult& result : response.results()) {
      if (*answered < waiting.size()) Settle(waiting[(*answered)++], result, round, report);
    }
    if (round->settled == settled) continue;
    give_up_at_ = Clock::now() + give_up_;
    if (!Disarm()) return false;
    Arm();
  }
  return true;
}

PublishSession::Round PublishSession::Send(const std::vector<Waiting>& waiting,
                                           const Report& report) {
  Round round;
  const bool fresh = stream_ == nullptr;
  if (fresh) stream_ = std::make_unique<Stream>();
  // Making the call waits for the connection, too.
  Arm();
  if (fresh) stream_->call = stub_.PublishStream(&stream_->context);
  v1::PublishStreamRequest request;
  for (const Waiting& one : waiting) {
    *request.add_events()->mutable_event() = *one.event;
    // A new stream stops no thread.
    if (fresh || !one.stopped_its_thread) continue;
    v1::Resume* resume = request.add_resumes();
    resume->set_thread_id(one.event->thread_id());
    resume->set_event_id(one.event->event_id());
  }
  size_t answered = 0;
  const bool whole = Exchange(request, waiting, &answered, &round, report);
  const bool timed_out = !Disarm();
  if (whole && !timed_out) return round;

  // What has no answer is sent again on another stream.
  round.again.insert(round.again.end(), waiting.begin() + static_cast<std::ptrdiff_t>(answered),
                     waiting.end());
  round.status = FromGrpc(stream_->call->Finish());
  if (timed_out) round.status = absl::DeadlineExceededError("no answer in time");
  if (round.status.ok()) round.status = absl::UnavailableError("the stream ended");
  scheduler_ = MakeThreadScheduler();  // waits for a task that is using the stream
  stream_.reset();
  return round;
}

absl::Status PublishSession::Publish(const std::vector<v1::Event>& events, const Report& report) {
  std::vector<Waiting> batch;
  size_t bytes = 0;
  for (size_t i = 0; i < events.size(); ++i) {
    const size_t more = BytesOf(events[i]);
    if (!batch.empty() && (batch.size() == kBatchEvents || bytes + more > kBatchBytes)) {
      auto status = Publish(std::exchange(batch, {}), report);
      if (!status.ok()) return status;
      bytes = 0;
    }
    batch.push_back({i, &events[i]});
    bytes += more;
  }
  return Publish(std::move(batch), report);
}

absl::Status PublishSession::Publish(std::vector<Waiting> waiting, const Report& report) {
  give_up_at_ = Clock::now() + give_up_;
  auto pause = kFirstPause;
  while (!waiting.empty()) {
    Round round = Send(waiting, report);
    if (round.again.empty()) return absl::OkStatus();
    if (AboutTheBatch(round.status)) return PublishOneByOne(round.again, round.status, report);
    if (!round.status.ok() && !WorthRepeating(round.status)) return round.status;
    if (round.settled > 0) pause = kFirstPause;
    const auto wait = std::max(pause, round.pause);
    if (Clock::now() + wait >= give_up_at_) {
      if (!round.status.ok()) return round.status;
      // Each event gets its result all the same: the first its own, the others that they were
      // stopped.
      for (const Waiting& one : round.again) {
        v1::PublishResult result = round.last_refusal;
        result.set_event_id(one.event->event_id());
        result.set_thread_id(one.event->thread_id());
        report(one.index, result);
      }
      return absl::OkStatus();
    }
    std::this_thread::sleep_for(wait);
    pause = std::min(pause * 2, kLongestPause);
    waiting = std::move(round.again);
  }
  return absl::OkStatus();
}

// One event must not take the others with it.
absl::Status PublishSession::PublishOneByOne(const std::vector<Waiting>& waiting,
                                             const absl::Status& why, const Report& report) {
  if (waiting.size() == 1) {
    const v1::Event& event = *waiting.front().event;
    report(waiting.front().index, RefusedResult(event.event_id(), event.thread_id(), why));
    return absl::OkStatus();
  }
  for (const Waiting& one : waiting) {
    if (auto status = Publish({one}, report); !status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace clarion::ctl
