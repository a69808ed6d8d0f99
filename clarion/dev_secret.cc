#include "clarion/dev_secret.h"

#include <fcntl.h>
#include <openssl/rand.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <iterator>
#include <system_error>

#include "absl/status/status.h"

namespace clarion {
namespace {

constexpr size_t kSecretBytes = 32;

std::string RandomSecret() {
  unsigned char bytes[kSecretBytes];
  if (RAND_bytes(bytes, sizeof(bytes)) != 1) return {};
  std::string hex;
  for (const unsigned char byte : bytes) {
    char digits[3];
    std::snprintf(digits, sizeof(digits), "%02x", byte);
    hex += digits;
  }
  return hex;
}

// False: it exists already, or cannot be made.
bool WriteNew(const std::filesystem::path& path, const std::string& text) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file < 0) return false;
  const bool written = ::write(file, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  return ::close(file) == 0 && written;
}

}  // namespace

absl::StatusOr<std::string> DevTokenSecret(const std::filesystem::path& folder) {
  const std::filesystem::path path = folder / "dev-token-secret";
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (!std::filesystem::exists(path, error)) WriteNew(path, RandomSecret());
  std::ifstream file(path, std::ios::binary);
  std::string secret{std::istreambuf_iterator<char>(file), {}};
  if (!file || secret.size() < kSecretBytes) {
    return absl::FailedPreconditionError("--token-secret: --dev cannot keep one in " +
                                         path.string());
  }
  return secret;
}

}  // namespace clarion
