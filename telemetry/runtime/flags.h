// Flags of the programs, over CLI11: each is also an environment variable, each secret also a file.
//
//   Flags flags("clarion-gateway", "Holds browsers' connections.");
//   flags.Add("--max-message-bytes", options.max_message_bytes, "Largest message from a browser");
//   if (auto exit_code = flags.Parse(argc, argv)) return *exit_code;
//
// `--log-url` reads CLARION_LOG_URL; a flag given on the command line wins. Secrets:
// AddSecret("--token-secret") also takes `--token-secret-file` and CLARION_TOKEN_SECRET_FILE. A
// mistake ends in one sentence that names the flag, and exit code 2.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"

namespace clarion {

class Flags {
 public:
  Flags(const std::string& program, const std::string& purpose);

  template <class T>
  CLI::Option* Add(const std::string& name, T& value, const std::string& help) {
    CLI::Option* option =
        app_.add_option(name, value, help)->envname(EnvName(name))->capture_default_str();
    // CLI11 reads "-1" as the largest number there is.
    if constexpr (std::is_unsigned_v<T>) option->check(NotNegative());
    return option;
  }
  CLI::Option* AddSwitch(const std::string& name, bool& value, const std::string& help);
  void AddSecret(const std::string& name, std::string& value, const std::string& help);
  // For a subcommand of app(), under another variable's name (and that name with _FILE).
  void AddSecret(CLI::App& app, const std::string& name, std::string& value,
                 const std::string& help, const std::string& env);

  // Nothing: go on. Otherwise: exit with this code (0 after --help and --version).
  std::optional<int> Parse(int argc, char** argv);

  CLI::App& app() { return app_; }
  // `--log-url` -> CLARION_LOG_URL.
  static std::string EnvName(std::string_view flag);

 private:
  struct Secret {
    CLI::App* app;
    std::string name;
    std::string* value;
    std::string env;
    std::string file;
  };
  static CLI::Validator NotNegative();
  // From files and environment. Something: what is wrong, naming the flag.
  std::optional<std::string> ReadSecrets();
  static std::optional<std::string> Read(Secret& secret);

  CLI::App app_;
  std::vector<std::unique_ptr<Secret>> secrets_;
};

// The content of a file that a flag names. Nothing: it cannot be read, or is longer than 1 MiB.
std::optional<std::string> ReadFlagFile(const std::string& path);

// "127.0.0.1:7700", "[::1]:7700", ":7700" (loopback).
struct HostPort {
  std::string host;
  uint16_t port = 0;
};
std::optional<HostPort> ParseHostPort(std::string_view text);
bool IsLoopback(std::string_view host);

// A flag that says where to listen, and its value: HOST:PORT, where HOST is an IP address or
// `localhost`.
struct ListenFlag {
  std::string flag;
  std::string value;
};
// Their addresses, in the same order, no two of which are the same (port 0 is any). The error is
// one sentence that names the flag to mend.
absl::StatusOr<std::vector<HostPort>> ParseListenFlags(const std::vector<ListenFlag>& flags);

}  // namespace clarion
