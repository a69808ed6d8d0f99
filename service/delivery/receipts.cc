#include "service/delivery/receipts.h"

#include <algorithm>
#include <utility>

#include "proto/contract/error.h"

namespace clarion::delivery {
namespace {

template <class Map, class T>
bool TakeOut(Map& map, const std::shared_ptr<T>& item) {
  const auto found = map.find(item->thread);
  if (found == map.end() || std::erase(found->second, item) == 0) return false;
  if (found->second.empty()) map.erase(found);
  return true;
}

}  // namespace

void Receipts::Add(const std::shared_ptr<ReceiptWait>& wait) {
  waits_[wait->thread].push_back(wait);
}

void Receipts::Remove(const std::shared_ptr<ReceiptWait>& wait) {
  TakeOut(waits_, wait);
}

const Position* Receipts::Awaited(const ThreadId& thread) const {
  const auto found = waits_.find(thread);
  if (found == waits_.end()) return nullptr;
  const auto furthest = std::max_element(
      found->second.begin(), found->second.end(),
      [](const auto& a, const auto& b) { return a->position.offset < b->position.offset; });
  return &(*furthest)->position;
}

void Receipts::OnReached(const ThreadId& thread, Offset from, Offset to, v1::WaitFor what,
                         Deferred& after) {
  const auto found = waits_.find(thread);
  if (found == waits_.end()) return;
  const auto waits = found->second;  // Answer() takes out of the list
  for (const auto& wait : waits) {
    const Offset offset = wait->position.offset;
    if (wait->wanted <= what && offset >= from && offset <= to) {
      Answer(wait, v1::WAIT_OUTCOME_REACHED, after);
    }
  }
}

void Receipts::Answer(const std::shared_ptr<ReceiptWait>& wait, v1::WaitOutcome outcome,
                      Deferred& after) {
  if (std::exchange(wait->answered, true)) return;
  Remove(wait);
  after.Add([wait, outcome, scheduler = scheduler_] {
    if (wait->timer != 0) scheduler->Cancel(wait->timer);
    if (!wait->gate.Enter()) return;
    // Taken out: what it keeps alive may itself hold the Cancellation, and so the wait.
    const auto done = std::move(wait->done);
    done(outcome);
    wait->gate.Leave();
  });
}

void Receipts::Add(const std::shared_ptr<ReceiptWatch>& watch) {
  watches_[watch->thread].push_back(watch);
}

bool Receipts::Remove(const std::shared_ptr<ReceiptWatch>& watch) {
  return TakeOut(watches_, watch);
}

void Receipts::Tell(const ThreadId& thread, const Receipt& receipt, Deferred& after) {
  const auto found = watches_.find(thread);
  if (found == watches_.end()) return;
  for (const auto& watch : found->second) {
    const bool first = !std::exchange(watch->begun, true);
    // It goes back where the log lost an ack.
    if (!first && receipt.acknowledged == watch->told) continue;
    watch->told = receipt.acknowledged;
    Receipt told = receipt;
    told.first = first;
    after.Add([watch, told] {
      if (!watch->gate.Enter()) return;
      watch->watcher->OnReceipt(told);
      watch->gate.Leave();
    });
  }
}

void Receipts::OnDeleted(const ThreadId& thread, Deferred& after) {
  if (const auto waits = waits_.find(thread); waits != waits_.end()) {
    const auto list = waits->second;  // Answer() takes out of it
    for (const auto& wait : list) Answer(wait, v1::WAIT_OUTCOME_TIMED_OUT, after);
  }
  const auto watches = watches_.extract(thread);
  if (watches.empty()) return;
  const absl::Status gone = MakeError(Reason::kNotFound, "the thread was deleted",
                                      {.thread_id = thread.str(), .operation = "WatchReceipts"});
  for (const auto& watch : watches.mapped()) End(watch, gone, after);
}

uint32_t Receipts::EndWithoutPicture(const ThreadId& thread, const absl::Status& status,
                                     Deferred& after) {
  const auto found = watches_.find(thread);
  if (found == watches_.end()) return 0;
  const auto ended = static_cast<uint32_t>(std::erase_if(found->second, [&](const auto& watch) {
    if (watch->begun) return false;
    End(watch, status, after);
    return true;
  }));
  if (found->second.empty()) watches_.erase(found);
  return ended;
}

void Receipts::End(const std::shared_ptr<ReceiptWatch>& watch, const absl::Status& status,
                   Deferred& after) {
  after.Add([watch, status] {
    if (!watch->gate.EnterLast()) return;
    watch->watcher->OnEnded(status);
    watch->gate.Leave();
  });
}

void Receipts::EndAll(const absl::Status& status, Deferred& after) {
  const auto waits = waits_;  // Answer() takes out of it
  for (const auto& [thread, list] : waits) {
    for (const auto& wait : list) Answer(wait, v1::WAIT_OUTCOME_TIMED_OUT, after);
  }
  for (const auto& [thread, list] : std::exchange(watches_, {})) {
    for (const auto& watch : list) End(watch, status, after);
  }
}

}  // namespace clarion::delivery
