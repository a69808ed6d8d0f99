#include "gateway/connection/browser_api.h"

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "absl/time/time.h"
#include "boost/asio/post.hpp"
#include "boost/json/array.hpp"
#include "boost/json/object.hpp"
#include "boost/json/serialize.hpp"
#include "gateway/connection/event_stream.h"
#include "gateway/connection/page_request.h"
#include "gateway/connection/poll.h"
#include "proto/base/text.h"
#include "proto/contract/error.h"
#include "telemetry/log.h"

namespace clarion::gateway {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
namespace json = boost::json;
using Done = std::function<void(HttpResponse)>;
using Kind = ApiRequest::Kind;

constexpr uint32_t kUsualEvents = 100;
constexpr uint32_t kMaxPageBytes = 1024 * 1024;
constexpr std::string_view kClient = "http";

http::status StatusOf(Reason reason) {
  switch (reason) {
    case Reason::kNotFound:
    case Reason::kThreadOwnership:
      return http::status::not_found;
    case Reason::kContextInvalid:
      return http::status::bad_request;
    case Reason::kUnauthenticated:
      return http::status::unauthorized;
    case Reason::kPermissionDenied:
      return http::status::forbidden;
    case Reason::kRateLimited:
      return http::status::too_many_requests;
    default:
      return RowOf(reason).retry == Retry::kLater ? http::status::service_unavailable
                                                  : http::status::internal_server_error;
  }
}

HttpResponse Failure(const absl::Status& status) {
  const Reason reason = ReasonOf(status).value_or(Reason::kGatewayUnavailable);
  CountFailure(NameOf(reason));
  HttpResponse response = Responder::Error(StatusOf(reason), reason, ToStd(status.message()));
  if (RowOf(reason).retry == Retry::kLater) {
    const auto delay = RetryAfterOf(status).value_or(std::chrono::seconds(1));
    response.set(http::field::retry_after, std::to_string((delay.count() + 999) / 1000));
  }
  return response;
}

HttpResponse BadRequest(std::string_view problem) {
  return Responder::Error(http::status::bad_request, Reason::kContextInvalid, problem);
}

json::string_view Json(std::string_view text) {
  return {text.data(), text.size()};
}

json::object ToJson(const v1::Position& position) {
  return {{"epoch", position.epoch()}, {"offset", position.offset()}};
}

// As GET /v1/threads has it: stream.proto's rules for names and times.
json::object ToJson(const v1::ThreadSummary& thread) {
  json::object out{{"thread_id", thread.thread_id()},
                   {"last", ToJson(thread.last())},
                   {"floor", thread.floor()},
                   {"acknowledged", thread.acknowledged()},
                   {"pending_events", thread.pending_events()},
                   {"expired_events", thread.expired_events()}};
  if (thread.has_last_event_at()) {
    const absl::Time at = absl::FromUnixSeconds(thread.last_event_at().seconds()) +
                          absl::Nanoseconds(thread.last_event_at().nanos());
    out["last_event_at"] = absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", at, absl::UTCTimeZone());
  }
  json::array runs;
  for (const v1::ActiveRun& run : thread.active_runs()) {
    runs.push_back(
        {{"run_id", run.run_id()}, {"agent_name", run.agent_name()}, {"offset", run.offset()}});
  }
  out["active_runs"] = std::move(runs);
  return out;
}

// Of a page that was asked for by its thread's owner.
HttpResponse ToResponse(const ApiRequest& request, const link::Page& page) {
  const std::string& thread_id = request.thread_id;
  std::string missed;
  for (const v1::Missed& range : page.missed) {
    missed += Frames::OfMessage(Encoding::kList, MissedFrame(thread_id, range))->bytes();
  }
  std::string events;
  Position next = page.last;
  // There is nothing before: what follows the page begins there.
  if (request.before > 0) next.offset = std::min(next.offset, Offset(request.before - 1));
  for (const link::Live& run : page.runs) {
    events += Frames::OfEvents(Encoding::kList, run.first, run.events)->bytes();
    next = {run.epoch, run.last()};
  }
  if (!missed.empty()) missed.pop_back();  // the comma behind the last
  if (!events.empty()) events.pop_back();
  const auto quoted = [](std::string_view text) { return json::serialize(Json(text)); };
  v1::Position last;
  last.set_epoch(page.last.epoch.str());
  last.set_offset(page.last.offset.value());
  const std::string after = Concat(next.epoch.str(), ":", std::to_string(next.offset.value()));
  return Responder::Json(
      http::status::ok,
      Concat(R"({"thread_id":)", quoted(thread_id), R"(,"missed":[)", missed, R"(],"events":[)",
             events, R"(],"last":)", json::serialize(ToJson(last)), R"(,"next":)",
             next.epoch.str().empty() ? "null" : quoted(after), "}"));
}

// One answer, and nothing to clean up.
class OneAnswer : public Api::Question, public std::enable_shared_from_this<OneAnswer> {
 public:
  // `share`: of what the user may ask at a time; may be null.
  explicit OneAnswer(Done done, std::unique_ptr<UserLimit::Share> share = nullptr)
      : done_(std::move(done)), share_(std::move(share)) {}
  void Written(bool) override {}
  void Answer(HttpResponse response) {
    if (done_) std::exchange(done_, nullptr)(std::move(response));
  }

 private:
  Done done_;
  const std::unique_ptr<UserLimit::Share> share_;
};

// A page of a thread, and a wait for it to have something.
class EventsQuestion final : public OneAnswer {
 public:
  EventsQuestion(ConnectionContext& context, link::Link& link, ApiRequest request, UserId user,
                 Done done, std::unique_ptr<UserLimit::Share> share)
      : OneAnswer(std::move(done), std::move(share)),
        context_(context),
        link_(link),
        request_(std::move(request)),
        user_(std::move(user)) {}
  ~EventsQuestion() override {
    if (waiting_ != nullptr) waiting_->Written(false);
  }

  void Read() {
    v1::ReadPageRequest read;
    read.set_thread_id(request_.thread_id);
    read.set_user_id(user_.str());
    if (request_.after) *read.mutable_after() = *request_.after;
    read.set_before_offset(request_.before);
    read.set_last_runs(request_.last_runs);
    read.set_max_events(request_.limit == 0 ? kUsualEvents : request_.limit);
    read.set_max_bytes(kMaxPageBytes);
    read.set_want_json(true);
    read.set_compact(!request_.full);
    link_.ReadPage(std::move(read), [weak = weak_from_this()](absl::StatusOr<link::Page> page) {
      const auto self = std::static_pointer_cast<EventsQuestion>(weak.lock());
      if (self != nullptr) self->OnPage(std::move(page));
    });
  }

 private:
  void OnPage(absl::StatusOr<link::Page> page) {
    if (!page.ok()) return Answer(Failure(page.status()));
    const bool nothing = page->runs.empty() && page->missed.empty();
    const bool waits = request_.wait && *request_.wait > std::chrono::milliseconds::zero();
    if (!nothing || !waits) return Answer(ToResponse(request_, *page));
    Wait(page->last);
  }

  // As a connection that polls: it hears of the next event.
  void Wait(const Position& last) {
    Poll::Request poll;
    poll.token = request_.token;
    poll.page.wait = std::exchange(request_.wait, std::nullopt);
    v1::ThreadPosition& at = poll.page.positions.emplace_back();
    at.set_thread_id(request_.thread_id);
    at.set_epoch(last.epoch.str());
    at.set_offset(last.offset.value());
    waiting_ = Poll::StartQuiet(
        context_, std::move(poll), [weak = weak_from_this()](HttpResponse response) {
          const auto self = std::static_pointer_cast<EventsQuestion>(weak.lock());
          if (self != nullptr) self->OnWaited(std::move(response));
        });
  }

  void OnWaited(HttpResponse response) {
    waiting_->Written(false);
    if (response.result() != http::status::ok) return Answer(std::move(response));
    Read();
  }

  ConnectionContext& context_;
  link::Link& link_;
  ApiRequest request_;
  const UserId user_;
  std::shared_ptr<Poll> waiting_;
};

v1::AskRequest ListQuestion(const ApiRequest& request, const UserId& user) {
  v1::AskRequest ask;
  ask.mutable_list_threads()->set_user_id(user.str());
  ask.mutable_list_threads()->set_page_size(request.limit);
  ask.mutable_list_threads()->set_page_token(request.page_token);
  return ask;
}

HttpResponse ToResponse(const v1::ListThreadsResponse& answer) {
  json::array threads;
  for (const v1::ThreadSummary& thread : answer.threads()) threads.push_back(ToJson(thread));
  json::object out{{"threads", std::move(threads)}};
  if (!answer.next_page_token().empty()) out["next_page_token"] = answer.next_page_token();
  return Responder::Json(http::status::ok, json::serialize(out));
}

HttpResponse ToResponse(const absl::StatusOr<v1::AskResponse>& answer) {
  if (!answer.ok()) return Failure(answer.status());
  if (answer->has_list_threads()) return ToResponse(answer->list_threads());
  const json::object out{{"next_sequence", answer->pass_frames().next_sequence()}};
  return Responder::Json(http::status::ok, json::serialize(out));
}

}  // namespace

void BrowserApi::Stream(ApiRequest request, Socket socket, std::function<void()> on_end) {
  EventStream::Request stream{.token = std::move(request.token),
                              .draining = draining_,
                              .allow_origin = std::move(request.allow_origin)};
  if (request.kind == Kind::kStream) {
    stream.problem = ParsePageRequest(PageRequestKind::kStream, request.body, stream.page);
  } else {
    ClientMessage connect{.verdict = ClientMessage::Verdict::kValid};
    connect.frame.mutable_connect()->set_protocol(kProtocol);
    connect.frame.mutable_connect()->set_client(std::string(kClient));
    ClientMessage subscribe;
    v1::Subscribe& wanted = *subscribe.frame.mutable_subscribe();
    wanted.set_thread_id(request.thread_id);
    wanted.set_from(request.from);
    wanted.set_history(request.full ? v1::HISTORY_FULL : v1::HISTORY_COMPACTED);
    if (request.after) *wanted.mutable_after() = *request.after;
    subscribe.verdict = ClientMessage::Verdict::kValid;
    subscribe = Checked(std::move(subscribe));
    if (subscribe.verdict != ClientMessage::Verdict::kValid) stream.problem = subscribe.problem;
    stream.page.messages = {std::move(connect), std::move(subscribe)};
    if (stream.token.empty()) stream.page.messages.clear();  // the header alone has one
  }
  EventStream::Start(context_, std::move(socket), std::move(stream), std::move(on_end));
}

std::shared_ptr<Api::Question> BrowserApi::Ask(ApiRequest request, Done done) {
  if (draining_) {
    const CloseRow& row = RowOf(CloseCode::kGoingAway);
    return AnswerSoon(std::move(done),
                      Responder::ErrorByRow(row, "the gateway stops", row.retry_after_ms));
  }
  if (request.kind == Kind::kPoll) {
    Poll::Request poll{.token = std::move(request.token)};
    const std::string problem = ParsePageRequest(PageRequestKind::kPoll, request.body, poll.page);
    if (!problem.empty()) return AnswerSoon(std::move(done), BadRequest(problem));
    return Poll::Start(context_, std::move(poll), std::move(done));
  }
  const auto token = context_.verifier.Verify(request.token, std::chrono::system_clock::now());
  if (!token.ok()) {
    return AnswerSoon(std::move(done), Responder::ErrorByRow(RowOf(CloseCode::kUnauthenticated),
                                                             ToStd(token.status().message()), 0));
  }
  if (!context_.question_limit.TryAcquire(token->user)) {
    return AnswerSoon(std::move(done), Failure(MakeError(Reason::kRateLimited,
                                                         "the user has --max-questions-per-user "
                                                         "requests under way",
                                                         {.user_id = token->user.str()})));
  }
  auto share = std::make_unique<UserLimit::Share>(context_.question_limit, token->user);
  if (request.kind == Kind::kEvents) {
    // An older one would give the page to anybody.
    if (!context_.hub->ServesUserPages()) {
      return AnswerSoon(std::move(done),
                        Failure(MakeError(Reason::kGatewayUnavailable,
                                          "no service is attached that serves pages of threads")));
    }
    auto question = std::make_shared<EventsQuestion>(
        context_, link_, std::move(request), token->user, std::move(done), std::move(share));
    question->Read();
    return question;
  }
  v1::AskRequest ask;
  if (request.kind == Kind::kThreads) {
    ask = ListQuestion(request, token->user);
  } else {
    PageRequest page;
    const std::string problem = ParsePageRequest(PageRequestKind::kPass, request.body, page);
    if (!problem.empty()) return AnswerSoon(std::move(done), BadRequest(problem));
    v1::PassFrames& pass = *ask.mutable_pass_frames();
    pass.set_connection_id(request.connection_id);
    pass.set_user_id(token->user.str());
    pass.set_sequence(page.sequence);
    pass.set_frames(std::move(request.body));
  }
  auto question = std::make_shared<OneAnswer>(std::move(done), std::move(share));
  link_.Ask(std::move(ask),
            [weak = std::weak_ptr(question)](const absl::StatusOr<v1::AskResponse>& answer) {
              if (const auto asked = weak.lock()) asked->Answer(ToResponse(answer));
            });
  return question;
}

std::shared_ptr<Api::Question> BrowserApi::AnswerSoon(Done done, HttpResponse response) {
  auto question = std::make_shared<OneAnswer>(std::move(done));
  asio::post(context_.loop, [question, response = std::move(response)]() mutable {
    question->Answer(std::move(response));
  });
  return question;
}

}  // namespace clarion::gateway
