// Programs that cannot serve as they are told say so at once, and leave nothing behind.
#include <algorithm>
#include <fstream>
#include <memory>

#include "boost/asio/io_context.hpp"
#include "boost/asio/ip/tcp.hpp"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/e2e/support/certificates.h"
#include "tests/e2e/support/program.h"

namespace clarion::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr char kClarion[] = "clarion/clarion", kService[] = "service/clarion-service",
               kGateway[] = "gateway/clarion-gateway";
constexpr char kSecret[] = "0123456789abcdef0123456789abcdef";

std::string Replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
  return text;
}

// DIR in arguments is the directory of the files below, TAKEN a port that somebody listens on.
struct Mistake {
  std::string name;
  std::string program;
  std::vector<std::string> arguments;
  std::string sentence;  // a part of it
};

class StartUpMistakeTest : public ::testing::TestWithParam<Mistake> {
 protected:
  static void SetUpTestSuite() {
    files_ = std::make_unique<TempDir>();
    const std::filesystem::path& dir = files_->path();
    const Authority authority(dir, "ca");
    authority.Issue("server");
    authority.Issue("other");
    OpenSsl(dir, "ec -in server.key -aes128 -passout pass:word -out locked.key");
    OpenSsl(dir, "req -x509 -newkey rsa:512 -nodes -subj /CN=weak -keyout weak.key -out weak.pem");
    std::ofstream(dir / "garbage") << "no PEM\n";
    std::ofstream(dir / "chain.pem")
        << ReadText(dir / "server.pem") << ReadText(dir / "ca.pem").substr(0, 200) << "\n";
    std::ofstream(dir / "short") << "short";
    std::filesystem::create_directory(dir / "empty");
  }
  static void TearDownTestSuite() { files_.reset(); }

  static std::unique_ptr<TempDir> files_;
};
std::unique_ptr<TempDir> StartUpMistakeTest::files_;

// On a port that is taken: who binds before looking at the rest says so. `clarion` and the service
// open the log before they bind.
TEST_P(StartUpMistakeTest, IsSaidInOneSentenceBeforeAnythingIsOpenedCreatedOrBound) {
  using boost::asio::ip::tcp;
  boost::asio::io_context io;
  const tcp::acceptor taken(io, tcp::endpoint(boost::asio::ip::address_v4::loopback(), 0));
  const std::string taken_port = std::to_string(taken.local_endpoint().port());
  TempDir dir;
  std::vector<std::string> arguments = GetParam().arguments;
  const auto add = [&](const std::string& flag, const std::string& value) {
    if (std::find(arguments.begin(), arguments.end(), flag) != arguments.end()) return;
    arguments.insert(arguments.end(), {flag, value});
  };
  const std::filesystem::path log = dir.path() / "log";
  if (GetParam().program != kGateway) add("--log-url", "embedded:" + log.string());
  add("--listen", "127.0.0.1:TAKEN");
  for (std::string& argument : arguments) {
    argument = Replaced(argument, "DIR", files_->path().string());
    argument = Replaced(argument, "TAKEN", taken_port);
  }
  Program program(std::filesystem::path(CLARION_BIN_DIR) / GetParam().program, arguments,
                  dir.path() / "said");
  program.Start();
  EXPECT_EQ(program.Wait(), 2);
  const std::string said = program.log();
  const std::string name = std::filesystem::path(GetParam().program).filename();
  EXPECT_THAT(said, StartsWith(name + ": "));
  EXPECT_THAT(said, HasSubstr(GetParam().sentence));
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  EXPECT_FALSE(std::filesystem::exists(log));
}

std::string NameOfMistake(const ::testing::TestParamInfo<Mistake>& info) {
  return info.param.name;
}

// Of either half, said by the program that has both.
Mistake Both(std::string name, std::vector<std::string> arguments, std::string sentence) {
  return {std::move(name), kClarion, std::move(arguments), std::move(sentence)};
}
// With a key for tokens, so that it cannot be that.
Mistake Keyed(std::string name, std::vector<std::string> arguments, std::string sentence) {
  arguments.insert(arguments.end(), {"--token-secret", kSecret});
  return Both(std::move(name), std::move(arguments), std::move(sentence));
}

INSTANTIATE_TEST_SUITE_P(
    Programs, StartUpMistakeTest,
    ::testing::Values(
        Mistake{"GatewayWithoutKey", kGateway, {}, "--token-secret"},
        Mistake{"GatewayKeyFileMissing",
                kGateway,
                {"--token-public-key", "DIR/none"},
                "--token-public-key: cannot read "},
        Mistake{"GatewayPlainPublic",
                kGateway,
                {"--listen", "0.0.0.0:0", "--token-secret", kSecret},
                "--insecure"},
        Mistake{"GatewayAdminListen",
                kGateway,
                {"--admin-listen", "nonsense", "--token-secret", kSecret},
                "--admin-listen: 'nonsense'"},
        Mistake{"GatewayServicePort",
                kGateway,
                {"--service", "127.0.0.1:0", "--token-secret", kSecret},
                "--service must be HOST:PORT"},
        Mistake{"GatewayPlainLink",
                kGateway,
                {"--service", "10.0.0.1:7700", "--token-secret", kSecret},
                "--service: 10.0.0.1:7700 is not loopback: give --service-ca-file"},
        Mistake{"ServiceUnknownLog", kService, {"--log-url", "ftp://x"}, "--log-url"},
        Mistake{"ServicePlainPublic", kService, {"--listen", "0.0.0.0:0"}, "--insecure"},
        Mistake{"ServiceListenName",
                kService,
                {"--listen", "some-host:7700"},
                "--listen: 'some-host' is neither an IP address nor localhost"},
        Mistake{"ServiceAdminListen",
                kService,
                {"--admin-listen", "300.1.1.1:1"},
                "--admin-listen: '300.1.1.1' is neither"},
        Mistake{"ServiceSamePort",
                kService,
                {"--admin-listen", "127.0.0.1:TAKEN"},
                "--admin-listen: 127.0.0.1:"},
        Mistake{"ServiceUnknownFlag", kService, {"--no-such-flag"}, "--no-such-flag"},
        Mistake{"ServiceAllThreads", kService, {"--max-all-threads", "0"}, "--max-all-threads"},
        Mistake{"ServiceOpenRuns",
                kService,
                {"--max-open-runs", "101"},
                "--max-open-runs: must be 1 to 100"},
        Mistake{"ServiceTombstones",
                kService,
                {"--tombstone-days", "0"},
                "--tombstone-days: must be 1 to 36500"},
        Mistake{"ServicePurge",
                kService,
                {"--purge-minutes", "1441"},
                "--purge-minutes: must be at most 1440"},
        Mistake{"ServiceRetentionTooLong",
                kService,
                {"--retention-critical-hours", "876001"},
                "--retention-critical-hours"}),
    NameOfMistake);

INSTANTIATE_TEST_SUITE_P(
    OneProcess, StartUpMistakeTest,
    ::testing::Values(
        Both("NoKey", {}, "--token-secret"),
        Both("ShortSecret", {"--token-secret-file", "DIR/short"}, "--token-secret must have"),
        Both("SecretFileIsADirectory", {"--token-secret-file", "DIR"},
             "--token-secret-file: cannot read "),
        Both("PublicKeyMissing", {"--token-public-key", "DIR/none"},
             "--token-public-key: cannot read "),
        Both("PublicKeyIsADirectory", {"--token-public-key", "DIR"}, "--token-public-key: "),
        Both("PublicKeyGarbage", {"--token-public-key", "DIR/garbage"},
             "garbage holds no public key in PEM"),
        Both("DevWithAPublicKeyOnly", {"--dev", "--token-public-key", "DIR/none"},
             "--dev needs --token-secret"),
        // No key is made either, beside the log.
        Both("DevAndSomethingElse", {"--dev", "--loops", "0"}, "--loops"),
        Keyed("Listen", {"--listen", "7700"}, "--listen: '7700' is not HOST:PORT"),
        Keyed("AdminListen", {"--admin-listen", "localhost:"}, "--admin-listen: 'localhost:'"),
        Keyed("GatewayListen", {"--gateway-listen", "127.0.0.1:70000"},
              "--gateway-listen: '127.0.0.1:70000' is not HOST:PORT"),
        Keyed("GatewayAdminListen", {"--gateway-admin-listen", "name:1"},
              "--gateway-admin-listen: 'name' is neither"),
        Keyed("GatewayPlainPublic", {"--gateway-admin-listen", "0.0.0.0:0"},
              "--gateway-admin-listen: 0.0.0.0:0 is not loopback"),
        Keyed("SamePortInBothHalves", {"--gateway-listen", "127.0.0.1:TAKEN"},
              " is taken by --listen"),
        Keyed("WebRootMissing", {"--web-root", "DIR/none"}, "--web-root: cannot read "),
        Keyed("WebRootWithoutPage", {"--web-root", "DIR/empty"}, "empty has no index.html"),
        Keyed("Origin", {"--allowed-origin", "https://app.example/"},
              "--allowed-origin: 'https://app.example/' is not an origin"),
        Keyed("MaxConnections", {"--max-connections", "0"}, "--max-connections must be"),
        Keyed("MaxConnectionsPerUser", {"--max-connections-per-user", "0"},
              "--max-connections-per-user must be"),
        Keyed("MaxQuestionsPerUser", {"--max-questions-per-user", "0"},
              "--max-questions-per-user must be"),
        Keyed("Subscriptions", {"--subscriptions-per-connection", "0"},
              "--subscriptions-per-connection must be")),
    NameOfMistake);

Mistake Tls(std::string name, const std::string& cert, const std::string& key,
            std::string sentence) {
  return Keyed(std::move(name), {"--tls-cert-file", cert, "--tls-key-file", key},
               std::move(sentence));
}
Mistake ClientCa(std::string name, const std::string& ca, std::string sentence) {
  return Keyed(std::move(name),
               {"--tls-cert-file", "DIR/server.pem", "--tls-key-file", "DIR/server.key",
                "--tls-client-ca-file", ca},
               std::move(sentence));
}

INSTANTIATE_TEST_SUITE_P(
    TlsFiles, StartUpMistakeTest,
    ::testing::Values(
        Tls("CertMissing", "DIR/none", "DIR/server.key", "--tls-cert-file: cannot read "),
        Tls("CertIsADirectory", "DIR", "DIR/server.key", "--tls-cert-file: cannot read "),
        Tls("CertGarbage", "DIR/garbage", "DIR/server.key", "garbage holds no certificate in PEM"),
        Tls("CertIsTheKey", "DIR/server.key", "DIR/server.key", "--tls-cert-file: "),
        Tls("ChainCutOff", "DIR/chain.pem", "DIR/server.key",
            "chain.pem holds a certificate that cannot be read, after the first"),
        Tls("CertTooWeak", "DIR/weak.pem", "DIR/weak.key", "weak.pem cannot be used: ee key too"),
        Tls("KeyMissing", "DIR/server.pem", "DIR/none", "--tls-key-file: cannot read "),
        Tls("KeyGarbage", "DIR/server.pem", "DIR/garbage", "garbage holds no private key in PEM"),
        Tls("KeyHasAPassphrase", "DIR/server.pem", "DIR/locked.key",
            "locked.key holds no private key in PEM"),
        Tls("KeyOfAnother", "DIR/server.pem", "DIR/other.key",
            "other.key is not the key of the certificate in --tls-cert-file "),
        Keyed("CertAlone", {"--tls-cert-file", "DIR/server.pem"}, "--tls-key-file: "),
        Keyed("KeyAlone", {"--tls-key-file", "DIR/server.key"}, "--tls-cert-file: "),
        Keyed("ClientCaAlone", {"--tls-client-ca-file", "DIR/ca.pem"}, "--tls-client-ca-file: "),
        ClientCa("ClientCaMissing", "DIR/none", "--tls-client-ca-file: cannot read "),
        ClientCa("ClientCaGarbage", "DIR/garbage", "--tls-client-ca-file: "),
        ClientCa("ClientCaIsAKey", "DIR/ca.key", "ca.key holds no certificate in PEM")),
    NameOfMistake);

// To a service that is elsewhere, with TLS.
Mistake Link(std::string name, std::vector<std::string> arguments, std::string sentence) {
  arguments.insert(arguments.end(), {"--service", "10.0.0.1:7700", "--token-secret", kSecret});
  return {std::move(name), kGateway, std::move(arguments), std::move(sentence)};
}

INSTANTIATE_TEST_SUITE_P(
    LinkTlsFiles, StartUpMistakeTest,
    ::testing::Values(
        Link("CaMissing", {"--service-ca-file", "DIR/none"}, "--service-ca-file: cannot read "),
        Link("CaIsAKey", {"--service-ca-file", "DIR/ca.key"}, "ca.key holds no certificate in PEM"),
        Link("CertWithoutKey",
             {"--service-ca-file", "DIR/ca.pem", "--service-cert-file", "DIR/server.pem"},
             "--service-key-file: --service-cert-file needs it"),
        Link("KeyWithoutCert",
             {"--service-ca-file", "DIR/ca.pem", "--service-key-file", "DIR/server.key"},
             "--service-cert-file: --service-key-file needs it"),
        Link("KeyOfAnother",
             {"--service-ca-file", "DIR/ca.pem", "--service-cert-file", "DIR/server.pem",
              "--service-key-file", "DIR/other.key"},
             "other.key is not the key of the certificate in --service-cert-file "),
        Link("CertWithoutCa",
             {"--insecure", "--service-cert-file", "DIR/server.pem", "--service-key-file",
              "DIR/server.key"},
             "--service-cert-file: needs --service-ca-file")),
    NameOfMistake);

// What only opening can tell.
TEST(StartUpTest, LogThatCannotBeOpenedIsNamed) {
  TempDir dir;
  Program program(std::filesystem::path(CLARION_BIN_DIR) / kService,
                  {"--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-url",
                   "embedded:/dev/null/x"},
                  dir.path() / "said");
  program.Start();
  EXPECT_EQ(program.Wait(), 2);
  EXPECT_THAT(program.log(), HasSubstr("clarion-service: --log-url: "));
}

}  // namespace
}  // namespace clarion::testing
