// TLS of gRPC: the PEM files that flags name, read and checked before there is a server or a link.
//
// gRPC takes whatever the files hold and then says no more than that it cannot listen or connect;
// so they are read here as it reads them.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"

namespace clarion {

// A flag, and the path it names; empty: not given.
struct PemFlag {
  std::string flag;
  std::string path;
};

struct TlsFlags {
  PemFlag cert;  // the chain that this side shows
  PemFlag key;
  PemFlag ca;  // authorities of the other side's certificate
};

// Both: plaintext if no flag is given. The error is one sentence that names the flag to mend.

// `cert` and `key` make it TLS; with `ca` clients must show a certificate.
absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TlsFlags& flags);
// `ca` makes it TLS; `cert` and `key` are for servers that ask for a certificate.
absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const TlsFlags& flags);

}  // namespace clarion
