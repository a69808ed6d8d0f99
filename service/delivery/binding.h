// Bind questions to gateways, and those who wait for the answers.
//
// Guarded by Core's lock; timers and callbacks are Core's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "clarion/v1/event_service.pb.h"
#include "proto/base/scheduler.h"
#include "service/delivery/deferred.h"
#include "service/delivery/records.h"

namespace clarion::delivery {

// One BindThread call.
struct BindCall {
  std::vector<v1::BoundConnection> parts;  // UNSPECIFIED until answered
  std::function<void(std::vector<v1::BoundConnection>)> done;
  std::vector<uint64_t> asked;  // bind_ids
  size_t unanswered = 0;
  Scheduler::TimerId timer = 0;
  bool answered = false;
};

class Binding {
 public:
  explicit Binding(Scheduler* scheduler) : scheduler_(scheduler) {}

  // For a Bind whose answer nobody waits for.
  uint64_t NextId() { return ++last_id_; }
  // Adds `connection` to the call as a question; what to ask with.
  uint64_t Ask(const std::shared_ptr<BindCall>& call, Connection& connection,
               const ThreadId& thread);
  // What is to be asked of a connection that polls again: it may not have been, or in vain.
  struct Open {
    uint64_t bind_id = 0;
    ThreadId thread;
  };
  std::vector<Open> OpenFor(const Connection& connection) const;
  // Adds `connection` to the call with its answer.
  static void Know(BindCall& call, const Connection& connection, v1::BindOutcome outcome);

  // An answer from the gateway that holds the connection; unknown ids have no effect.
  void OnResult(const Attached& attached, uint64_t bind_id, v1::BindOutcome outcome,
                Deferred& after);
  // Everything asked of this connection is GONE.
  void OnGone(Connection& connection, Deferred& after);
  // All that is waited for has come. What a page that polls was not asked yet stays open for its
  // next poll, however late that is.
  void Answer(const std::shared_ptr<BindCall>& call, Deferred& after);
  // The thread is not the user's any more: what nobody waits for is asked no longer.
  void Forget(Connection& connection, const ThreadId& thread);
  // No more is asked.
  void AnswerAll(Deferred& after);

 private:
  struct Question {
    std::shared_ptr<BindCall> call;  // null: nobody waits for the answer
    size_t part = 0;
    Connection* connection = nullptr;
    ThreadId thread;
  };
  void Settle(uint64_t bind_id, v1::BindOutcome outcome, Deferred& after);
  // Whether question `id` is the one that stays open for its page.
  bool Stays(uint64_t id, const Question& question) const;

  Scheduler* const scheduler_;
  uint64_t last_id_ = 0;
  absl::flat_hash_map<uint64_t, Question> questions_;
};

}  // namespace clarion::delivery
