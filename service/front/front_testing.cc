#include "service/front/front_testing.h"

#include <cstdlib>
#include <random>

#include "google/protobuf/unknown_field_set.h"

namespace clarion::front {

// ---- FakeGateway ----

std::shared_ptr<FakeGateway> FakeGateway::Attach(link::Service* service, const std::string& id,
                                                 Behaviour behaviour) {
  std::shared_ptr<FakeGateway> gateway(new FakeGateway(behaviour));
  gateway->session_ = service->OnAttached(gateway);
  gateway->thread_ = std::thread([raw = gateway.get()] { raw->Run(); });
  v1::GatewayMessage hello;
  hello.mutable_hello()->set_gateway_id(id);
  hello.mutable_hello()->add_versions(1);
  hello.mutable_hello()->set_want_json(true);
  gateway->Say(std::move(hello));
  return gateway;
}

FakeGateway::~FakeGateway() {
  if (thread_.joinable()) Detach();
}

void FakeGateway::Detach() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  arrived_.notify_all();
  if (thread_.joinable()) thread_.join();
  std::shared_ptr<link::GatewaySession> session;
  {
    std::lock_guard lock(say_mutex_);
    session = std::move(session_);
  }
  if (session) session->OnDetached(absl::UnavailableError("the test detached it"));
}

void FakeGateway::Say(v1::GatewayMessage message) {
  std::lock_guard lock(say_mutex_);
  if (session_) session_->OnMessages({std::move(message)});
}

void FakeGateway::Connect(const std::string& user, const std::string& connection) {
  v1::GatewayMessage message;
  auto* opened = message.mutable_connection_opened();
  opened->set_connection_id(connection);
  opened->set_user_id(user);
  opened->set_transport(v1::TRANSPORT_WEBSOCKET);
  opened->mutable_connected_at()->set_seconds(1'700'000'000);
  Say(std::move(message));
}

void FakeGateway::Disconnect(const std::string& connection) {
  v1::GatewayMessage message;
  message.mutable_connection_closed()->set_connection_id(connection);
  message.mutable_connection_closed()->set_state(v1::CONNECTION_STATE_DISCONNECTED);
  message.mutable_connection_closed()->set_reason("normal");
  Say(std::move(message));
}

void FakeGateway::Subscribe(const std::string& connection, const std::string& thread) {
  v1::GatewayMessage message;
  {
    std::lock_guard lock(mutex_);
    message.mutable_subscribe()->set_subscription_id(++last_subscription_);
    subscription_of_[thread] = last_subscription_;
  }
  message.mutable_subscribe()->set_connection_id(connection);
  message.mutable_subscribe()->set_thread_id(thread);
  Say(std::move(message));
}

void FakeGateway::Ack(const std::string& thread, const std::string& epoch, uint64_t offset) {
  v1::GatewayMessage message;
  v1::AckThread& ack = *message.mutable_ack();
  {
    std::lock_guard lock(mutex_);
    ack.set_subscription_id(subscription_of_.at(thread));
    ack.set_ack_id(++last_ack_);
  }
  ack.mutable_position()->set_epoch(epoch);
  ack.mutable_position()->set_offset(offset);
  ack.set_last_sent_offset(offset);
  Say(std::move(message));
}

size_t FakeGateway::live_events() {
  return live_events_.load();
}

bool FakeGateway::SendLive(link::Live live) {
  {
    std::lock_guard lock(mutex_);
    inbox_.emplace_back(std::move(live));
  }
  arrived_.notify_all();
  return true;
}

void FakeGateway::SendControl(v1::ServiceMessage message) {
  {
    std::lock_guard lock(mutex_);
    inbox_.emplace_back(std::move(message));
  }
  arrived_.notify_all();
}

void FakeGateway::Close(absl::Status status) {
  std::shared_ptr<link::GatewaySession> session;
  {
    std::lock_guard lock(say_mutex_);
    session = std::move(session_);
  }
  if (session) session->OnDetached(status);
}

void FakeGateway::Run() {
  for (;;) {
    link::ToGateway message;
    {
      std::unique_lock lock(mutex_);
      arrived_.wait(lock, [this] { return stop_ || !inbox_.empty(); });
      if (stop_) return;
      message = std::move(inbox_.front());
      inbox_.pop_front();
    }
    Handle(message);
  }
}

void FakeGateway::Handle(const link::ToGateway& message) {
  if (const auto* control = std::get_if<v1::ServiceMessage>(&message))
    return HandleControl(*control);
  HandleLive(std::get<link::Live>(message));
}

void FakeGateway::HandleControl(const v1::ServiceMessage& message) {
  v1::GatewayMessage answer;
  if (message.has_started() && !message.started().claim()) {
    if (!behaviour_.confirm) return;
    const uint64_t subscription = message.started().subscription_id();
    answer.mutable_confirmed()->set_subscription_id(subscription);
    Say(answer);
    if (const auto bind = binds_.find(subscription); bind != binds_.end()) {
      answer.mutable_bind_result()->set_bind_id(bind->second);
      answer.mutable_bind_result()->set_outcome(v1::BIND_OUTCOME_CONFIRMED);
      Say(answer);
    }
    if (const auto check = canary_checks_.find(subscription); check != canary_checks_.end()) {
      Report(check->second, v1::WIRING_STEP_SOCKET, "");
    }
  } else if (message.has_bind()) {
    uint64_t subscription = 0;
    {
      std::lock_guard lock(mutex_);
      subscription = ++last_subscription_;
      subscription_of_[message.bind().thread_id()] = subscription;
    }
    binds_[subscription] = message.bind().bind_id();
    answer.mutable_subscribe()->set_subscription_id(subscription);
    answer.mutable_subscribe()->set_connection_id(message.bind().connection_id());
    answer.mutable_subscribe()->set_thread_id(message.bind().thread_id());
    Say(answer);
  } else if (message.has_probe() && behaviour_.answers_probes) {
    answer.mutable_probe_answered()->set_connection_id(message.probe().connection_id());
    answer.mutable_probe_answered()->set_nonce(message.probe().nonce());
    Say(answer);
  } else if (message.has_await_sent() && behaviour_.sends) {
    v1::SentThread& sent = *answer.mutable_events_sent()->add_threads();
    sent.set_thread_id(message.await_sent().thread_id());
    *sent.mutable_position() = message.await_sent().position();
    sent.set_from_offset(1);
    Say(answer);
  } else if (message.has_open_canary()) {
    OpenCanary(message.open_canary());
  }
}

void FakeGateway::OpenCanary(const v1::OpenCanary& open) {
  if (behaviour_.canary == Behaviour::Canary::kSilent) return;
  if (behaviour_.canary == Behaviour::Canary::kCannotConnect) {
    return Report(open.check_id(), v1::WIRING_STEP_CONNECT, "");
  }
  const std::string connection = "canary-" + open.check_id();
  Connect("_clarion", connection);
  v1::GatewayMessage message;
  {
    std::lock_guard lock(mutex_);
    message.mutable_subscribe()->set_subscription_id(++last_subscription_);
  }
  canary_checks_[message.subscribe().subscription_id()] = open.check_id();
  canary_threads_[open.thread_id()] = open.check_id();
  message.mutable_subscribe()->set_connection_id(connection);
  message.mutable_subscribe()->set_thread_id(open.thread_id());
  Say(std::move(message));
}

void FakeGateway::HandleLive(const link::Live& live) {
  live_events_ += live.events.size();
  const auto check = canary_threads_.find(live.thread.str());
  if (check == canary_threads_.end() || behaviour_.canary == Behaviour::Canary::kBlind) return;
  for (const EventPtr& event : live.events) {
    constexpr std::string_view kBegin = "\"type\":\"";
    std::string_view json = event->json().substr(kBegin.size());
    Report(check->second, v1::WIRING_STEP_ARRIVED, std::string(json.substr(0, json.find('"'))));
  }
}

void FakeGateway::Report(const std::string& check, v1::WiringStep step, const std::string& type) {
  v1::GatewayMessage message;
  message.mutable_canary_report()->set_check_id(check);
  message.mutable_canary_report()->set_step(step);
  message.mutable_canary_report()->set_type(type);
  Say(std::move(message));
}

// ---- FrontTest ----

void FrontTest::Start() {
  if (folder_.empty()) {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "clarion-front-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    options_.log_url = "embedded:" + (folder_ / "log").string();
    options_.listen = "127.0.0.1:0";
    options_.last_answers = {};  // there are many starts and stops
    options_.admin_listen = "127.0.0.1:0";
  }
  auto app = service::ServiceApp::Start(options_);
  ASSERT_TRUE(app.ok()) << app.status();
  app_ = *std::move(app);
  stub_ =
      v1::EventService::NewStub(grpc::CreateChannel(Target(), grpc::InsecureChannelCredentials()));
}

void FrontTest::Stop() {
  for (const auto& gateway : gateways_) gateway->Detach();
  gateways_.clear();
  if (app_) app_->Stop();
  stub_.reset();
  app_.reset();
}

void FrontTest::TearDown() {
  Stop();
  if (!folder_.empty()) std::filesystem::remove_all(folder_);
}

std::shared_ptr<FakeGateway> FrontTest::Gateway(const std::string& id,
                                                FakeGateway::Behaviour behaviour) {
  gateways_.push_back(FakeGateway::Attach(app_->link_service(), id, behaviour));
  return gateways_.back();
}

v1::PublishResponse FrontTest::MustPublish(const v1::PublishRequest& request) {
  v1::PublishResponse response;
  EXPECT_THAT(Call(&Stub::Publish, request, &response), IsOk());
  return response;
}

v1::StartRunResponse FrontTest::MustStartRun(const v1::StartRunRequest& request) {
  v1::StartRunResponse response;
  EXPECT_THAT(Call(&Stub::StartRun, request, &response), IsOk());
  return response;
}

v1::ListEventsResponse FrontTest::MustListEvents(const v1::ListEventsRequest& request) {
  v1::ListEventsResponse response;
  EXPECT_THAT(Call(&Stub::ListEvents, request, &response), IsOk());
  return response;
}

// ---- Requests ----

namespace {

v1::PublishRequest Bare(const std::string& event_id, const std::string& run,
                        const std::string& thread, const std::string& user) {
  v1::PublishRequest request;
  v1::Event& event = *request.mutable_event();
  event.set_event_id(event_id);
  event.set_user_id(user);
  event.set_thread_id(thread);
  event.set_run_id(run);
  event.set_agent_name("agent");
  return request;
}

}  // namespace

v1::PublishRequest Delta(const std::string& event_id, const std::string& thread,
                         const std::string& user) {
  v1::PublishRequest request = Bare(event_id, "r", thread, user);
  auto* delta = request.mutable_event()->mutable_agent_message_delta();
  delta->set_message_id("m");
  delta->set_role("assistant");
  delta->set_delta("hello");
  return request;
}

v1::PublishRequest Started(const std::string& run, const std::string& thread) {
  v1::PublishRequest request = Bare("start-" + run, run, thread, kUser);
  request.mutable_event()->mutable_agent_started();
  return request;
}

v1::PublishRequest Completed(const std::string& run, const std::string& thread) {
  v1::PublishRequest request = Bare("end-" + run, run, thread, kUser);
  request.mutable_event()->mutable_agent_completed()->set_outcome(v1::RUN_OUTCOME_SUCCESS);
  return request;
}

v1::StartRunRequest RunRequest(const std::string& request_id, const std::string& run,
                               const std::string& thread) {
  v1::StartRunRequest request;
  request.set_request_id(request_id);
  request.set_user_id(kUser);
  request.set_thread_id(thread);
  request.set_run_id(run);
  request.set_agent_name("agent");
  return request;
}

std::optional<Reason> ReasonIn(const grpc::Status& status) {
  return ReasonOf(FromGrpc(status));
}

std::vector<std::string> FieldsIn(const grpc::Status& status) {
  std::vector<std::string> fields;
  for (const FieldViolation& violation : ViolationsOf(FromGrpc(status))) {
    fields.push_back(violation.field);
  }
  return fields;
}

void AddUnknown(google::protobuf::Message* message) {
  message->GetReflection()->MutableUnknownFields(message)->AddVarint(999, 1);
}

}  // namespace clarion::front
