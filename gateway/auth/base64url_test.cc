#include "gateway/auth/base64url.h"

#include <random>

#include "gtest/gtest.h"

namespace clarion::gateway {
namespace {

TEST(Base64UrlTest, RoundTripsBytesOfEveryLength) {
  std::mt19937 random(1);
  for (size_t size = 0; size < 100; ++size) {
    std::string bytes(size, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    EXPECT_EQ(DecodeBase64Url(EncodeBase64Url(bytes)), bytes);
  }
}

TEST(Base64UrlTest, KnownTextsAreEncodedAsTheRfcSays) {
  EXPECT_EQ(EncodeBase64Url("\xfb\xff"), "-_8");
  EXPECT_EQ(EncodeBase64Url("foobar"), "Zm9vYmFy");
}

TEST(Base64UrlTest, PaddingForeignCharactersAndStrayBitsAreRefused) {
  for (const char* text : {"Zg==", "Zm9v+", "Zm9v/A", "Z", "Zm 9", "Zh", "Zm9="}) {
    EXPECT_EQ(DecodeBase64Url(text), std::nullopt) << text;
  }
}

}  // namespace
}  // namespace clarion::gateway
