#include "service/service.h"

#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <iterator>
#include <optional>
#include <string_view>
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
#include "service/delivery/delivery.h"
#include "service/delivery/grpc_link_server.h"
#include "service/front/core.h"
#include "service/front/event_service.h"
#include "service/front/wiring.h"
#include "service/log/embedded_log.h"
#include "service/runs/start_run.h"
#include "telemetry/log.h"
#include "telemetry/runtime/admin_server.h"
#include "telemetry/runtime/thread_scheduler.h"

namespace clarion::service {
namespace {

constexpr std::string_view kEmbedded = "embedded:";
constexpr size_t kLeastEventBytes = 1024, kMostEventBytes = 1024 * 1024;
constexpr size_t kQuotaBytes = 512u * 1024 * 1024;
constexpr int kConcurrentStreams = 10'000;
constexpr size_t kMostOpenRuns = 100;
constexpr int kLeastPingIntervalMs = 5'000;
constexpr std::chrono::seconds kSweepPatience{10};
// How long calls may go on once the service stops.
constexpr std::chrono::seconds kStopPatience{5};

absl::Status Mistake(std::string_view flag, std::string_view what) {
  return absl::InvalidArgumentError(Concat(flag, ": ", what));
}

absl::Status CheckLimits(const ServiceOptions& options) {
  if (options.max_event_bytes < kLeastEventBytes || options.max_event_bytes > kMostEventBytes) {
    return Mistake("--max-event-bytes", "must be 1024 to 1048576");
  }
  if (options.retention_hours == 0) return Mistake("--retention-hours", "must be at least 1");
  if (options.retention_critical_hours < options.retention_hours) {
    return Mistake("--retention-critical-hours", "must not be less than --retention-hours");
  }
  if (options.thread_max_bytes < options.max_event_bytes) {
    return Mistake("--thread-max-bytes", "must not be less than --max-event-bytes");
  }
  if (options.max_user_connections == 0) {
    return Mistake("--max-user-connections", "must be at least 1");
  }
  if (options.max_all_threads == 0) return Mistake("--max-all-threads", "must be at least 1");
  if (options.max_open_runs == 0 || options.max_open_runs > kMostOpenRuns) {
    return Mistake("--max-open-runs", "must be 1 to 100");
  }
  if (options.thread_max_events == 0) return Mistake("--thread-max-events", "must be at least 1");
  return absl::OkStatus();
}

// The path of an embedded log.
absl::StatusOr<std::string> LogPath(const std::string& url) {
  if (url.starts_with(kEmbedded)) {
    std::string path = url.substr(kEmbedded.size());
    if (path.empty()) return Mistake("--log-url", "embedded: needs a path, as in embedded:PATH");
    return path;
  }
  if (url.starts_with("redis://") || url.starts_with("rediss://") ||
      url.starts_with("redis+cluster://")) {
    return Mistake("--log-url", "this version does not serve the Redis log; use embedded:PATH");
  }
  return Mistake("--log-url", Concat("'", url, "' is not a log; use embedded:PATH"));
}

absl::StatusOr<std::string> ReadFile(std::string_view flag, const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (!file || text.empty()) return Mistake(flag, Concat("cannot read ", path));
  return text;
}

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> Credentials(
    const ServiceOptions& options) {
  if (options.tls_cert_file.empty() && options.tls_key_file.empty()) {
    if (!options.tls_client_ca_file.empty()) {
      return Mistake("--tls-client-ca-file", "needs --tls-cert-file and --tls-key-file");
    }
    return grpc::InsecureServerCredentials();
  }
  if (options.tls_cert_file.empty()) return Mistake("--tls-cert-file", "--tls-key-file needs it");
  if (options.tls_key_file.empty()) return Mistake("--tls-key-file", "--tls-cert-file needs it");
  auto cert = ReadFile("--tls-cert-file", options.tls_cert_file);
  if (!cert.ok()) return cert.status();
  auto key = ReadFile("--tls-key-file", options.tls_key_file);
  if (!key.ok()) return key.status();
  grpc::SslServerCredentialsOptions ssl(GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
  ssl.pem_key_cert_pairs.push_back({*std::move(key), *std::move(cert)});
  if (!options.tls_client_ca_file.empty()) {
    auto ca = ReadFile("--tls-client-ca-file", options.tls_client_ca_file);
    if (!ca.ok()) return ca.status();
    ssl.pem_root_certs = *std::move(ca);
    ssl.client_certificate_request = GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
  }
  return grpc::SslServerCredentials(ssl);
}

absl::StatusOr<HostPort> ListenAddress(std::string_view flag, const std::string& text) {
  auto address = ParseHostPort(text);
  if (!address) return Mistake(flag, Concat("'", text, "' is not HOST:PORT"));
  return *address;
}

absl::Status CheckExposure(const ServiceOptions& options, const HostPort& listen,
                           const HostPort& admin) {
  if (options.insecure) return absl::OkStatus();
  if (!IsLoopback(listen.host) && options.tls_cert_file.empty()) {
    return Mistake("--listen", Concat(options.listen,
                                      " is not loopback: give --tls-cert-file and "
                                      "--tls-key-file, or say --insecure"));
  }
  if (!IsLoopback(admin.host)) {
    return Mistake("--admin-listen", Concat(options.admin_listen,
                                            " is not loopback, and this port is plain HTTP: "
                                            "say --insecure"));
  }
  return absl::OkStatus();
}

std::string AddressOf(const HostPort& listen) {
  const bool v6 = listen.host.find(':') != std::string::npos;
  return v6 ? Concat("[", listen.host, "]:", listen.port) : Concat(listen.host, ":", listen.port);
}

log::EmbeddedOptions LogOptionsOf(const ServiceOptions& options, std::string path,
                                  Scheduler* scheduler) {
  log::EmbeddedOptions log;
  log.path = std::move(path);
  log.scheduler = scheduler;
  log.retention.age = std::chrono::hours(options.retention_hours);
  log.retention.critical_age = std::chrono::hours(options.retention_critical_hours);
  log.retention.max_events = options.thread_max_events;
  log.retention.max_bytes = options.thread_max_bytes;
  log.max_open_runs = options.max_open_runs;
  return log;
}

front::Options FrontOptionsOf(const ServiceOptions& options) {
  front::Options front;
  front.production = options.production;
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
    if (absl::Status status = CheckLimits(options_); !status.ok()) return status;
    auto listen = ListenAddress("--listen", options_.listen);
    if (!listen.ok()) return listen.status();
    auto admin = ListenAddress("--admin-listen", options_.admin_listen);
    if (!admin.ok()) return admin.status();
    if (absl::Status status = CheckExposure(options_, *listen, *admin); !status.ok()) return status;
    auto credentials = Credentials(options_);
    if (!credentials.ok()) return credentials.status();
    if (absl::Status status = OpenLog(); !status.ok()) return status;
    Wire();
    if (absl::Status status = Sweep(); !status.ok()) return status;
    if (absl::Status status = Listen(*listen, *credentials); !status.ok()) return status;
    if (absl::Status status = StartAdmin(*admin); !status.ok()) return status;
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
    if (link_server_) link_server_->Stop();
    if (delivery_) delivery_->Stop();
    if (server_) {
      server_->Shutdown(std::chrono::system_clock::now() + kStopPatience);
      server_->Wait();
    }
    if (core_) core_->gate.WaitUntilEmpty();
    if (log_) log_->Close();
    if (server_) Log(Severity::kInfo, "service stopped");
    admin_.reset();
  }

 private:
  absl::Status OpenLog() {
    auto path = LogPath(options_.log_url);
    if (!path.ok()) return path.status();
    scheduler_ = MakeThreadScheduler();
    auto log = log::OpenEmbeddedLog(LogOptionsOf(options_, *path, scheduler_.get()));
    if (!log.ok()) return Mistake("--log-url", ToStd(log.status().message()));
    log_ = *std::move(log);
    return absl::OkStatus();
  }

  void Wire() {
    delivery::Options delivery;
    delivery.service_id = runs::RandomHex();
    delivery.connections_per_user = options_.max_user_connections;
    delivery.claims_per_user = options_.max_user_claims;
    delivery.all_threads = options_.max_all_threads;
    delivery_ = delivery::Delivery::Create(std::move(delivery), log_.get(), scheduler_.get());
    core_ = std::make_unique<front::Core>(FrontOptionsOf(options_), log_.get(), delivery_.get(),
                                          scheduler_.get());
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
    AdminOptions admin{.listen = listen, .ready = [this] { return Readiness(); }};
    auto started = AdminServer::Start(std::move(admin));
    if (!started.ok()) return Mistake("--admin-listen", ToStd(started.status().message()));
    admin_ = *std::move(started);
    return absl::OkStatus();
  }

  void Serve() {
    core_->StartServing();
    SetHealth(true);
    ready_.store(true);
    Log(Severity::kInfo, "service ready",
        {{"grpc_port", Concat(port_)}, {"log_url", options_.log_url}});
  }

  absl::Status Readiness() const {
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

void ServiceOptions::AddFlags(Flags& flags) {
  flags.Add("--log-url", log_url, "Where events are kept: embedded:PATH");
  flags.Add("--listen", listen, "Where gRPC is served");
  flags.Add("--admin-listen", admin_listen, "Where /healthz, /readyz and /metrics are served");
  flags.AddSwitch("--insecure", insecure, "Allow plaintext on other than loopback addresses");
  flags.AddSwitch("--production", production, "Leave DebugInfo out of errors");
  flags.Add("--max-event-bytes", max_event_bytes, "Largest event, as JSON, in bytes");
  flags.Add("--max-user-connections", max_user_connections,
            "Connections of one user over all gateways");
  flags.Add("--max-user-claims", max_user_claims,
            "Threads that a user may wait for without owning them");
  flags.Add("--max-all-threads", max_all_threads, "Threads that `subscribe` {all} follows");
  flags.Add("--max-open-runs", max_open_runs, "Open runs of one thread");
  flags.Add("--retention-hours", retention_hours, "How long events are kept");
  flags.Add("--retention-critical-hours", retention_critical_hours,
            "How long unacknowledged critical events are kept");
  flags.Add("--thread-max-bytes", thread_max_bytes, "Bytes of events kept per thread, at most");
  flags.Add("--thread-max-events", thread_max_events, "Events kept per thread, at most");
  flags.Add("--tls-cert-file", tls_cert_file, "PEM chain of the gRPC server");
  flags.Add("--tls-key-file", tls_key_file, "PEM key of the gRPC server");
  flags.Add("--tls-client-ca-file", tls_client_ca_file,
            "PEM authorities; clients must show a certificate of theirs");
}

absl::StatusOr<std::unique_ptr<ServiceApp>> ServiceApp::Start(ServiceOptions options) {
  auto app = std::make_unique<App>(std::move(options));
  if (absl::Status status = app->Begin(); !status.ok()) return status;
  return app;
}

}  // namespace clarion::service
