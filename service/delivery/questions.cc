// What browsers ask for that is answered once.
#include <utility>

#include "proto/base/text.h"
#include "proto/contract/error.h"
#include "service/delivery/core.h"
#include "service/delivery/summaries.h"
#include "telemetry/log.h"

namespace clarion::delivery {
namespace {

bool IsUser(const std::string& id) {
  return ValidId(id) && id != kCanaryUser;
}

absl::Status Check(const v1::ListThreadsRequest& question) {
  std::vector<FieldViolation> faults;
  if (!IsUser(question.user_id())) faults.push_back({"list_threads.user_id", "must be a user"});
  if (question.page_size() > kMaxThreadPage) {
    faults.push_back({"list_threads.page_size", Concat("at most ", kMaxThreadPage)});
  }
  if (question.page_token().size() > kMaxThreadPageToken) {
    faults.push_back({"list_threads.page_token", "is no token of ours"});
  }
  return faults.empty() ? absl::OkStatus() : MakeBadRequest(faults);
}

absl::Status Check(const v1::PassFrames& question) {
  std::vector<FieldViolation> faults;
  if (!IsUser(question.user_id())) faults.push_back({"pass_frames.user_id", "must be a user"});
  if (question.sequence() == 0) faults.push_back({"pass_frames.sequence", "counts from 1"});
  return faults.empty() ? absl::OkStatus() : MakeBadRequest(faults);
}

v1::AskResponse AnswerOf(const log::ThreadPage& page) {
  v1::AskResponse response;
  v1::ListThreadsResponse& threads = *response.mutable_list_threads();
  for (const log::ThreadState& state : page.threads) {
    if (Visible(state)) *threads.add_threads() = SummaryOf(state);
  }
  threads.set_next_page_token(page.next_page_token);
  return response;
}

}  // namespace

void Core::Ask(v1::AskRequest request, link::AskCallback done) {
  const auto answer = [done = std::move(done)](absl::StatusOr<v1::AskResponse> answer) {
    if (answer.ok()) return done(std::move(answer));
    const absl::Status status = WithContext(answer.status(), {.operation = "Ask"});
    LogFailure(status);
    done(status);
  };
  bool stopped = false;
  {
    MutexLock lock(mutex_);
    stopped = stopped_;
  }
  if (stopped) return answer(Stopping());
  switch (request.question_case()) {
    case v1::AskRequest::kListThreads:
      return ListUserThreads(request.list_threads(), answer);
    case v1::AskRequest::kPassFrames:
      return PassFrames(std::move(*request.mutable_pass_frames()), answer);
    case v1::AskRequest::QUESTION_NOT_SET:
      return answer(MakeBadRequest({{"question", "is none that this service knows"}}));
  }
}

void Core::ListUserThreads(const v1::ListThreadsRequest& question, link::AskCallback done) {
  if (absl::Status status = Check(question); !status.ok()) return done(std::move(status));
  const UserId user(question.user_id());
  log_->ListThreads(user, question.page_token(), ThreadPageSize(question.page_size()),
                    [user, done = std::move(done)](absl::StatusOr<log::ThreadPage> page) {
                      if (page.ok()) return done(AnswerOf(*page));
                      done(WithContext(page.status(), {.user_id = user.str()}));
                    });
}

// The same answer for what is nobody's, somebody else's, gone and at rest.
void Core::PassFrames(v1::PassFrames question, link::AskCallback done) {
  Deferred after;
  if (absl::Status status = Check(question); !status.ok()) return done(std::move(status));
  const auto refuse = [&](absl::Status status) {
    after.Add([done = std::move(done), status = std::move(status)] { done(status); });
  };
  MutexLock lock(mutex_);
  if (stopped_) return refuse(Stopping());
  const Connection* connection = registry_.Find(ConnectionId(question.connection_id()));
  const bool held = connection != nullptr && connection->open() && !connection->resting();
  if (!held || connection->user.str() != question.user_id()) {
    return refuse(MakeError(Reason::kNotFound, "there is no such connection",
                            {.user_id = question.user_id()}));
  }
  const size_t bytes = question.frames().size();
  if (absl::Status status = passing_.Room(*connection, bytes); !status.ok()) {
    return refuse(std::move(status));
  }
  const uint64_t id = passing_.Add(*connection, bytes, std::move(done));
  passing_.SetTimer(id, scheduler_->After(options_.pass_timeout, [core = weak_from_this(), id] {
    const std::shared_ptr<Core> self = core.lock();
    if (self == nullptr) return;
    Deferred later;
    MutexLock lock(self->mutex_);
    self->passing_.Fail(
        id, MakeError(Reason::kGatewayUnavailable, "the connection's gateway does not answer"),
        later);
  }));
  v1::ServiceMessage message;
  message.mutable_deliver_frames()->set_deliver_id(id);
  *message.mutable_deliver_frames()->mutable_frames() = std::move(question);
  connection->attached->Say(std::move(message));
}

}  // namespace clarion::delivery
