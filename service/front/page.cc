#include "service/front/page.h"

#include <algorithm>
#include <deque>
#include <memory>
#include <string>
#include <utility>

#include "service/delivery/resume.h"

namespace clarion::front {
namespace {

using Done = std::function<void(absl::StatusOr<v1::ListEventsResponse>)>;

constexpr size_t kPageBytes = 1024 * 1024;

v1::Event Decode(const EncodedEvent& encoded, Offset offset) {
  v1::Event event;
  event.ParseFromString(std::string(encoded.proto()));
  event.set_offset(offset.value());
  return event;
}

void SetEnd(const log::ReadResult& read, v1::ListEventsResponse* response) {
  response->mutable_last()->set_epoch(read.last.epoch.str());
  response->mutable_last()->set_offset(read.last.offset.value());
  response->set_floor(read.floor.value());
}

// Retention went on between the state that said where to begin and the reading.
void SayExpired(Offset from, const log::ReadResult& read, v1::ListEventsResponse* response) {
  if (read.floor <= from) return;
  v1::Missed* missed = response->add_missed();
  missed->set_epoch(read.last.epoch.str());
  missed->set_from_offset(from.value());
  missed->set_to_offset(read.floor.prev().value());
  missed->set_reason(v1::MISSED_REASON_EXPIRED);
}

void ReadAfter(log::Log* log, const PageQuery& query, const log::ThreadState& state, Done done) {
  const delivery::Resolution start =
      query.after ? delivery::Resolve(state, delivery::Start::After(*query.after))
                  : delivery::Resolution{.from = state.floor, .missed = {}};
  log::ReadRequest read{.thread = query.thread, .from = start.from};
  read.max_bytes = kPageBytes;
  read.max_events = query.events;
  log->Read(std::move(read), [start, done = std::move(done)](absl::StatusOr<log::ReadResult> read) {
    if (!read.ok()) return done(read.status());
    v1::ListEventsResponse response;
    for (const v1::Missed& missed : start.missed) *response.add_missed() = missed;
    SayExpired(start.from, *read, &response);
    SetEnd(*read, &response);
    Offset reached = std::max(start.from, read->floor).prev();
    for (const log::EventRun& run : read->runs) {
      Offset offset = run.first;
      for (const EventPtr& event : run.events) {
        *response.add_events() = Decode(*event, offset);
        reached = offset;
        offset = offset.next();
      }
    }
    response.set_complete(reached >= read->last.offset);
    done(std::move(response));
  });
}

// The last surviving offset of an epoch; nothing for one that the thread does not know (any more).
std::optional<Offset> EndOf(const log::ThreadState& state, const Epoch& epoch) {
  for (size_t i = 0; i < state.epochs.size(); ++i) {
    if (state.epochs[i].epoch != epoch) continue;
    return i + 1 < state.epochs.size() ? state.epochs[i + 1].first.prev() : state.last;
  }
  return std::nullopt;
}

// Reads forward, as the log does, and keeps the newest that fit into a page.
class BackwardRead : public std::enable_shared_from_this<BackwardRead> {
 public:
  BackwardRead(log::Log* log, const PageQuery& query, Offset until, Done done)
      : log_(log), query_(query), until_(until), done_(std::move(done)) {}

  void Read(Offset from) {
    log::ReadRequest read{.thread = query_.thread, .from = from, .until = until_};
    read.max_bytes = kPageBytes;
    read.max_events = query_.events;
    log_->Read(std::move(read), [self = shared_from_this()](absl::StatusOr<log::ReadResult> read) {
      self->OnRead(std::move(read));
    });
  }

 private:
  struct Kept {
    Offset offset;
    EventPtr event;
  };

  void OnRead(absl::StatusOr<log::ReadResult> read) {
    if (!read.ok()) return done_(read.status());
    bool any = false;
    for (const log::EventRun& run : read->runs) {
      Offset offset = run.first;
      for (const EventPtr& event : run.events) {
        Keep(offset, event);
        offset = offset.next();
        any = true;
      }
    }
    if (any && kept_.back().offset < until_) return Read(kept_.back().offset.next());
    Answer(*read);
  }

  void Keep(Offset offset, EventPtr event) {
    bytes_ += event->proto().size();
    kept_.push_back({offset, std::move(event)});
    while (kept_.size() > 1 && (bytes_ > kPageBytes || kept_.size() > query_.events)) {
      bytes_ -= kept_.front().event->proto().size();
      kept_.pop_front();
    }
  }

  void Answer(const log::ReadResult& read) {
    v1::ListEventsResponse response;
    for (const Kept& kept : kept_) *response.add_events() = Decode(*kept.event, kept.offset);
    SetEnd(read, &response);
    response.set_complete(kept_.empty() || kept_.front().offset <= read.floor);
    done_(std::move(response));
  }

  log::Log* const log_;
  const PageQuery query_;
  const Offset until_;
  const Done done_;
  // One read at a time.
  std::deque<Kept> kept_;
  size_t bytes_ = 0;
};

void ReadBefore(log::Log* log, const PageQuery& query, const log::ThreadState& state,
                const ErrorContext& context, Done done) {
  const auto end = EndOf(state, query.before->epoch);
  if (!end) {
    return done(MakeError(Reason::kEpochChanged,
                          "the thread does not know this epoch; page back from its end", context));
  }
  const Offset until = std::min(query.before->offset.prev(), *end);
  const uint64_t span = query.events;
  const Offset from =
      std::max(state.floor, Offset(until.value() >= span ? until.value() - span + 1 : 1));
  if (until < from) {
    v1::ListEventsResponse nothing;
    SetEnd(log::ReadResult{.runs = {}, .floor = state.floor, .last = state.end()}, &nothing);
    nothing.set_complete(true);
    return done(std::move(nothing));
  }
  std::make_shared<BackwardRead>(log, query, until, std::move(done))->Read(from);
}

}  // namespace

void ReadEvents(log::Log* log, const PageQuery& query, const log::ThreadState& state,
                const ErrorContext& context, Done done) {
  if (query.before) return ReadBefore(log, query, state, context, std::move(done));
  ReadAfter(log, query, state, std::move(done));
}

}  // namespace clarion::front
