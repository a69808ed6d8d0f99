#include "service/front/wiring.h"

#include <algorithm>
#include <chrono>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "proto/base/mutex.h"
#include "proto/base/text.h"
#include "service/front/async_call.h"
#include "service/front/request.h"
#include "service/front/wiring_check.h"

namespace clarion::front {
namespace {

constexpr std::chrono::seconds kMaxTimeout{30}, kDefaultTimeout{5};
constexpr int kMaxGateways = 256;
constexpr size_t kSweepPage = 100;

absl::Status Check(const v1::CheckWiringRequest& request, const ErrorContext& context) {
  Fields fields;
  fields.Known(request).Duration("timeout", request.timeout(), kMaxTimeout);
  if (request.gateway_ids_size() > kMaxGateways) {
    fields.Fault("gateway_ids", Concat("at most ", kMaxGateways));
  }
  for (int i = 0; i < request.gateway_ids_size() && i < kMaxGateways; ++i) {
    fields.Id(Concat("gateway_ids[", i, "]"), request.gateway_ids(i));
  }
  return fields.ok() ? absl::OkStatus() : fields.Refusal(context);
}

// A gateway of several loops attaches once for each: `name.0`, `name.1` ...
bool IsLoopOf(const std::string& attached, const std::string& name) {
  return attached == name || attached.starts_with(name + ".");
}

v1::WiringCanary Absent(const std::string& gateway, std::string_view message) {
  v1::WiringCanary canary;
  canary.set_gateway_id(gateway);
  canary.set_step(v1::WIRING_STEP_LINK);
  canary.set_message(std::string(message));
  return canary;
}

struct Plan {
  std::vector<GatewayId> gateways;
  std::vector<v1::WiringCanary> absent;
};

Plan PlanFor(const v1::CheckWiringRequest& request,
             const std::vector<delivery::GatewayInfo>& attached) {
  Plan plan;
  if (request.gateway_ids().empty()) {
    for (const auto& gateway : attached) plan.gateways.push_back(gateway.id);
    if (attached.empty()) plan.absent.push_back(Absent("", "no gateway is attached"));
    return plan;
  }
  for (const std::string& name : request.gateway_ids()) {
    bool any = false;
    for (const auto& gateway : attached) {
      if (!IsLoopOf(gateway.id.str(), name)) continue;
      plan.gateways.push_back(gateway.id);
      any = true;
    }
    if (!any) plan.absent.push_back(Absent(name, "this gateway is not attached to this service"));
  }
  return plan;
}

// Gathers what the checks of several gateways found, in the order of the gateways.
class Gathering {
 public:
  Gathering(std::shared_ptr<AsyncCall> call, v1::CheckWiringResponse* response, Plan plan)
      : call_(std::move(call)),
        response_(response),
        absent_(std::move(plan.absent)),
        found_(plan.gateways.size()),
        open_(plan.gateways.size()) {}

  void Found(size_t gateway, std::vector<v1::WiringCanary> canaries) {
    {
      MutexLock lock(mutex_);
      found_[gateway] = std::move(canaries);
      if (--open_ > 0) return;
    }
    Answer();
  }

  void Answer() {
    if (!call_->Claim()) return;
    std::vector<v1::WiringCanary> all = absent_;
    {
      MutexLock lock(mutex_);
      for (auto& canaries : found_)
        std::move(canaries.begin(), canaries.end(), std::back_inserter(all));
    }
    bool ok = true;
    for (v1::WiringCanary& canary : all) {
      ok = ok && canary.step() == v1::WIRING_STEP_ARRIVED;
      *response_->add_canaries() = std::move(canary);
    }
    response_->set_ok(ok);
    call_->Succeed();
  }

 private:
  const std::shared_ptr<AsyncCall> call_;
  v1::CheckWiringResponse* const response_;
  const std::vector<v1::WiringCanary> absent_;
  Mutex mutex_;
  std::vector<std::vector<v1::WiringCanary>> found_ ABSL_GUARDED_BY(mutex_);
  size_t open_ ABSL_GUARDED_BY(mutex_);
};

// Holds the checks of a call: the end of the call ends them.
class Checks : public delivery::Cancellation {
 public:
  explicit Checks(std::vector<std::shared_ptr<WiringCheck>> checks) : checks_(std::move(checks)) {}
  ~Checks() override {
    for (const auto& check : checks_) check->Abandon();
  }

 private:
  const std::vector<std::shared_ptr<WiringCheck>> checks_;
};

// Erases a page of threads after the other, the first one again and again, for erased threads leave
// it.
class Sweep : public std::enable_shared_from_this<Sweep> {
 public:
  Sweep(log::Log* log, std::function<void(absl::Status)> done)
      : log_(log), done_(std::move(done)) {}

  void NextPage() {
    log_->ListThreads(UserId(kCanaryUser), "", kSweepPage,
                      [self = shared_from_this()](absl::StatusOr<log::ThreadPage> page) {
                        if (!page.ok()) return self->done_(page.status());
                        self->page_ = std::move(page->threads);
                        self->EraseNext();
                      });
  }

 private:
  void EraseNext() {
    if (page_.empty()) return done_(absl::OkStatus());
    log_->Erase(page_.back().thread, [self = shared_from_this()](absl::StatusOr<bool> erased) {
      if (!erased.ok()) return self->done_(erased.status());
      self->page_.pop_back();
      if (self->page_.empty()) return self->NextPage();
      self->EraseNext();
    });
  }

  log::Log* const log_;
  const std::function<void(absl::Status)> done_;
  std::vector<log::ThreadState> page_;  // one step at a time
};

}  // namespace

grpc::ServerUnaryReactor* CheckWiring(Core& core, grpc::CallbackServerContext* context,
                                      const v1::CheckWiringRequest* request,
                                      v1::CheckWiringResponse* response) {
  auto call = AsyncCall::Start(core, CallFacts(*context, "CheckWiring").Context(), *request, Check);
  if (!call->open()) return call->reactor();
  const auto timeout = request->has_timeout() ? ToNanoseconds(request->timeout()) : kDefaultTimeout;
  Plan plan = PlanFor(*request, core.delivery->Gateways());
  const std::vector<GatewayId> gateways = plan.gateways;
  auto gathering = std::make_shared<Gathering>(call, response, std::move(plan));
  if (gateways.empty()) {
    gathering->Answer();
    return call->reactor();
  }
  std::vector<std::shared_ptr<WiringCheck>> checks;
  checks.reserve(gateways.size());
  for (size_t i = 0; i < gateways.size(); ++i) {
    checks.push_back(std::make_shared<WiringCheck>(
        core, gateways[i], timeout, [gathering, i](std::vector<v1::WiringCanary> canaries) {
          gathering->Found(i, std::move(canaries));
        }));
  }
  call->Hold(std::make_unique<Checks>(checks));
  for (const auto& check : checks) check->Begin();
  return call->reactor();
}

void SweepCanaries(log::Log* log, std::function<void(absl::Status)> done) {
  std::make_shared<Sweep>(log, std::move(done))->NextPage();
}

}  // namespace clarion::front
