#include "service/service.h"

#include <atomic>
#include <chrono>
#include <future>
#include <string_view>
#include <thread>
#include <utility>

#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/resource_quota.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "proto/base/scheduler.h"
#include "proto/base/text.h"
#include "proto/contract/received.h"
#include "service/checked_options.h"
#include "service/delivery/delivery.h"
#include "service/delivery/grpc_link_server.h"
#include "service/front/core.h"
#include "service/front/event_service.h"
#include "service/front/wiring.h"
#include "service/log/embedded_log.h"
#include "service/runs/run_protocol.h"
#include "service/runs/start_run.h"
#include "telemetry/log.h"
#include "telemetry/runtime/admin_server.h"
#include "telemetry/runtime/thread_scheduler.h"

namespace clarion::service {
namespace {

constexpr size_t kQuotaBytes = 512u * 1024 * 1024;
constexpr int kConcurrentStreams = 10'000;
constexpr int kLeastPingIntervalMs = 5'000;
constexpr std::chrono::seconds kSweepPatience{10};
// Once the service stops: how long the log may take to answer the calls under way, ...
constexpr std::chrono::seconds kCallPatience{5};
// ... and peers may take to hear of it; one that waits for nothing may not look.
constexpr std::chrono::seconds kPeerPatience{1};

std::string AddressOf(const HostPort& listen) {
  const bool v6 = listen.host.find(':') != std::string::npos;
  return v6 ? Concat("[", listen.host, "]:", listen.port) : Concat(listen.host, ":", listen.port);
}

log::EmbeddedOptions LogOptionsOf(const ServiceOptions& options, std::string path,
                                  Scheduler* scheduler) {
  log::EmbeddedOptions log;
  log.path = std::move(path);
  log.env = options.log_env;
  log.scheduler = scheduler;
  log.retention.age = std::chrono::hours(options.retention_hours);
  log.retention.critical_age = std::chrono::hours(options.retention_critical_hours);
  log.retention.max_events = options.thread_max_events;
  log.retention.max_bytes = options.thread_max_bytes;
  log.max_open_runs = options.max_open_runs;
  log.tombstone_age = std::chrono::hours(24 * options.tombstone_days);
  log.purge_after = std::chrono::minutes(options.purge_minutes);
  return log;
}

front::Options FrontOptionsOf(const ServiceOptions& options) {
  front::Options front;
  front.production = options.production;
  front.supervisor.lease = std::chrono::seconds(options.run_lease_seconds);
  front.run_rules = *runs::RunRulesOf(options.run_protocol);
  front.retention = std::chrono::hours(options.retention_hours);
  front.intake.retention_critical = std::chrono::hours(options.retention_critical_hours);
  front.intake.max_event_bytes = options.max_event_bytes;
  if (options.encoder) front.intake.encoder = options.encoder;
  return front;
}

void EnablePlugins() {
  // For the whole process, before the first server is built.
  [[maybe_unused]] static const bool once = [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    return true;
  }();
}

void Tune(grpc::ServerBuilder& builder) {
  grpc::ResourceQuota quota("clarion");
  quota.Resize(kQuotaBytes);
  builder.SetResourceQuota(quota);
  builder.SetMaxReceiveMessageSize(static_cast<int>(kMaxReceiveBytes));
  builder.SetMaxSendMessageSize(-1);  // answers are bounded where they are made
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kConcurrentStreams);
  // Backends keep idle channels alive through load balancers as they like.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kLeastPingIntervalMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, 0);
  // A port that another service holds is a mistake, not something to share.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
}

// The parts in the order of their making; destroyed the other way round.
class App final : public ServiceApp {
 public:
  explicit App(ServiceOptions options) : options_(std::move(options)) {}
  ~App() override { Stop(); }

  absl::Status Begin() {
    auto checked = CheckOptions(options_);
    if (!checked.ok()) return checked.status();
    if (absl::Status status = OpenLog(checked->log_path); !status.ok()) return status;
    Wire();
    if (absl::Status status = Sweep(); !status.ok()) return status;
    if (absl::Status status = Listen(checked->listen, checked->credentials); !status.ok())
      return status;
    if (absl::Status status = StartAdmin(checked->admin_listen); !status.ok()) return status;
    Serve();
    return absl::OkStatus();
  }

  link::Service* link_service() override { return delivery_.get(); }
  uint16_t grpc_port() const override { return static_cast<uint16_t>(port_); }
  uint16_t admin_port() const override { return admin_ ? admin_->port() : 0; }

  // From the outside to the inside: each part stops when nobody above it calls it any more.
  void Stop() override {
    if (std::exchange(stopped_, true)) return;
    ready_.store(false);
    if (server_) SetHealth(false);
    if (core_) core_->StopServing();
    if (core_) core_->supervisor->Stop();
    if (link_server_) link_server_->Stop();
    if (delivery_) delivery_->Stop();
    if (server_) {
      if (!core_->unanswered.WasEmptyWithin(kCallPatience)) {
        const absl::Status writable = log_->Writable();
        Log(Severity::kError,
            "the log has not answered everything it took: calls are ended, the stop waits for it",
            {{"cause", writable.ok() ? "a read from the disk takes long"
                                     : std::string(writable.message())}});
      }
      std::this_thread::sleep_for(options_.last_answers);
      server_->Shutdown(std::chrono::system_clock::now() + kPeerPatience);
      server_->Wait();
    }
    if (core_) core_->gate.WaitUntilEmpty();
    if (log_) log_->Close();
    if (server_) Log(Severity::kInfo, "service stopped");
    admin_.reset();
  }

 private:
  absl::Status OpenLog(std::string path) {
    scheduler_ = MakeThreadScheduler();
    auto log = log::OpenEmbeddedLog(LogOptionsOf(options_, std::move(path), scheduler_.get()));
    if (!log.ok()) return Mistake("--log-url", ToStd(log.status().message()));
    log_ = *std::move(log);
    return absl::OkStatus();
  }

  void Wire() {
    delivery::Options delivery;
    delivery.service_id = runs::RandomHex();
    delivery.connections_per_user = options_.max_user_connections;
    delivery.resting_connections = options_.max_resting_connections;
    delivery.claims_per_user = options_.max_user_claims;
    delivery.all_threads = options_.max_all_threads;
    delivery.pages_at_once = options_.max_pages;
    delivery.page_threads = 1;
    delivery_ = delivery::Delivery::Create(std::move(delivery), log_.get(), scheduler_.get());
    core_ = std::make_unique<front::Core>(FrontOptionsOf(options_), log_.get(), delivery_.get(),
                                          scheduler_.get());
    log_->WatchRuns(core_->supervisor.get());
    events_ = std::make_unique<front::EventService>(core_.get());
    if (!options_.serve_link) return;
    link::GrpcLinkServerOptions link;
    link.scheduler = scheduler_.get();
    link_server_ = link::MakeGrpcLinkServer(delivery_.get(), link);
  }

  absl::Status Sweep() {
    auto swept = std::make_shared<std::promise<absl::Status>>();
    auto result = swept->get_future();
    front::SweepCanaries(log_.get(), [swept](const absl::Status& s) { swept->set_value(s); });
    if (result.wait_for(kSweepPatience) != std::future_status::ready) {
      return Mistake("--log-url", "the log does not answer");
    }
    const absl::Status status = result.get();
    return status.ok() ? status : Mistake("--log-url", ToStd(status.message()));
  }

  absl::Status Listen(const HostPort& listen,
                      const std::shared_ptr<grpc::ServerCredentials>& credentials) {
    EnablePlugins();
    grpc::ServerBuilder builder;
    Tune(builder);
    builder.AddListeningPort(AddressOf(listen), credentials, &port_);
    builder.RegisterService(events_.get());
    if (link_server_) builder.RegisterService(link_server_.get());
    server_ = builder.BuildAndStart();
    if (server_ == nullptr || port_ == 0) {
      return Mistake("--listen", Concat("cannot listen on ", options_.listen,
                                        "; is another service running there?"));
    }
    SetHealth(false);
    return absl::OkStatus();
  }

  absl::Status StartAdmin(const HostPort& listen) {
    AdminOptions admin{.listen = listen, .ready = [this] { return Ready(); }};
    auto started = AdminServer::Start(std::move(admin));
    if (!started.ok()) return Mistake("--admin-listen", ToStd(started.status().message()));
    admin_ = *std::move(started);
    return absl::OkStatus();
  }

  void Serve() {
    core_->StartServing();
    core_->supervisor->Start();
    SetHealth(true);
    ready_.store(true);
    Log(Severity::kInfo, "service ready",
        {{"grpc_port", Concat(port_)}, {"log_url", options_.log_url}});
  }

  absl::Status Ready() const {
    if (!ready_.load()) return absl::UnavailableError("starting or stopping");
    return log_->Writable();
  }

  void SetHealth(bool serving) {
    auto* health = server_->GetHealthCheckService();
    if (health == nullptr) return;
    health->SetServingStatus(serving);  // the server as a whole
    health->SetServingStatus(v1::EventService::service_full_name(), serving);
  }

  const ServiceOptions options_;
  std::unique_ptr<Scheduler> scheduler_;
  std::unique_ptr<log::Log> log_;
  std::unique_ptr<delivery::Delivery> delivery_;
  std::unique_ptr<front::Core> core_;
  std::unique_ptr<front::EventService> events_;
  std::unique_ptr<link::GrpcLinkServer> link_server_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<AdminServer> admin_;
  int port_ = 0;
  std::atomic<bool> ready_{false};
  bool stopped_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ServiceApp>> ServiceApp::Start(ServiceOptions options) {
  auto app = std::make_unique<App>(std::move(options));
  if (absl::Status status = app->Begin(); !status.ok()) return status;
  return app;
}

}  // namespace clarion::service
