// TLS on the gRPC port of the program as shipped.
#include <chrono>
#include <memory>
#include <optional>

#include "gtest/gtest.h"
#include "tests/e2e/support/certificates.h"
#include "tests/e2e/support/producer.h"
#include "tests/e2e/support/program.h"

namespace clarion::testing {
namespace {

class TlsTest : public ::testing::Test {
 protected:
  TlsTest()
      : authority_(dir_.path(), "authority"),
        stranger_(dir_.path(), "stranger"),
        server_(authority_.Issue("server")),
        port_(FreePort()) {}

  // On every address, without --insecure.
  void Start(std::vector<std::string> more = {}) {
    const auto loopback = [](uint16_t port) { return "127.0.0.1:" + std::to_string(port); };
    const uint16_t admin_port = FreePort();
    std::vector<std::string> arguments = {"--log-url",
                                          "embedded:" + (dir_.path() / "log").string(),
                                          "--listen",
                                          "0.0.0.0:" + std::to_string(port_),
                                          "--admin-listen",
                                          loopback(admin_port),
                                          "--gateway-listen",
                                          loopback(0),
                                          "--gateway-admin-listen",
                                          loopback(0),
                                          "--token-secret",
                                          "a secret of thirty-two bytes, at least",
                                          "--tls-cert-file",
                                          server_.cert.string(),
                                          "--tls-key-file",
                                          server_.key.string()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    program_.emplace(std::filesystem::path(CLARION_BIN_DIR) / "clarion" / "clarion", arguments,
                     dir_.path() / "clarion.log");
    program_->Start();
    WaitUntilServing(*program_, admin_port, "/readyz");
  }

  // Trusts `authority`, shows `own` if there is one.
  static std::shared_ptr<grpc::ChannelCredentials> Client(const Authority& authority,
                                                          std::optional<KeyPair> own = {}) {
    grpc::SslCredentialsOptions ssl;
    ssl.pem_root_certs = ReadText(authority.pair().cert);
    if (own) {
      ssl.pem_private_key = ReadText(own->key);
      ssl.pem_cert_chain = ReadText(own->cert);
    }
    return grpc::SslCredentials(ssl);
  }

  grpc::StatusCode Publish(const std::shared_ptr<grpc::ChannelCredentials>& credentials) const {
    const auto stub = v1::EventService::NewStub(
        grpc::CreateChannel("ipv4:127.0.0.1:" + std::to_string(port_), credentials));
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    v1::PublishRequest request;
    *request.mutable_event() = Thinking("ada", "tls", "e");
    v1::PublishResponse response;
    return stub->Publish(&context, request, &response).error_code();
  }

  TempDir dir_;
  Authority authority_;
  Authority stranger_;
  KeyPair server_;
  uint16_t port_;
  std::optional<Program> program_;
};

TEST_F(TlsTest, ClientThatTrustsTheAuthorityPublishesToAnyAddressWithoutInsecure) {
  Start();
  EXPECT_EQ(Publish(Client(authority_)), grpc::StatusCode::OK);
  EXPECT_EQ(Publish(Client(stranger_)), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Publish(grpc::InsecureChannelCredentials()), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(TlsTest, WithAClientAuthorityOnlyItsClientsPublish) {
  Start({"--tls-client-ca-file", authority_.pair().cert.string()});
  EXPECT_EQ(Publish(Client(authority_)), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Publish(Client(authority_, stranger_.Issue("other"))), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Publish(Client(authority_, authority_.Issue("client"))), grpc::StatusCode::OK);
}

}  // namespace
}  // namespace clarion::testing
