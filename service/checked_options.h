// What ServiceOptions say once they are checked and their files are read. Nothing is opened,
// created or bound by then.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "grpcpp/security/server_credentials.h"
#include "service/service.h"
#include "telemetry/runtime/flags.h"

namespace clarion::service {

struct CheckedOptions {
  HostPort listen;
  HostPort admin_listen;
  std::string log_path;
  std::shared_ptr<grpc::ServerCredentials> credentials;
};

// What is wrong with a flag.
absl::Status Mistake(std::string_view flag, std::string_view what);

// The error is one sentence that names the flag to mend.
absl::StatusOr<CheckedOptions> CheckOptions(const ServiceOptions& options);

}  // namespace clarion::service
