#include <iostream>
#include <memory>

#include "proto/contract/error.h"
#include "service/ctl/output.h"
#include "service/ctl/token.h"

namespace clarion::ctl {
namespace {

constexpr char kTokenExamples[] =
    "Examples:\n"
    "  clarionctl token --secret-file token.secret --user ada\n"
    "  clarionctl token --secret-file token.secret --user ada --ttl 60 --audience clarion\n"
    "The secret is the gateway's --token-secret. For development: in production, tokens come from\n"
    "your own sign-in.";

struct TokenOptions {
  TokenRequest request;
  int64_t ttl_seconds = 3600;
};

}  // namespace

void AddTokenCommand(Program& program) {
  auto options = std::make_shared<TokenOptions>();
  CLI::App& app = program.Add(
      {"token", "Print a development token for a user.", kTokenExamples}, [&program, options] {
        options->request.ttl = std::chrono::seconds(options->ttl_seconds);
        const auto token = MakeToken(options->request, std::chrono::system_clock::now());
        if (!token.ok()) {
          ReportError(token.status(), program.globals());
          return ViolationsOf(token.status()).empty() ? kFailed : kUsage;
        }
        std::cout << *token << std::endl;
        return kOk;
      });
  program.flags().AddSecret(app, "--secret", options->request.secret,
                            "Key of HS256, at least 32 bytes", "CLARION_TOKEN_SECRET");
  app.add_option("--user", options->request.user, "`sub`: who watches")->required();
  app.add_option("--ttl", options->ttl_seconds, "Seconds until it expires")
      ->type_name("SECONDS")
      ->check(CLI::Range(1, 365 * 24 * 3600).description(""))
      ->capture_default_str();
  app.add_option("--issuer", options->request.issuer, "`iss`");
  app.add_option("--audience", options->request.audience, "`aud`");
}

}  // namespace clarion::ctl
