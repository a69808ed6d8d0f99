// Certificates for tests of TLS, made by the command `openssl`.
#pragma once

#include <filesystem>
#include <string>

namespace clarion::testing {

std::string ReadText(const std::filesystem::path& path);

struct KeyPair {
  std::filesystem::path cert;  // PEM
  std::filesystem::path key;   // PEM, P-256
};

// Signs certificates; its own is `pair().cert`.
class Authority {
 public:
  // Keeps its files in `dir`, under `name`.
  Authority(std::filesystem::path dir, const std::string& name);
  const KeyPair& pair() const { return pair_; }
  // For `localhost` and 127.0.0.1.
  KeyPair Issue(const std::string& name) const;

 private:
  std::filesystem::path dir_;
  KeyPair pair_;
};

// Runs `openssl` in `dir`; the test fails if that does.
void OpenSsl(const std::filesystem::path& dir, const std::string& arguments);

}  // namespace clarion::testing
