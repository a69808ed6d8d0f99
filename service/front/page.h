// One page of a thread's log, after or before a position.
#pragma once

#include <functional>
#include <optional>

#include "absl/status/statusor.h"
#include "clarion/v1/event_service.pb.h"
#include "proto/contract/error.h"
#include "proto/contract/ids.h"
#include "service/log/log.h"

namespace clarion::front {

struct PageQuery {
  ThreadId thread;
  // At most one of both. Neither: from the first event kept.
  std::optional<Position> after;
  // The newest that are older; its epoch is one that the thread had: EPOCH_CHANGED otherwise.
  std::optional<Position> before;
  size_t events = 100;
};

// `state`: the thread's, just now. `done` is called once, on the log's threads or inside the call.
void ReadEvents(log::Log* log, const PageQuery& query, const log::ThreadState& state,
                const ErrorContext& context,
                std::function<void(absl::StatusOr<v1::ListEventsResponse>)> done);

}  // namespace clarion::front
