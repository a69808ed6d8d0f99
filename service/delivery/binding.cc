#include "service/delivery/binding.h"

#include <algorithm>
#include <utility>

#include "proto/contract/limits.h"

namespace clarion::delivery {

uint64_t Binding::Ask(const std::shared_ptr<BindCall>& call, Connection& connection,
                      const ThreadId& thread) {
  const uint64_t id = NextId();
  questions_.emplace(id, Question{call, call->parts.size(), &connection, thread});
  Know(*call, connection, v1::BIND_OUTCOME_UNSPECIFIED);
  ++call->unanswered;
  call->asked.push_back(id);
  connection.binds.push_back(id);
  return id;
}

std::vector<Binding::Open> Binding::OpenFor(const Connection& connection) const {
  std::vector<Open> open;
  open.reserve(connection.binds.size());
  for (const uint64_t id : connection.binds) open.push_back({id, questions_.at(id).thread});
  return open;
}

void Binding::Know(BindCall& call, const Connection& connection, v1::BindOutcome outcome) {
  v1::BoundConnection part;
  part.set_connection_id(connection.id.str());
  part.set_outcome(outcome);
  call.parts.push_back(std::move(part));
}

void Binding::OnResult(const Attached& attached, uint64_t bind_id, v1::BindOutcome outcome,
                       Deferred& after) {
  const auto found = questions_.find(bind_id);
  if (found == questions_.end() || found->second.connection->attached != &attached) return;
  std::erase(found->second.connection->binds, bind_id);
  Settle(bind_id, outcome, after);
}

void Binding::OnGone(Connection& connection, Deferred& after) {
  for (const uint64_t id : std::exchange(connection.binds, {})) {
    Settle(id, v1::BIND_OUTCOME_GONE, after);
  }
}

void Binding::Settle(uint64_t bind_id, v1::BindOutcome outcome, Deferred& after) {
  auto question = questions_.extract(bind_id);
  if (question.empty()) return;
  const auto& [call, part, connection, thread] = question.mapped();
  if (call == nullptr) return;
  call->parts[part].set_outcome(outcome);
  if (--call->unanswered == 0) Answer(call, after);
}

void Binding::Answer(const std::shared_ptr<BindCall>& call, Deferred& after) {
  if (std::exchange(call->answered, true)) return;
  for (const uint64_t id : call->asked) {
    const auto question = questions_.find(id);
    if (question == questions_.end()) continue;  // answered
    if (Stays(id, question->second)) {
      question->second.call = nullptr;
      continue;
    }
    std::erase(question->second.connection->binds, id);
    questions_.erase(question);
  }
  after.Add([call, scheduler = scheduler_] {
    if (call->timer != 0) scheduler->Cancel(call->timer);
    call->done(std::move(call->parts));
  });
}

bool Binding::Stays(uint64_t id, const Question& question) const {
  const Connection& connection = *question.connection;
  if (connection.polling == nullptr || connection.binds.size() > kMaxPositions) return false;
  return std::none_of(connection.binds.begin(), connection.binds.end(), [&](uint64_t other) {
    return other != id && questions_.at(other).thread == question.thread;
  });
}

void Binding::Forget(Connection& connection, const ThreadId& thread) {
  std::erase_if(connection.binds, [&](uint64_t id) {
    const auto question = questions_.find(id);
    const bool over = question->second.call == nullptr && question->second.thread == thread;
    if (over) questions_.erase(question);
    return over;
  });
}

void Binding::AnswerAll(Deferred& after) {
  std::vector<std::shared_ptr<BindCall>> calls;
  for (auto& [id, question] : std::exchange(questions_, {})) {
    std::erase(question.connection->binds, id);
    if (question.call != nullptr) calls.push_back(std::move(question.call));
  }
  for (const std::shared_ptr<BindCall>& call : calls) Answer(call, after);
}

}  // namespace clarion::delivery
