// What the front's tests share: the whole service on a port of its own, a client, a gateway played
// by the test.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "clarion/v1/event_service.grpc.pb.h"
#include "gmock/gmock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "proto/contract/error.h"
#include "proto/link/link.h"
#include "service/service.h"

namespace clarion::front {

// Longer than anything here takes; a test that reaches it fails.
inline constexpr std::chrono::seconds kPatience{20};

// A gateway loop as the service sees it. It confirms each subscription that starts, and follows
// what it is told to bind. Messages are handled on a thread of its own, as a link's are.
class FakeGateway : public link::Attachment, public std::enable_shared_from_this<FakeGateway> {
 public:
  struct Behaviour {
    bool confirm = true;
    // Its pages answer probes, and its sockets take what is sent at once.
    bool answers_probes = true;
    bool sends = true;
    // What it says of a canary: nothing, that the connection failed, or what really happens.
    enum class Canary { kSilent, kCannotConnect, kHonest, kBlind } canary = Canary::kHonest;
  };

  static std::shared_ptr<FakeGateway> Attach(link::Service* service, const std::string& id,
                                             Behaviour behaviour);
  static std::shared_ptr<FakeGateway> Attach(link::Service* service, const std::string& id) {
    return Attach(service, id, Behaviour{});
  }
  ~FakeGateway() override;
  // Before the service stops, or after.
  void Detach();

  void Connect(const std::string& user, const std::string& connection);
  void Disconnect(const std::string& connection);
  void Subscribe(const std::string& connection, const std::string& thread);
  // By the last subscription of `thread`, as if everything up to `offset` had been sent.
  void Ack(const std::string& thread, const std::string& epoch, uint64_t offset);
  size_t live_events();

  bool SendLive(link::Live live) override;
  void SendControl(v1::ServiceMessage message) override;
  void Close(absl::Status status) override;
  std::string peer() const override { return "a test"; }

 private:
  explicit FakeGateway(Behaviour behaviour) : behaviour_(behaviour) {}
  void Say(v1::GatewayMessage message);
  void Handle(const link::ToGateway& message);
  void HandleControl(const v1::ServiceMessage& message);
  void HandleLive(const link::Live& live);
  void OpenCanary(const v1::OpenCanary& open);
  void Report(const std::string& check, v1::WiringStep step, const std::string& type);
  void Run();

  const Behaviour behaviour_;
  std::shared_ptr<link::GatewaySession> session_;
  std::mutex mutex_;
  std::recursive_mutex
      say_mutex_;  // calls of the session come one at a time; Close may come inside one
  std::condition_variable arrived_;
  std::deque<link::ToGateway> inbox_;
  bool stop_ = false;
  std::thread thread_;
  // Of the handling thread and of the test, under say_mutex_.
  uint64_t last_subscription_ = 0;
  uint64_t last_ack_ = 0;
  std::map<std::string, uint64_t> subscription_of_;    // by thread
  std::map<uint64_t, uint64_t> binds_;                 // subscription -> bind
  std::map<uint64_t, std::string> canary_checks_;      // subscription -> check
  std::map<std::string, std::string> canary_threads_;  // thread -> check
  std::atomic<size_t> live_events_{0};
};

class FrontTest : public testing::Test {
 protected:
  using Stub = v1::EventService::Stub;

  // Most tests have nothing to do with what follows what in a run; run_protocol_test.cc does.
  FrontTest() { options_.run_protocol = "off"; }
  void SetUp() override { Start(); }
  void TearDown() override;

  void Start();
  void Stop();
  void Restart() {
    Stop();
    Start();
  }
  std::shared_ptr<FakeGateway> Gateway(const std::string& id,
                                       FakeGateway::Behaviour behaviour = {});
  std::string Target() const { return "127.0.0.1:" + std::to_string(app_->grpc_port()); }

  template <class Request, class Response>
  grpc::Status Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kPatience);
    if (!traceparent_.empty()) context.AddMetadata("traceparent", traceparent_);
    return (stub_.get()->*method)(&context, request, response);
  }
  template <class Request, class Response>
  grpc::Status Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const Request& request) {
    Response response;
    return Call(method, request, &response);
  }
  v1::PublishResponse MustPublish(const v1::PublishRequest& request);
  grpc::Status Publish(const v1::PublishRequest& request) { return Call(&Stub::Publish, request); }
  v1::StartRunResponse MustStartRun(const v1::StartRunRequest& request);
  grpc::Status StartRun(const v1::StartRunRequest& request) {
    return Call(&Stub::StartRun, request);
  }
  v1::ListEventsResponse MustListEvents(const v1::ListEventsRequest& request);

  service::ServiceOptions options_;
  std::unique_ptr<service::ServiceApp> app_;
  std::unique_ptr<Stub> stub_;
  std::string traceparent_;

 private:
  std::filesystem::path folder_;
  std::vector<std::shared_ptr<FakeGateway>> gateways_;
};

inline constexpr char kUser[] = "ada";
inline constexpr char kThread[] = "t-1";

// A delta of run `r` in `thread`.
v1::PublishRequest Delta(const std::string& event_id, const std::string& thread = kThread,
                         const std::string& user = kUser);
v1::PublishRequest Started(const std::string& run, const std::string& thread = kThread);
v1::PublishRequest Completed(const std::string& run, const std::string& thread = kThread);
v1::StartRunRequest RunRequest(const std::string& request_id, const std::string& run = "run",
                               const std::string& thread = kThread);

std::optional<Reason> ReasonIn(const grpc::Status& status);
std::vector<std::string> FieldsIn(const grpc::Status& status);
// Adds a field that nobody knows.
void AddUnknown(google::protobuf::Message* message);

MATCHER_P(RefusedAs, reason, "refused as " + std::string(NameOf(reason))) {
  *result_listener << "which is " << arg.error_code() << " " << arg.error_message();
  return ReasonIn(arg) == std::optional<Reason>(reason) &&
         static_cast<int>(arg.error_code()) == static_cast<int>(RowOf(reason).code);
}
MATCHER_P(NamesField, field, "names the field " + std::string(field)) {
  const std::vector<std::string> fields = FieldsIn(arg);
  *result_listener << "which names " << testing::PrintToString(fields) << " and says "
                   << arg.error_message();
  return std::find(fields.begin(), fields.end(), field) != fields.end();
}
MATCHER(IsOk, "is OK") {
  *result_listener << "which is " << arg.error_code() << " " << arg.error_message();
  return arg.ok();
}

}  // namespace clarion::front
