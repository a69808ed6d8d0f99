#include "telemetry/runtime/flags.h"

#include <cctype>
#include <charconv>
#include <cstdlib>
#include <fstream>
#include <iostream>

#include "absl/status/status.h"
#include "boost/asio/ip/address.hpp"
#include "proto/base/text.h"

namespace clarion {
namespace {

constexpr int kUsage = 2;
constexpr size_t kMaxFileBytes = 1024 * 1024;

std::optional<std::string> ReadEnv(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  if (value == nullptr || *value == '\0') return std::nullopt;
  return value;
}

// The file's content without the line end that editors put there.
std::optional<std::string> ReadSecretFile(const std::string& path) {
  std::optional<std::string> content = ReadFlagFile(path);
  if (!content) return std::nullopt;
  if (content->ends_with('\n')) content->pop_back();
  if (content->ends_with('\r')) content->pop_back();
  return content;
}

}  // namespace

Flags::Flags(const std::string& program, const std::string& purpose) : app_(purpose, program) {
  app_.set_version_flag("--version", program + " " CLARION_VERSION);
  app_.get_formatter()->column_width(34);
}

std::string Flags::EnvName(std::string_view flag) {
  std::string name = "CLARION_";
  for (const char c : flag.substr(flag.find_first_not_of('-'))) {
    name.push_back(c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c))));
  }
  return name;
}

CLI::Validator Flags::NotNegative() {
  return CLI::Validator(
      [](const std::string& text) {
        return text.starts_with('-') ? "must not be negative" : std::string();
      },
      "");
}

CLI::Option* Flags::AddSwitch(const std::string& name, bool& value, const std::string& help) {
  return app_.add_flag(name, value, help)->envname(EnvName(name));
}

void Flags::AddSecret(const std::string& name, std::string& value, const std::string& help) {
  AddSecret(app_, name, value, help, EnvName(name));
}

void Flags::AddSecret(CLI::App& app, const std::string& name, std::string& value,
                      const std::string& help, const std::string& env) {
  auto secret = std::make_unique<Secret>(Secret{&app, name, &value, env, {}});
  // CLI11 cannot tell an option of the command line from one of the environment, and the one must
  // win over the other across two options: so the environment is read after it, in Read.
  app.add_option(name, value, help + " (Env:" + env + ")")->type_name("SECRET");
  app.add_option(name + "-file", secret->file, "File that holds it (Env:" + env + "_FILE)")
      ->type_name("PATH")
      ->excludes(name);
  secrets_.push_back(std::move(secret));
}

std::optional<std::string> Flags::Read(Secret& secret) {
  std::string source = secret.name + "-file";
  if (secret.app->count(secret.name) > 0) return std::nullopt;
  if (secret.app->count(source) == 0) {
    const auto value = ReadEnv(secret.env);
    const auto file = ReadEnv(secret.env + "_FILE");
    if (value && file) return secret.env + " and " + secret.env + "_FILE exclude each other";
    if (value) *secret.value = *value;
    if (!file) return std::nullopt;
    secret.file = *file;
    source = secret.env + "_FILE (" + source + ")";
  }
  const auto content = ReadSecretFile(secret.file);
  if (!content) return source + ": cannot read " + secret.file;
  if (content->empty()) return source + ": " + secret.file + " is empty";
  *secret.value = *content;
  return std::nullopt;
}

std::optional<std::string> Flags::ReadSecrets() {
  for (const auto& secret : secrets_) {
    if (!secret->app->parsed()) continue;  // of a subcommand that was not called
    if (auto mistake = Read(*secret)) return mistake;
  }
  return std::nullopt;
}

std::optional<int> Flags::Parse(int argc, char** argv) {
  try {
    app_.parse(argc, argv);
  } catch (const CLI::CallForHelp& help) {
    return app_.exit(help);
  } catch (const CLI::CallForAllHelp& help) {
    return app_.exit(help);
  } catch (const CLI::CallForVersion& version) {
    return app_.exit(version);
  } catch (const CLI::ParseError& error) {
    std::cerr << app_.get_name() << ": " << error.what() << " (see --help)\n";
    return kUsage;
  }
  if (const auto mistake = ReadSecrets()) {
    std::cerr << app_.get_name() << ": " << *mistake << "\n";
    return kUsage;
  }
  return std::nullopt;
}

std::optional<std::string> ReadFlagFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::string content(kMaxFileBytes + 1, '\0');
  // Not by iterators: they throw when the path is a directory.
  file.read(content.data(), static_cast<std::streamsize>(content.size()));
  if (!file.is_open() || file.bad() || !file.eof()) return std::nullopt;
  content.resize(static_cast<size_t>(file.gcount()));
  return content;
}

std::optional<HostPort> ParseHostPort(std::string_view text) {
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) return std::nullopt;
  std::string_view host = text.substr(0, colon);
  const std::string_view digits = text.substr(colon + 1);

  HostPort result;
  const auto [end, error] =
      std::from_chars(digits.data(), digits.data() + digits.size(), result.port);
  if (error != std::errc() || end != digits.data() + digits.size()) return std::nullopt;

  if (host.starts_with('[')) {
    if (!host.ends_with(']') || host.size() < 3) return std::nullopt;
    host = host.substr(1, host.size() - 2);
  } else if (host.find(':') != std::string_view::npos) {
    return std::nullopt;  // an IPv6 address needs brackets
  }
  result.host = host.empty() ? "127.0.0.1" : std::string(host);
  return result;
}

bool IsLoopback(std::string_view host) {
  return host == "localhost" || host == "::1" ||
         (host.starts_with("127.") && host.find_first_not_of("0123456789.") == host.npos);
}

namespace {

absl::StatusOr<HostPort> ParseListen(const ListenFlag& listen) {
  const auto address = ParseHostPort(listen.value);
  if (!address) {
    return absl::InvalidArgumentError(
        Concat(listen.flag, ": '", listen.value, "' is not HOST:PORT"));
  }
  boost::system::error_code error;
  if (address->host != "localhost") boost::asio::ip::make_address(address->host, error);
  if (error) {
    return absl::InvalidArgumentError(
        Concat(listen.flag, ": '", address->host, "' is neither an IP address nor localhost"));
  }
  return *address;
}

bool Collide(const HostPort& a, const HostPort& b) {
  if (a.port != b.port || a.port == 0) return false;
  const auto is_v6 = [](const HostPort& one) { return one.host.find(':') != std::string::npos; };
  const auto is_any = [&](const HostPort& one, const HostPort& other) {
    return one.host == "::" || (one.host == "0.0.0.0" && !is_v6(other));
  };
  return a.host == b.host || is_any(a, b) || is_any(b, a);
}

}  // namespace

absl::StatusOr<std::vector<HostPort>> ParseListenFlags(const std::vector<ListenFlag>& flags) {
  std::vector<HostPort> addresses;
  for (const ListenFlag& listen : flags) {
    auto address = ParseListen(listen);
    if (!address.ok()) return address.status();
    for (size_t i = 0; i < addresses.size(); ++i) {
      if (Collide(addresses[i], *address)) {
        return absl::InvalidArgumentError(
            Concat(listen.flag, ": ", listen.value, " is taken by ", flags[i].flag));
      }
    }
    addresses.push_back(*std::move(address));
  }
  return addresses;
}

}  // namespace clarion
