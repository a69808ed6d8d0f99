// TLS on the gRPC port of the programs as shipped, and on the link between them.
#include <chrono>
#include <memory>
#include <optional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/support/browser.h"
#include "tests/e2e/support/certificates.h"
#include "tests/e2e/support/deployment.h"
#include "tests/e2e/support/producer.h"
#include "tests/e2e/support/program.h"

namespace clarion::testing {
namespace {

using ::testing::HasSubstr;

// Trusts `authority`, shows `own` if there is one.
std::shared_ptr<grpc::ChannelCredentials> Client(const Authority& authority,
                                                 std::optional<KeyPair> own = {}) {
  grpc::SslCredentialsOptions ssl;
  ssl.pem_root_certs = ReadText(authority.pair().cert);
  if (own) {
    ssl.pem_private_key = ReadText(own->key);
    ssl.pem_cert_chain = ReadText(own->cert);
  }
  return grpc::SslCredentials(ssl);
}

// The first event of thread `tls` of `ada`.
grpc::StatusCode Publish(uint16_t port,
                         const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  const auto stub = v1::EventService::NewStub(
      grpc::CreateChannel("ipv4:127.0.0.1:" + std::to_string(port), credentials));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
  v1::PublishRequest request;
  *request.mutable_event() = Thinking("ada", "tls", "e");
  v1::PublishResponse response;
  return stub->Publish(&context, request, &response).error_code();
}

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
                                          "--run-protocol",
                                          "off",
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

  grpc::StatusCode Publish(const std::shared_ptr<grpc::ChannelCredentials>& credentials) const {
    return testing::Publish(port_, credentials);
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

// A service that shows `server_`, and asks for certificates of `authority_`.
class TlsLinkTest : public ::testing::Test {
 protected:
  void Deploy(const Authority& trusted, const KeyPair& shown) {
    deployment_.emplace(
        Form::kTwoProcesses,
        std::vector<std::string>{"--tls-cert-file", server_.cert, "--tls-key-file", server_.key,
                                 "--tls-client-ca-file", authority_.pair().cert},
        std::vector<std::string>{"--service-ca-file", trusted.pair().cert, "--service-cert-file",
                                 shown.cert, "--service-key-file", shown.key});
    deployment_->StartService();
  }

  void ExpectNotAttached() {
    Program& gateway = deployment_->gateway();
    gateway.Start();
    WaitUntilLogged(gateway, "cannot attach to 127.0.0.1:");
    EXPECT_THAT(WhyUnavailable(deployment_->gateway_admin_port(), "/readyz"),
                HasSubstr("the link to the service is down: "));
  }

  // The exit code of `clarionctl threads`.
  int ListThreads(std::vector<std::string> tls) {
    std::vector<std::string> arguments = {"threads", "--service",
                                          "127.0.0.1:" + std::to_string(deployment_->grpc_port())};
    arguments.insert(arguments.end(), tls.begin(), tls.end());
    Program ctl(std::filesystem::path(CLARION_BIN_DIR) / "service" / "ctl" / "clarionctl",
                std::move(arguments), dir_.path() / "clarionctl.log");
    ctl.Start();
    return ctl.Wait();
  }

  TempDir dir_;
  Authority authority_{dir_.path(), "authority"};
  Authority stranger_{dir_.path(), "stranger"};
  KeyPair server_ = authority_.Issue("server");
  KeyPair own_ = authority_.Issue("own");
  std::optional<Deployment> deployment_;
};

TEST_F(TlsLinkTest, WithCertificatesOnBothSidesABrowserGetsAnEvent) {
  Deploy(authority_, own_);
  deployment_->StartGateway();
  ASSERT_EQ(Publish(deployment_->grpc_port(), Client(authority_, own_)), grpc::StatusCode::OK);
  Browsers browsers;
  const size_t browser = browsers.Open({.port = deployment_->stream_port(),
                                        .token = [this] { return deployment_->Token("ada"); },
                                        .threads = {"tls"}});
  EXPECT_TRUE(browsers.WaitForOffset(browser, "tls", 1));
}

TEST_F(TlsLinkTest, GatewayThatTrustsAnotherAuthorityDoesNotAttachAndSaysWhy) {
  Deploy(stranger_, own_);
  ExpectNotAttached();
  EXPECT_THAT(deployment_->gateway().log(), HasSubstr("certificate verify failed"));
}

TEST_F(TlsLinkTest, GatewayOfAnotherAuthorityDoesNotAttach) {
  Deploy(authority_, stranger_.Issue("other"));
  ExpectNotAttached();
}

TEST_F(TlsLinkTest, ClarionctlShowsItsCertificate) {
  Deploy(authority_, own_);
  const std::string ca = authority_.pair().cert;
  EXPECT_EQ(ListThreads({"--tls-ca", ca, "--tls-cert", own_.cert, "--tls-key", own_.key}), 0);
  constexpr int kUnreachable = 3;
  EXPECT_EQ(ListThreads({"--tls-ca", ca}), kUnreachable);
  EXPECT_EQ(ListThreads({}), kUnreachable);
}

}  // namespace
}  // namespace clarion::testing
