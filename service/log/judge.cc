#include "service/log/judge.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/contract/error.h"
#include "service/log/retention.h"
#include "service/log/run_rules.h"

namespace clarion::log {
namespace {

// The first offset that is neither acknowledged nor expired, before.
uint64_t Settled(const Counters& counters) {
  return std::max(counters.acknowledged.value(), counters.floor.prev().value());
}

bool IsRefusal(AppendOutcome outcome) {
  return outcome != AppendOutcome::kAppended && outcome != AppendOutcome::kDuplicate;
}

}  // namespace

void Staged::Begin(const Counters& committed) {
  effects.Clear();
  effects.counters = committed;
  before = committed;
  duplicates = 0;
  event_bytes = 0;
  turned_runs.clear();
  needs_sync = false;
  changed = false;
}

AppendResult Judge::Append(AppendRequest& request) {
  AppendResult result;
  result.items.resize(request.items.size());
  result.committed_at = now();
  result.expires_at = result.committed_at + context_.options->retention.age;
  const bool nobodys = owner().empty();
  const bool refused = !nobodys && owner() != request.owner;
  const bool moved = request.unless_moved && Moved(*request.unless_moved);
  bool appended = false;
  for (size_t i = 0; i < request.items.size(); ++i) {
    AppendedItem& answer = result.items[i];
    if (image_.deleted()) {
      answer.outcome = AppendOutcome::kDeleted;
    } else if (refused) {
      answer.outcome = AppendOutcome::kNotOwner;
    } else {
      answer = AppendOne(request.items[i], request.run_rules, moved);
    }
    if (answer.outcome == AppendOutcome::kRunProtocol && request.mend) {
      answer = AppendMended(request.items[i], std::move(answer), request, result.mends);
    }
    appended |= answer.outcome == AppendOutcome::kAppended;
    staged_.duplicates += answer.outcome == AppendOutcome::kDuplicate;
    if (request.stop_at_refusal && IsRefusal(answer.outcome)) break;
  }
  if (!appended) return result;
  counters().last_append = result.committed_at;
  staged_.changed = true;
  if (nobodys) staged_.effects.owner = std::move(request.owner);
  RetainWithinLimits();
  return result;
}

bool Judge::Moved(const RunMark& mark) const {
  const RunRecord* run = FindRun(mark.run);
  if (run == nullptr || run->end != Offset{} || !(run->fence == mark.fence)) return true;
  // What this commit will append is not in the record yet.
  const auto& events = staged_.effects.events;
  return run->last != mark.last ||
         std::any_of(events.begin(), events.end(),
                     [&](const LoggedEvent& event) { return event.run == run->start; });
}

AppendedItem Judge::AppendOne(AppendItem& item, RunRules rules, bool moved) {
  AppendedItem answer;
  const Digest id = Digest::Of(item.event_id.str());
  const IdSlot fresh{counters().last.next(), item.content};
  const ThreadImage::Reserved reserved = image_.ReserveId(id, fresh);
  // An id whose event is gone may be used again.
  const bool is_new = reserved.inserted || reserved.slot->offset < counters().floor;
  if (!is_new) return Duplicate(item, *reserved.slot);
  const auto refusal = moved ? AppendOutcome::kRunMoved : RefuseForRun(item, rules, answer);
  if (refusal) {
    if (reserved.inserted) image_.ForgetId(id);
    answer.outcome = *refusal;
    return answer;
  }
  *reserved.slot = fresh;
  Accept(item, id);
  answer.outcome = AppendOutcome::kAppended;
  answer.offset = counters().last;
  answer.epoch = EpochOf(answer.offset).epoch;
  return answer;
}

AppendedItem Judge::AppendMended(AppendItem& item, AppendedItem refused,
                                 const AppendRequest& request, size_t& mends) {
  std::vector<AppendItem> front = request.mend(item, refused.rule, refused.run);
  if (front.empty()) return refused;
  for (AppendItem& mend : front) {
    AppendedItem answer = AppendOne(mend, RunRules::kNone, /*moved=*/false);
    if (IsRefusal(answer.outcome)) return answer;
    mends += answer.outcome == AppendOutcome::kAppended;
  }
  return AppendOne(item, request.run_rules, /*moved=*/false);
}

AppendedItem Judge::Duplicate(const AppendItem& item, const IdSlot& slot) const {
  AppendedItem answer;
  if (!(slot.content == item.content)) {
    answer.outcome = AppendOutcome::kIdConflict;
    return answer;
  }
  answer.outcome = AppendOutcome::kDuplicate;
  answer.offset = slot.offset;
  answer.epoch = EpochOf(slot.offset).epoch;
  if (item.run_step == RunStep::kStart) {
    if (const RunRecord* run = FindRun(item.run_id); run != nullptr) answer.run = *run;
  }
  return answer;
}

std::optional<AppendOutcome> Judge::RefuseForRun(const AppendItem& item, RunRules rules,
                                                 AppendedItem& answer) const {
  const RunRecord* run = FindRun(item.run_id);
  if (item.run_step == RunStep::kStart) {
    if (run != nullptr) {
      answer.run = *run;
      return AppendOutcome::kRunExists;
    }
    if (OpenRuns() >= context_.options->max_open_runs) return AppendOutcome::kTooManyRuns;
    return std::nullopt;
  }
  if (!(item.fence == Digest{}) && (run == nullptr || !(run->fence == item.fence))) {
    return AppendOutcome::kFenced;
  }
  if (rules == RunRules::kNone) return std::nullopt;
  answer.rule = CheckStep(run, item.run_step, item.run_key);
  if (answer.rule == RunRule::kNone) return std::nullopt;
  const bool always = answer.rule == RunRule::kNotStarted || answer.rule == RunRule::kEnded ||
                      answer.rule == RunRule::kStillOpen;
  if (rules == RunRules::kLenient && !always) return std::nullopt;
  if (run != nullptr) answer.run = *run;
  return AppendOutcome::kRunProtocol;
}

void Judge::Accept(AppendItem& item, const Digest& id) {
  OpenEpochIfNeeded();
  counters().last = counters().last.next();
  const Offset run = TakeRunStep(item, counters().last);
  staged_.needs_sync |= item.critical;
  staged_.event_bytes += item.event->bytes().size();
  staged_.effects.events.push_back(
      {std::move(item.event), id, item.content, now(), run, item.critical});
}

void Judge::OpenEpochIfNeeded() {
  if (staged_.effects.epoch) return;
  const auto& epochs = image_.epochs();
  if (!epochs.empty() && epochs.back().incarnation == context_.incarnation) return;
  staged_.effects.epoch =
      EpochMark{context_.new_epoch(), context_.incarnation, counters().last.next()};
  staged_.needs_sync = true;
}

Offset Judge::TakeRunStep(const AppendItem& item, Offset offset) {
  if (item.run_step == RunStep::kStart) {
    RunRecord& run = staged_.effects.runs.emplace_back();
    run.run_id = item.run_id;
    run.agent_name = item.agent_name;
    run.parent = item.parent;
    run.data = item.run_data;
    run.fence = item.fence;
    run.start = run.last = offset;
    run.last_at = now();
    staged_.turned_runs.push_back(offset);
    return offset;
  }
  const RunRecord* run = FindRun(item.run_id);
  if (run == nullptr) return Offset{};
  const Offset start = run->start;
  if (ChangesRun(*run, item.run_step)) {
    RunRecord& staged = Stage(*run);
    const bool suspended = staged.suspended;
    TakeStep(staged, item, offset);
    if (staged.suspended != suspended || staged.end != Offset{})
      staged_.turned_runs.push_back(start);
    staged.last_at = now();
  }
  return start;
}

RunRecord& Judge::Stage(const RunRecord& run) {
  std::vector<RunRecord>& staged = staged_.effects.runs;
  const auto same = std::find_if(staged.begin(), staged.end(),
                                 [&](const RunRecord& other) { return other.start == run.start; });
  if (same != staged.end()) return *same;
  return staged.emplace_back(run);
}

absl::StatusOr<AckResult> Judge::Ack(const UserId& user, const Position& position) {
  const ErrorContext context{
      .user_id = user.str(), .thread_id = image_.id().str(), .operation = "Ack"};
  if (owner().empty() || owner() != user) {
    return MakeError(Reason::kThreadOwnership, "the thread is not this user's", context);
  }
  if (position.offset == Offset{}) return AckResult{counters().acknowledged, false};
  const std::optional<Offset> last = LastOf(position.epoch);
  if (!last) return MakeError(Reason::kEpochChanged, "the thread has no such epoch", context);
  if (position.offset > *last) {
    const bool tail_may_be_lost = EpochOf(*last).incarnation != context_.incarnation;
    if (*last == counters().last && !tail_may_be_lost) {
      return MakeError(Reason::kAckInvalid, "the offset is beyond the thread's end", context);
    }
    return MakeError(Reason::kEpochChanged, "the log was rolled back before this offset", context);
  }
  const Offset acknowledged = std::max(counters().acknowledged, position.offset);
  const bool moved = acknowledged > counters().acknowledged;
  if (moved) {
    const uint64_t settled = Settled(counters());
    if (acknowledged.value() > settled) {
      counters().acknowledged_count += acknowledged.value() - settled;
    }
    counters().acknowledged = acknowledged;
    staged_.changed = true;
  }
  return AckResult{acknowledged, moved};
}

Offset Judge::RaiseFloor(Offset floor, FloorReason reason) {
  floor = std::min(floor, counters().last.next());
  if (floor <= counters().floor) return counters().floor;
  const uint64_t settled = Settled(counters());
  if (floor.value() - 1 > settled) CountExpired(Offset(settled + 1), floor.prev(), reason);
  counters().floor = floor;
  staged_.effects.floor_reason = reason;
  staged_.changed = true;
  return floor;
}

void Judge::CountExpired(Offset first, Offset last, FloorReason reason) {
  counters().expired_count += last.value() + 1 - first.value();
  while (first <= last) {
    // To the end of the epoch that `first` is of.
    Offset to = last;
    const EpochMark& epoch = EpochOf(first);
    while (EpochOf(to).first > epoch.first) to = EpochOf(to).first.prev();
    AddExpired({.epoch = epoch.epoch,
                .from = first,
                .to = to,
                .count = to.value() + 1 - first.value(),
                .reason = reason,
                .at = context_.now},
               SIZE_MAX, staged_.effects.expired);
    first = to.next();
  }
}

void Judge::Retain() {
  RaiseFloor(RetentionFloor(image_, staged_.effects, context_.options->retention, context_.now),
             FloorReason::kExpired);
}

void Judge::RetainWithinLimits() {
  if (ExceedsLimits(image_, staged_.effects, staged_.event_bytes, context_.options->retention)) {
    Retain();
  }
}

absl::StatusOr<bool> Judge::Assign(const UserId& user) {
  if (image_.deleted()) {
    return MakeError(
        Reason::kEventDropped, "the thread was deleted",
        {.user_id = user.str(), .thread_id = image_.id().str(), .operation = "Assign"});
  }
  if (owner() == user) return false;
  if (!owner().empty()) {
    return MakeError(
        Reason::kThreadOwnership, "the thread belongs to another user",
        {.user_id = user.str(), .thread_id = image_.id().str(), .operation = "Assign"});
  }
  staged_.effects.owner = user;
  staged_.changed = true;
  return true;
}

absl::StatusOr<RunRecord> Judge::TakeOver(const UserId& user, const Producer& producer) {
  const ErrorContext context{.user_id = user.str(),
                             .thread_id = image_.id().str(),
                             .run_id = producer.run.str(),
                             .operation = "TakeOver"};
  if (owner() != user) {
    return MakeError(Reason::kThreadOwnership, "the thread is not this user's", context);
  }
  const RunRecord* const run = FindRun(producer.run);
  if (run == nullptr) return MakeError(Reason::kNotFound, "the thread keeps no such run", context);
  if (run->end != Offset{}) return MakeError(Reason::kRunProtocol, "the run has ended", context);
  RunRecord& staged = Stage(*run);
  staged.fence = producer.fence;
  staged.data = producer.data;
  staged.suspended = false;
  staged.suspended_until = {};
  staged_.turned_runs.push_back(staged.start);
  staged_.changed = true;
  // The former producer's token must not come back with a crash.
  staged_.needs_sync = true;
  return staged;
}

const UserId& Judge::owner() const {
  return staged_.effects.owner ? *staged_.effects.owner : image_.owner();
}

const EpochMark& Judge::EpochOf(Offset offset) const {
  const auto& opened = staged_.effects.epoch;
  if (opened && offset >= opened->first) return *opened;
  return image_.EpochOf(offset);
}

std::optional<Offset> Judge::LastOf(const Epoch& epoch) const {
  const auto& opened = staged_.effects.epoch;
  if (opened && opened->epoch == epoch) return counters().last;
  Offset last = opened ? opened->first.prev() : counters().last;
  const auto& marks = image_.epochs();
  for (auto mark = marks.rbegin(); mark != marks.rend(); ++mark) {
    if (mark->epoch == epoch) return last;
    last = mark->first.prev();
  }
  return std::nullopt;
}

const RunRecord* Judge::FindRun(const RunId& run) const {
  for (const RunRecord& staged : staged_.effects.runs) {
    if (staged.run_id == run) return &staged;
  }
  return image_.FindRun(run);
}

size_t Judge::OpenRuns() const {
  size_t open = image_.open_runs();
  for (const RunRecord& staged : staged_.effects.runs) {
    const bool was_open = image_.RunAt(staged.start.value()) != nullptr;
    if (staged.end == Offset{} && !was_open) ++open;
    if (staged.end != Offset{} && was_open) --open;
  }
  return open;
}

}  // namespace clarion::log
