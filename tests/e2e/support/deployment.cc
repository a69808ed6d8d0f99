#include "tests/e2e/support/deployment.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>

#include "gtest/gtest.h"

#ifndef CLARION_BIN_DIR
#error "the build says where the programs are"
#endif

namespace clarion::testing {
namespace {

std::string Base64Url(std::string_view bytes) {
  std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  out.resize(EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                             reinterpret_cast<const unsigned char*>(bytes.data()),
                             static_cast<int>(bytes.size())));
  while (!out.empty() && out.back() == '=') out.pop_back();
  for (char& c : out) c = c == '+' ? '-' : c == '/' ? '_' : c;
  return out;
}

std::string Loopback(uint16_t port) {
  return "127.0.0.1:" + std::to_string(port);
}

void Append(std::vector<std::string>& to, const std::vector<std::string>& from) {
  to.insert(to.end(), from.begin(), from.end());
}

}  // namespace

std::string NameOf(Form form) {
  return form == Form::kOneProcess ? "OneProcess" : "TwoProcesses";
}

std::string SignToken(const std::string& secret, const std::string& claims_json) {
  const std::string input =
      Base64Url(R"({"alg":"HS256","typ":"JWT"})") + "." + Base64Url(claims_json);
  unsigned char mac[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
       reinterpret_cast<const unsigned char*>(input.data()), input.size(), mac, &size);
  return input + "." + Base64Url({reinterpret_cast<char*>(mac), size});
}

Deployment::Deployment(Form form, std::vector<std::string> service_arguments,
                       std::vector<std::string> gateway_arguments,
                       std::filesystem::path service_program)
    : secret_("a secret of thirty-two bytes, at least"),
      grpc_port_(FreePort()),
      stream_port_(FreePort()),
      service_admin_port_(FreePort()),
      gateway_admin_port_(FreePort()) {
  const std::filesystem::path bin(CLARION_BIN_DIR);
  std::vector<std::string> service = {"--log-url",      "embedded:" + (dir() / "log").string(),
                                      "--listen",       Loopback(grpc_port_),
                                      "--admin-listen", Loopback(service_admin_port_)};
  std::vector<std::string> gateway = {"--token-secret", secret_};
  // Most tests have nothing to do with what follows what in a run.
  if (std::find(service_arguments.begin(), service_arguments.end(), "--run-protocol") ==
      service_arguments.end()) {
    Append(service, {"--run-protocol", "off"});
  }
  Append(service, service_arguments);
  Append(gateway, gateway_arguments);
  if (form == Form::kOneProcess) {
    Append(service, {"--gateway-listen", Loopback(stream_port_), "--gateway-admin-listen",
                     Loopback(gateway_admin_port_)});
    Append(service, gateway);
    service_ =
        std::make_unique<Program>(bin / "clarion" / "clarion", service, dir() / "clarion.log");
    return;
  }
  Append(gateway, {"--listen", Loopback(stream_port_), "--admin-listen",
                   Loopback(gateway_admin_port_), "--service", Loopback(grpc_port_)});
  if (service_program.empty()) service_program = bin / "service" / "clarion-service";
  service_ = std::make_unique<Program>(service_program, service, dir() / "service.log");
  gateway_ = std::make_unique<Program>(bin / "gateway" / "clarion-gateway", gateway,
                                       dir() / "gateway.log");
}

void Deployment::Start() {
  StartService();
  if (!one_process()) StartGateway();
}

void Deployment::StartService() {
  service_->Start();
  WaitUntilServing(*service_, service_admin_port_, "/readyz");
  if (one_process()) WaitUntilServing(*service_, gateway_admin_port_, "/readyz");
}

void Deployment::StartGateway() {
  gateway_->Start();
  WaitUntilServing(*gateway_, gateway_admin_port_, "/readyz");
}

void Deployment::Gateway::Start() {
  program->Start();
  WaitUntilServing(*program, admin_port, "/readyz");
}

Deployment::Gateway& Deployment::AddGateway(const std::vector<std::string>& arguments) {
  Gateway& gateway = more_gateways_.emplace_back();
  gateway.stream_port = FreePort();
  gateway.admin_port = FreePort();
  std::vector<std::string> all = {"--token-secret", secret_,
                                  "--listen",       Loopback(gateway.stream_port),
                                  "--admin-listen", Loopback(gateway.admin_port),
                                  "--service",      Loopback(grpc_port_)};
  Append(all, arguments);
  const std::string log = "gateway-" + std::to_string(more_gateways_.size() + 1) + ".log";
  gateway.program = std::make_unique<Program>(
      std::filesystem::path(CLARION_BIN_DIR) / "gateway" / "clarion-gateway", all, dir() / log);
  gateway.Start();
  return gateway;
}

std::shared_ptr<grpc::Channel> Deployment::Channel() const {
  static std::atomic<int> unique = 0;
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt("clarion.test.channel", ++unique);  // no sharing of subchannels
  auto channel = grpc::CreateCustomChannel(target(), grpc::InsecureChannelCredentials(), arguments);
  // A call does not wait for a connection that is tried again, and gRPC 1.51 now and then takes one
  // that is on its way for a failed one (it reads errno too late: grpc/grpc#35064).
  EXPECT_TRUE(
      channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(60)));
  return channel;
}

std::unique_ptr<v1::EventService::Stub> Deployment::Stub() const {
  return v1::EventService::NewStub(Channel());
}

std::string Deployment::Token(const std::string& user, int64_t seconds) const {
  const int64_t now = std::time(nullptr);
  return SignToken(secret_, R"({"sub":")" + user + R"(","iat":)" + std::to_string(now) +
                                R"(,"exp":)" + std::to_string(now + seconds) + "}");
}

}  // namespace clarion::testing
