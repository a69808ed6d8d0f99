// What callers are shown of a thread's state. Pure functions.
#pragma once

#include "clarion/v1/event_service.pb.h"
#include "google/protobuf/repeated_ptr_field.h"
#include "service/log/log.h"

namespace clarion::delivery {

// Runs that have not ended, at most 100.
void AddActiveRuns(const log::ThreadState& state,
                   google::protobuf::RepeatedPtrField<v1::ActiveRun>* active_runs);

// `state.runs`: at least the open ones.
v1::ThreadSummary SummaryOf(const log::ThreadState& state);

// Nobody's threads do not exist for callers, and canaries are in no list.
bool Visible(const log::ThreadState& state);

// Threads on a page of a list: as many as asked for, or 100.
inline constexpr uint32_t kMaxThreadPage = 1000;
inline constexpr size_t kMaxThreadPageToken = 1024;
uint32_t ThreadPageSize(uint32_t asked);

}  // namespace clarion::delivery
