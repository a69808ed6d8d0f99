// Clarion as it is shipped, on free ports of this machine: one process, or the two halves.
#pragma once

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "clarion/v1/event_service.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "tests/e2e/support/program.h"

namespace clarion::testing {

enum class Form { kOneProcess, kTwoProcesses };
std::string NameOf(Form form);

class Deployment {
 public:
  // Arguments go to the half they are for; in one process to that one. `service_program` stands for
  // clarion-service.
  explicit Deployment(Form form, std::vector<std::string> service_arguments = {},
                      std::vector<std::string> gateway_arguments = {},
                      std::filesystem::path service_program = {});

  void Start();
  // The process that holds the log, and the one that holds the browsers: the same with kOneProcess.
  void StartService();
  void StartGateway();
  Program& service() { return *service_; }
  Program& gateway() { return gateway_ ? *gateway_ : *service_; }
  bool one_process() const { return gateway_ == nullptr; }
  // One more clarion-gateway on the same service; it serves when this returns.
  struct Gateway {
    std::unique_ptr<Program> program;
    uint16_t stream_port = 0;
    uint16_t admin_port = 0;
    void Start();
  };
  Gateway& AddGateway(const std::vector<std::string>& arguments = {});

  uint16_t grpc_port() const { return grpc_port_; }
  uint16_t stream_port() const { return stream_port_; }
  uint16_t service_admin_port() const { return service_admin_port_; }
  uint16_t gateway_admin_port() const { return gateway_admin_port_; }
  std::string target() const { return "ipv4:127.0.0.1:" + std::to_string(grpc_port_); }

  // A channel of its own, connected, which tries again quickly after a restart.
  std::shared_ptr<grpc::Channel> Channel() const;
  std::unique_ptr<v1::EventService::Stub> Stub() const;

  // A token of `user`, valid for `seconds` from now.
  std::string Token(const std::string& user, int64_t seconds = 3600) const;
  const std::string& secret() const { return secret_; }
  const std::filesystem::path& dir() const { return dir_.path(); }

 private:
  TempDir dir_;
  std::string secret_;
  uint16_t grpc_port_, stream_port_, service_admin_port_, gateway_admin_port_;
  std::unique_ptr<Program> service_;
  std::unique_ptr<Program> gateway_;
  std::deque<Gateway> more_gateways_;
};

// A JSON Web Token over HMAC-SHA256, as any sign-in service makes them.
std::string SignToken(const std::string& secret, const std::string& claims_json);

}  // namespace clarion::testing
