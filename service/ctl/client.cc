#include "service/ctl/client.h"

#include <fstream>
#include <iterator>

#include "grpc/grpc.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "proto/base/text.h"

namespace clarion::ctl {
namespace {

// The service allows a ping every 5 s.
constexpr std::chrono::milliseconds kKeepalive{10'000};

absl::Status ReadInto(const std::string& path, std::string* content) {
  if (path.empty()) return absl::OkStatus();
  std::ifstream file(path, std::ios::binary);
  content->assign(std::istreambuf_iterator<char>(file), {});
  if (file && !content->empty()) return absl::OkStatus();
  return MakeError(Reason::kContextInvalid, Concat("cannot read ", path));
}

}  // namespace

absl::StatusOr<Client> Client::Make(const Globals& globals) {
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  if (globals.tls || !globals.tls_ca.empty() || !globals.tls_cert.empty()) {
    grpc::SslCredentialsOptions tls;
    if (auto status = ReadInto(globals.tls_ca, &tls.pem_root_certs); !status.ok()) return status;
    if (auto status = ReadInto(globals.tls_cert, &tls.pem_cert_chain); !status.ok()) return status;
    if (auto status = ReadInto(globals.tls_key, &tls.pem_private_key); !status.ok()) return status;
    credentials = grpc::SslCredentials(tls);
  } else {
    credentials = grpc::InsecureChannelCredentials();
  }
  grpc::ChannelArguments arguments;
  // A call without a deadline ends all the same when the service does not answer any more.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, static_cast<int>(kKeepalive.count()));
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, static_cast<int>(globals.timeout().count()));
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  return Client(
      v1::EventService::NewStub(grpc::CreateCustomChannel(globals.service, credentials, arguments)),
      globals.timeout());
}

}  // namespace clarion::ctl
