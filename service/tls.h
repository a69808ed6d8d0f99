// TLS of the gRPC port: its PEM files, read and checked before there is a server.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "grpcpp/security/server_credentials.h"
#include "service/service.h"

namespace clarion::service {

// Plaintext if the options name no files. gRPC takes whatever the files hold and then says no more
// than that it cannot listen; so they are read here as it reads them. The error is one sentence
// that names the flag to mend.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeCredentials(
    const ServiceOptions& options);

}  // namespace clarion::service
