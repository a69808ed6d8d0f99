#include "tests/e2e/support/certificates.h"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <utility>

#include "gtest/gtest.h"

namespace clarion::testing {
namespace {

constexpr char kNewKey[] = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

KeyPair FilesOf(const std::filesystem::path& dir, const std::string& name) {
  return {dir / (name + ".pem"), dir / (name + ".key")};
}

}  // namespace

std::string ReadText(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void OpenSsl(const std::filesystem::path& dir, const std::string& arguments) {
  const std::string command =
      "cd '" + dir.string() + "' && openssl " + arguments + " >openssl.log 2>&1";
  // NOLINTNEXTLINE(cert-env33-c): the test's own words, no input.
  ASSERT_EQ(std::system(command.c_str()), 0) << command << "\n" << ReadText(dir / "openssl.log");
}

Authority::Authority(std::filesystem::path dir, const std::string& name)
    : dir_(std::move(dir)), pair_(FilesOf(dir_, name)) {
  OpenSsl(dir_, std::string("req -x509 ") + kNewKey + " -days 2 -subj /CN=" + name + " -keyout " +
                    name + ".key -out " + name + ".pem");
}

KeyPair Authority::Issue(const std::string& name) const {
  std::ofstream(dir_ / (name + ".ext")) << "subjectAltName=DNS:localhost,IP:127.0.0.1\n";
  OpenSsl(dir_, std::string("req -new ") + kNewKey + " -subj /CN=" + name + " -keyout " + name +
                    ".key -out " + name + ".csr");
  OpenSsl(dir_, "x509 -req -days 2 -in " + name + ".csr -CA " + pair_.cert.filename().string() +
                    " -CAkey " + pair_.key.filename().string() + " -CAcreateserial -extfile " +
                    name + ".ext -out " + name + ".pem");
  return FilesOf(dir_, name);
}

}  // namespace clarion::testing
