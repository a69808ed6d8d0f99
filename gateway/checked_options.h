// What GatewayOptions say once they are checked and their files are read. Nothing is opened,
// created or bound by then.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "gateway/auth/token_verifier.h"
#include "gateway/gateway.h"
#include "gateway/http/responder.h"
#include "telemetry/runtime/flags.h"

namespace clarion::gateway {

inline constexpr size_t kMaxGatewayIdBytes = 64;

struct CheckedOptions {
  HostPort listen;
  HostPort admin_listen;
  std::unique_ptr<const TokenVerifier> verifier;
  ResponderOptions responder;
};

// The error is one sentence that names the flag to mend.
absl::StatusOr<CheckedOptions> CheckOptions(const GatewayOptions& options);

}  // namespace clarion::gateway
