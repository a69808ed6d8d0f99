#include "service/ctl/audit.h"

#include <algorithm>
#include <utility>

#include "proto/base/text.h"
#include "service/ctl/requests.h"

namespace clarion::ctl {
namespace {

void Add(const v1::ThreadSummary& thread, v1::LedgerCounts* sum) {
  sum->set_accepted(sum->accepted() + thread.last().offset());
  sum->set_acknowledged(sum->acknowledged() + thread.acknowledged_events());
  sum->set_pending(sum->pending() + thread.pending_events());
  sum->set_expired(sum->expired() + thread.expired_events());
}

bool Same(const v1::LedgerCounts& a, const v1::LedgerCounts& b) {
  return a.accepted() == b.accepted() && a.acknowledged() == b.acknowledged() &&
         a.pending() == b.pending() && a.expired() == b.expired();
}

bool Same(const v1::GetLedgerResponse& a, const v1::GetLedgerResponse& b) {
  return Same(a.total(), b.total()) && Same(a.deleted_threads(), b.deleted_threads());
}

std::string TextOf(const v1::LedgerCounts& counts) {
  return Concat("accepted ", counts.accepted(), ", acknowledged ", counts.acknowledged(),
                ", pending ", counts.pending(), ", expired ", counts.expired());
}

// Of the thread's events, those that are neither acknowledged nor below the floor.
uint64_t PendingOf(const v1::ThreadSummary& thread) {
  const uint64_t settled =
      std::max(thread.acknowledged(), std::max<uint64_t>(thread.floor(), 1) - 1);
  return thread.last().offset() - std::min(settled, thread.last().offset());
}

}  // namespace

absl::StatusOr<AuditReport> Audit::Run() {
  absl::Status status = ForEachThread([&](const v1::ThreadSummary& thread) {
    ++result_.threads;
    CheckSummary(thread);
    return CheckEvents(thread);
  });
  if (!status.ok()) return status;
  for (int attempt = 0; attempt < attempts_ && result_.totals == Totals::kMoving; ++attempt) {
    status = CheckTotals();
    if (!status.ok()) return status;
  }
  return result_;
}

absl::Status Audit::ForEachThread(const EachThread& visit) {
  v1::ListThreadsRequest request;
  request.set_page_size(kMaxPage);
  do {
    auto page = client_.Call(&Client::Stub::ListThreads, request);
    if (!page.ok()) return page.status();
    for (const v1::ThreadSummary& thread : page->threads()) {
      if (absl::Status status = visit(thread); !status.ok()) return status;
    }
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  return absl::OkStatus();
}

void Audit::CheckSummary(const v1::ThreadSummary& thread) {
  const uint64_t last = thread.last().offset();
  if (thread.floor() > last + 1) {
    Differ(thread, Concat("its floor ", thread.floor(), " is beyond its end ", last));
  }
  if (thread.acknowledged() > last) {
    Differ(thread, Concat("it is acknowledged to ", thread.acknowledged(), ", beyond ", last));
  }
  const uint64_t sum =
      thread.acknowledged_events() + thread.pending_events() + thread.expired_events();
  if (sum != last) {
    Differ(thread, Concat("acknowledged ", thread.acknowledged_events(), ", pending ",
                          thread.pending_events(), " and expired ", thread.expired_events(),
                          " are ", sum, ", and not its ", last, " events"));
  }
  if (thread.pending_events() != PendingOf(thread)) {
    Differ(thread, Concat("pending is ", thread.pending_events(), "; by its floor ", thread.floor(),
                          " and its ack ", thread.acknowledged(), " it is ", PendingOf(thread)));
  }
}

absl::Status Audit::CheckEvents(const v1::ThreadSummary& thread) {
  v1::ListEventsRequest request;
  request.set_thread_id(thread.thread_id());
  request.set_page_size(kMaxPage);
  uint64_t next = thread.floor();  // the offset that must come now
  uint64_t pending = 0;            // of the state that `thread` is of
  bool floor_moved = false;
  for (;;) {
    auto page = client_.Call(&Client::Stub::ListEvents, request);
    if (page.status().code() == absl::StatusCode::kNotFound) return absl::OkStatus();  // deleted
    if (!page.ok()) return page.status();
    for (const v1::Missed& missed : page->missed()) {
      if (missed.reason() == v1::MISSED_REASON_LOG_ROLLED_BACK) {
        return absl::AbortedError("the log was rolled back while it was audited; audit it again");
      }
    }
    if (page->floor() > next) {
      floor_moved = true;
      next = page->floor();
    }
    for (const v1::Event& event : page->events()) {
      if (event.offset() != next) {
        Differ(thread, Concat("offset ", next, " is kept and not there: ", event.offset(),
                              " follows ", next - 1));
      }
      if (event.thread_id() != thread.thread_id() || event.user_id() != thread.user_id()) {
        Differ(thread, Concat("offset ", event.offset(), " is an event of thread ",
                              event.thread_id(), " of ", event.user_id()));
      }
      next = event.offset() + 1;
      ++result_.events;
      pending += event.offset() > thread.acknowledged() && event.offset() <= thread.last().offset();
    }
    if (page->complete() || page->events().empty()) {
      // What came meanwhile may end the page, what was there before may not.
      const uint64_t end = std::max(thread.last().offset(), page->last().offset());
      if (next <= end && !(page->events().empty() && floor_moved)) {
        Differ(thread, Concat("offsets ", next, " to ", end, " are kept and not there"));
      }
      break;
    }
    request.mutable_after()->set_epoch(page->last().epoch());
    request.mutable_after()->set_offset(next - 1);
  }
  if (!floor_moved && pending != thread.pending_events()) {
    Differ(thread, Concat("pending is ", thread.pending_events(), "; events kept beyond its ack ",
                          thread.acknowledged(), " are ", pending));
  }
  return absl::OkStatus();
}

absl::Status Audit::CheckTotals() {
  const v1::GetLedgerRequest request;
  auto before = client_.Call(&Client::Stub::GetLedger, request);
  if (!before.ok()) return before.status();
  v1::LedgerCounts sum;
  absl::Status status = ForEachThread([&](const v1::ThreadSummary& thread) {
    Add(thread, &sum);
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  auto after = client_.Call(&Client::Stub::GetLedger, request);
  if (!after.ok()) return after.status();
  result_.ledger = *after;
  // Each of them only grows but `pending`, so what is the same has not moved.
  if (Same(*before, *after)) Compare(sum);
  return absl::OkStatus();
}

void Audit::Compare(const v1::LedgerCounts& sum) {
  const v1::LedgerCounts& total = result_.ledger.total();
  const v1::LedgerCounts& deleted = result_.ledger.deleted_threads();
  const uint64_t differences = result_.differences;
  if (deleted.pending() != 0) {
    Differ({}, Concat("of deleted threads ", deleted.pending(), " events are pending"));
  }
  for (const v1::LedgerCounts* counts : {&total, &deleted}) {
    if (counts->acknowledged() + counts->pending() + counts->expired() != counts->accepted()) {
      Differ({}, Concat("these do not add up: ", TextOf(*counts)));
    }
  }
  v1::LedgerCounts with_deleted = sum;
  with_deleted.set_accepted(sum.accepted() + deleted.accepted());
  with_deleted.set_acknowledged(sum.acknowledged() + deleted.acknowledged());
  with_deleted.set_expired(sum.expired() + deleted.expired());
  if (!Same(with_deleted, total)) {
    Differ({}, Concat("all threads together, deleted ones too, have ", TextOf(with_deleted),
                      "; the service's totals are ", TextOf(total)));
  }
  result_.totals = result_.differences == differences ? Totals::kAgree : Totals::kDiffer;
}

void Audit::Differ(const v1::ThreadSummary& thread, std::string what) {
  ++result_.differences;
  report_({.thread = thread.thread_id(), .user = thread.user_id(), .what = std::move(what)});
}

}  // namespace clarion::ctl
