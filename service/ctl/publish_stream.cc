#include "service/ctl/publish_stream.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "proto/contract/error.h"
#include "telemetry/runtime/thread_scheduler.h"

namespace clarion::ctl {
namespace {

constexpr auto kFirstPause = std::chrono::milliseconds(50);
constexpr auto kLongestPause = std::chrono::milliseconds(2000);

std::chrono::milliseconds MillisOf(const google::protobuf::Duration& duration) {
  return std::chrono::milliseconds(duration.seconds() * 1000 + duration.nanos() / 1'000'000);
}

// A call that nobody can serve differently the next time.
bool WorthRepeating(const absl::Status& status) {
  return status.code() == absl::StatusCode::kUnavailable ||
         status.code() == absl::StatusCode::kCancelled ||
         status.code() == absl::StatusCode::kDeadlineExceeded ||
         status.code() == absl::StatusCode::kAborted;
}

}  // namespace

struct PublishSession::Stream {
  grpc::ClientContext context;
  std::unique_ptr<grpc::ClientReaderWriter<v1::PublishStreamRequest, v1::PublishStreamResponse>>
      call;
};

PublishSession::PublishSession(Client::Stub& stub, std::chrono::milliseconds give_up)
    : stub_(stub), give_up_(give_up), scheduler_(MakeThreadScheduler()) {}

PublishSession::~PublishSession() {
  if (stream_ == nullptr) return;
  stream_->call->WritesDone();
  // A service that does not end the call does not hold us up.
  const auto timer = scheduler_->After(std::chrono::seconds(1),
                                       [stream = stream_.get()] { stream->context.TryCancel(); });
  (void)stream_->call->Finish();  // every event has its result already
  scheduler_->Cancel(timer);
  scheduler_.reset();  // before the stream that its task may be using
}

void PublishSession::Settle(const Waiting& waiting, const v1::PublishResult& result, Round* round,
                            const std::function<void(size_t, const v1::PublishResult&)>& report) {
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

PublishSession::Round PublishSession::Send(
    const std::vector<Waiting>& waiting,
    const std::function<void(size_t, const v1::PublishResult&)>& report) {
  Round round;
  const bool fresh = stream_ == nullptr;
  if (fresh) {
    stream_ = std::make_unique<Stream>();
    stream_->call = stub_.PublishStream(&stream_->context);
  }
  v1::PublishStreamRequest request;
  for (const Waiting& one : waiting) {
    *request.add_events()->mutable_event() = *one.event;
    // A new stream stops no thread.
    if (fresh || !one.stopped_its_thread) continue;
    v1::Resume* resume = request.add_resumes();
    resume->set_thread_id(one.event->thread_id());
    resume->set_event_id(one.event->event_id());
  }
  const auto timer =
      scheduler_->After(give_up_, [stream = stream_.get()] { stream->context.TryCancel(); });
  size_t answered = 0;
  bool alive = stream_->call->Write(request);
  for (v1::PublishStreamResponse response; alive && answered < waiting.size();) {
    alive = stream_->call->Read(&response);
    if (!alive) break;
    for (const v1::PublishResult& result : response.results()) {
      if (answered < waiting.size()) Settle(waiting[answered++], result, &round, report);
    }
  }
  const bool timed_out = !scheduler_->Cancel(timer);
  if (answered == waiting.size() && !timed_out) return round;

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

absl::Status PublishSession::Publish(
    const std::vector<v1::Event>& events,
    const std::function<void(size_t, const v1::PublishResult&)>& report) {
  std::vector<Waiting> waiting;
  waiting.reserve(events.size());
  for (size_t i = 0; i < events.size(); ++i) waiting.push_back({i, &events[i]});
  auto last_progress = std::chrono::steady_clock::now();
  auto pause = kFirstPause;
  while (!waiting.empty()) {
    Round round = Send(waiting, report);
    if (round.again.empty()) return absl::OkStatus();
    if (!round.status.ok() && !WorthRepeating(round.status)) return round.status;
    const auto now = std::chrono::steady_clock::now();
    if (round.settled > 0) {
      last_progress = now;
      pause = kFirstPause;
    }
    if (now - last_progress >= give_up_) {
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
    std::this_thread::sleep_for(std::clamp(round.pause, pause, kLongestPause));
    pause = std::min(pause * 2, kLongestPause);
    waiting = std::move(round.again);
  }
  return absl::OkStatus();
}

}  // namespace clarion::ctl
