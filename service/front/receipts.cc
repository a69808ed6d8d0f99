#include "service/front/receipts.h"

#include <memory>
#include <optional>
#include <utility>

#include "proto/contract/timestamp.h"
#include "service/front/request.h"
#include "service/front/write_call.h"

namespace clarion::front {
namespace {

absl::Status Check(const v1::WatchReceiptsRequest& request, const ErrorContext& context) {
  Fields fields;
  fields.Known(request)
      .Id("thread_id", request.thread_id())
      .OptionalUser("user_id", request.user_id());
  return fields.ok() ? absl::OkStatus() : fields.Refusal(context);
}

// From acceptance to `ack`; nothing: the event is not kept, or the clock was set back.
std::optional<google::protobuf::Duration> TimeToAck(const absl::StatusOr<log::ReadResult>& read,
                                                    Scheduler::Wall ack) {
  if (!read.ok() || read->runs.empty() || read->runs.front().events.empty()) return std::nullopt;
  v1::Event event;
  if (!event.ParseFromString(std::string(read->runs.front().events.front()->proto()))) {
    return std::nullopt;
  }
  const std::chrono::nanoseconds accepted = std::chrono::seconds(event.accepted_at().seconds()) +
                                            std::chrono::nanoseconds(event.accepted_at().nanos());
  const std::chrono::nanoseconds took = ack.time_since_epoch() - accepted;
  if (took < std::chrono::nanoseconds::zero()) return std::nullopt;
  return ToDuration(took);
}

// One call of WatchReceipts. Of receipts that come while the event of the one before is looked up,
// or while the caller does not read, the newest is told.
class ReceiptsCall final : public WriteCall<v1::WatchReceiptsResponse> {
 public:
  using WriteCall::WriteCall;

  void Begin(const v1::WatchReceiptsRequest& request) {
    if (!Open()) return;
    if (absl::Status status = Check(request, context()); !status.ok()) return End(status);
    thread_ = ThreadId(request.thread_id());
    user_ = UserId(request.user_id());
    HoldMetadata();
    Hold(core().delivery->WatchReceipts(thread_,
                                        std::make_shared<Listener>(weak_self<ReceiptsCall>())));
    SendMetadata();
  }

 private:
  // What delivery holds: it must not keep the call alive, nor the other way round.
  class Listener : public delivery::ReceiptWatcher {
   public:
    explicit Listener(std::weak_ptr<ReceiptsCall> watch) : watch_(std::move(watch)) {}
    void OnReceipt(const delivery::Receipt& receipt) override {
      if (const auto watch = watch_.lock()) watch->OnReceipt(receipt);
    }
    void OnEnded(const absl::Status& status) override {
      if (const auto watch = watch_.lock()) watch->End(status);
    }

   private:
    const std::weak_ptr<ReceiptsCall> watch_;
  };

  void OnReceipt(const delivery::Receipt& receipt) {
    if (!user_.empty() && !receipt.owner.empty() && receipt.owner != user_) {
      return End(runs::RefusalOf(log::AppendOutcome::kNotOwner, context()));
    }
    {
      MutexLock lock(lookup_mutex_);
      next_ = receipt;
      if (std::exchange(looking_up_, true)) return;
    }
    LookUpNext();
  }

  void LookUpNext() {
    std::optional<delivery::Receipt> receipt;
    {
      MutexLock lock(lookup_mutex_);
      receipt = std::exchange(next_, std::nullopt);
      looking_up_ = receipt.has_value();
    }
    if (!receipt) return;
    if (!receipt->at) {
      Tell(*receipt, std::nullopt);
      return LookUpNext();
    }
    core().log->Read({.thread = thread_,
                      .from = receipt->acknowledged,
                      .until = receipt->acknowledged,
                      .max_events = 1},
                     [self = weak_self<ReceiptsCall>().lock(), receipt = *receipt](auto read) {
                       self->Tell(receipt, TimeToAck(read, *receipt.at));
                       self->LookUpNext();
                     });
  }

  void Tell(const delivery::Receipt& receipt,
            const std::optional<google::protobuf::Duration>& took) {
    v1::WatchReceiptsResponse response;
    response.set_thread_id(thread_.str());
    response.set_user_id(receipt.owner.str());
    response.set_acknowledged(receipt.acknowledged.value());
    response.mutable_last()->set_epoch(receipt.last.epoch.str());
    response.mutable_last()->set_offset(receipt.last.offset.value());
    response.set_snapshot(receipt.first);
    if (receipt.at) *response.mutable_acknowledged_at() = ToTimestamp(*receipt.at);
    if (took) *response.mutable_publish_to_ack() = *took;
    PushNewest(std::move(response));
  }

  // Constant from Begin on.
  ThreadId thread_;
  UserId user_;

  Mutex lookup_mutex_;
  bool looking_up_ ABSL_GUARDED_BY(lookup_mutex_) = false;
  std::optional<delivery::Receipt> next_ ABSL_GUARDED_BY(lookup_mutex_);
};

}  // namespace

grpc::ServerWriteReactor<v1::WatchReceiptsResponse>* WatchReceipts(
    Core& core, grpc::CallbackServerContext* context, const v1::WatchReceiptsRequest* request) {
  auto watch = std::make_shared<ReceiptsCall>(
      core, context,
      CallFacts(*context, "WatchReceipts").Context(request->user_id(), request->thread_id()));
  watch->Begin(*request);
  return watch.get();
}

}  // namespace clarion::front
