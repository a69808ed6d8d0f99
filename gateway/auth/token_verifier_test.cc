// The matrix of tokens: algorithms, keys and claims, with keys made on the spot by OpenSSL.
#include "gateway/auth/token_verifier.h"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <vector>

#include "gateway/auth/base64url.h"
#include "gateway/auth/signature.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/contract/error.h"

namespace clarion::gateway {
namespace {

using ::testing::HasSubstr;

constexpr const char* kSecret = "thirty-two bytes of secret, or more than that";

using KeyPtr = std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)>;

KeyPtr MakeRsa(unsigned bits) {
  return {EVP_RSA_gen(bits), &EVP_PKEY_free};
}
KeyPtr MakeEc(const char* curve) {
  return {EVP_EC_gen(curve), &EVP_PKEY_free};
}

std::string PublicPem(EVP_PKEY* key) {
  BIO* bio = BIO_new(BIO_s_mem());
  PEM_write_bio_PUBKEY(bio, key);
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  std::string pem(data, static_cast<size_t>(size));
  BIO_free(bio);
  return pem;
}

std::string SignDer(EVP_PKEY* key, const std::string& bytes) {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  size_t size = 0;
  EVP_DigestSignInit(context, nullptr, EVP_sha256(), nullptr, key);
  const auto* data = reinterpret_cast<const unsigned char*>(bytes.data());
  EVP_DigestSign(context, nullptr, &size, data, bytes.size());
  std::string signature(size, '\0');
  EVP_DigestSign(context, reinterpret_cast<unsigned char*>(signature.data()), &size, data,
                 bytes.size());
  signature.resize(size);
  EVP_MD_CTX_free(context);
  return signature;
}

// r and s side by side.
std::string SignEc(EVP_PKEY* key, const std::string& bytes) {
  const std::string der = SignDer(key, bytes);
  const auto* data = reinterpret_cast<const unsigned char*>(der.data());
  ECDSA_SIG* numbers = d2i_ECDSA_SIG(nullptr, &data, static_cast<long>(der.size()));
  std::string out(64, '\0');
  BN_bn2binpad(ECDSA_SIG_get0_r(numbers), reinterpret_cast<unsigned char*>(out.data()), 32);
  BN_bn2binpad(ECDSA_SIG_get0_s(numbers), reinterpret_cast<unsigned char*>(out.data()) + 32, 32);
  ECDSA_SIG_free(numbers);
  return out;
}

class TokenVerifierTest : public ::testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/clarion-auth-XXXXXX";
    directory_ = ::mkdtemp(name);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string KeyFile(const std::string& pem) {
    const std::string path = directory_ / ("key" + std::to_string(++files_) + ".pem");
    std::ofstream(path) << pem;
    return path;
  }

  std::string Claims(const std::string& more = "") const {
    return R"({"sub":"ada","exp":)" + std::to_string(Seconds(3600)) + more + "}";
  }
  // Seconds since 1970, so many from now on.
  int64_t Seconds(int64_t from_now) const {
    return std::chrono::duration_cast<std::chrono::seconds>(now_.time_since_epoch()).count() +
           from_now;
  }
  static std::string Unsigned(const std::string& header, const std::string& claims) {
    return EncodeBase64Url(header) + "." + EncodeBase64Url(claims);
  }
  static std::string Hs256(const std::string& claims, const std::string& secret = kSecret,
                           const std::string& header = R"({"alg":"HS256"})") {
    const std::string input = Unsigned(header, claims);
    return input + "." + EncodeBase64Url(HmacSha256(secret, input));
  }
  static std::string Rs256(EVP_PKEY* key, const std::string& claims) {
    const std::string input = Unsigned(R"({"alg":"RS256","kid":"k1"})", claims);
    return input + "." + EncodeBase64Url(SignDer(key, input));
  }
  static std::string Es256(EVP_PKEY* key, const std::string& claims) {
    const std::string input = Unsigned(R"({"alg":"ES256"})", claims);
    return input + "." + EncodeBase64Url(SignEc(key, input));
  }

  // "ok", or why not.
  std::string Verdict(const TokenOptions& options, const std::string& token) {
    auto verifier = TokenVerifier::Create(options);
    if (!verifier.ok()) return std::string(verifier.status().message());
    const auto verified = (*verifier)->Verify(token, now_);
    if (verified.ok()) return verified->user.str() == "ada" ? "ok" : "another user";
    EXPECT_EQ(ReasonOf(verified.status()), Reason::kUnauthenticated);
    return std::string(verified.status().message());
  }
  std::string Verdict(const std::string& token) { return Verdict({.secret = kSecret}, token); }

  const std::chrono::system_clock::time_point now_{std::chrono::seconds(1'790'000'000)};
  std::filesystem::path directory_;
  int files_ = 0;
};

TEST_F(TokenVerifierTest, EachAlgorithmIsAcceptedWithItsKey) {
  const KeyPtr rsa = MakeRsa(2048);
  const KeyPtr ec = MakeEc("P-256");
  const TokenOptions all{
      .secret = kSecret,
      .public_key_files = {KeyFile(PublicPem(rsa.get())), KeyFile(PublicPem(ec.get()))}};
  EXPECT_EQ(Verdict(all, Hs256(Claims())), "ok");
  EXPECT_EQ(Verdict(all, Rs256(rsa.get(), Claims())), "ok");
  EXPECT_EQ(Verdict(all, Es256(ec.get(), Claims())), "ok");
}

TEST_F(TokenVerifierTest, ExpiryAndUserAreHandedOut) {
  auto verifier = TokenVerifier::Create({.secret = kSecret});
  const auto verified = (*verifier)->Verify(Hs256(Claims()), now_);
  ASSERT_TRUE(verified.ok()) << verified.status();
  EXPECT_EQ(verified->user, UserId("ada"));
  EXPECT_EQ(verified->expires_at, now_ + std::chrono::hours(1));
  EXPECT_EQ(verified->accepted_until, verified->expires_at + TokenOptions().leeway);
}

TEST_F(TokenVerifierTest, SeveralKeysOfOneAlgorithmAreAllTried) {
  const KeyPtr old_key = MakeRsa(2048);
  const KeyPtr new_key = MakeRsa(2048);
  const TokenOptions both{
      .public_key_files = {KeyFile(PublicPem(old_key.get())), KeyFile(PublicPem(new_key.get()))}};
  EXPECT_EQ(Verdict(both, Rs256(old_key.get(), Claims())), "ok");
  EXPECT_EQ(Verdict(both, Rs256(new_key.get(), Claims())), "ok");
}

TEST_F(TokenVerifierTest, AnotherKeysSignatureIsRefused) {
  const KeyPtr rsa = MakeRsa(2048), other_rsa = MakeRsa(2048);
  const KeyPtr ec = MakeEc("P-256"), other_ec = MakeEc("P-256");
  const TokenOptions options{
      .secret = kSecret,
      .public_key_files = {KeyFile(PublicPem(rsa.get())), KeyFile(PublicPem(ec.get()))}};
  for (const std::string& token :
       {Hs256(Claims(), "another secret of more than 32 bytes, as it must be"),
        Rs256(other_rsa.get(), Claims()), Es256(other_ec.get(), Claims())}) {
    EXPECT_THAT(Verdict(options, token), HasSubstr("signature"));
  }
}

TEST_F(TokenVerifierTest, TokenThatChoosesItsAlgorithmIsRefused) {
  const KeyPtr rsa = MakeRsa(2048);
  const std::string pem = PublicPem(rsa.get());
  const TokenOptions options{.public_key_files = {KeyFile(pem)}};
  // The public key is public: as an HMAC secret it would let anybody sign.
  EXPECT_THAT(Verdict(options, Hs256(Claims(), pem)), HasSubstr("algorithm"));
  for (const char* header :
       {R"({"alg":"none"})", R"({"alg":"NONE"})", R"({"alg":"None"})", R"({"alg":""})",
        R"({"alg":"HS256"})", R"({"alg":"RS512"})", R"({"alg":"rs256"})"}) {
    EXPECT_THAT(Verdict(options, Unsigned(header, Claims()) + "."), HasSubstr("algorithm"))
        << header;
  }
  EXPECT_THAT(Verdict(options, Unsigned("{}", Claims()) + "."), HasSubstr("algorithm"));
  EXPECT_THAT(Verdict(options, Unsigned(R"({"alg":["RS256"]})", Claims()) + "."),
              HasSubstr("algorithm"));
}

TEST_F(TokenVerifierTest, EmptyOrCutSignatureIsRefused) {
  const KeyPtr ec = MakeEc("P-256");
  const TokenOptions options{.secret = kSecret, .public_key_files = {KeyFile(PublicPem(ec.get()))}};
  const std::string hs = Hs256(Claims());
  EXPECT_THAT(Verdict(options, hs.substr(0, hs.rfind('.') + 1)), HasSubstr("signature"));
  EXPECT_THAT(Verdict(options, hs.substr(0, hs.size() - 4)), HasSubstr("signature"));
  const std::string input = Unsigned(R"({"alg":"ES256"})", Claims());
  EXPECT_THAT(Verdict(options, input + "."), HasSubstr("signature"));
  EXPECT_THAT(Verdict(options, input + "." + EncodeBase64Url(std::string(64, '\0'))),
              HasSubstr("signature"));
  EXPECT_THAT(Verdict(options, input + "." + EncodeBase64Url(SignDer(ec.get(), input))),
              HasSubstr("signature"));
}

TEST_F(TokenVerifierTest, ChangedClaimsAreRefused) {
  const std::string token = Hs256(Claims());
  const std::string other =
      Hs256(R"({"sub":"eve","exp":9999999999})", "another secret, equally 32 bytes long");
  const std::string forged = other.substr(0, other.rfind('.')) + token.substr(token.rfind('.'));
  EXPECT_THAT(Verdict(forged), HasSubstr("signature"));
}

TEST_F(TokenVerifierTest, CriticalExtensionsAreRefused) {
  EXPECT_THAT(Verdict(Hs256(Claims(), kSecret, R"({"alg":"HS256","crit":["b64"],"b64":false})")),
              HasSubstr("critical"));
}

TEST_F(TokenVerifierTest, WhatIsNoTokenIsRefused) {
  const std::string good = Hs256(Claims());
  for (const std::string& token :
       {std::string(), std::string("."), std::string(".."), std::string("a.b"), good + ".x",
        good + "=", good + "\n", " " + good, "Bearer " + good, std::string(9000, 'a'),
        std::string("\x80\xff.\x01.\x02"),
        EncodeBase64Url("[]") + "." + EncodeBase64Url("{}") + "." + EncodeBase64Url("x"),
        EncodeBase64Url(std::string(3000, '[')) + ".e30.e30"}) {
    EXPECT_NE(Verdict(token), "ok") << token.substr(0, 40);
  }
}

TEST_F(TokenVerifierTest, TimesAreCheckedWithLeeway) {
  const auto with = [&](const std::string& times) {
    return Verdict(Hs256(R"({"sub":"ada",)" + times + "}"));
  };
  const auto at = [&](int64_t from_now) { return std::to_string(Seconds(from_now)); };
  EXPECT_THAT(Verdict(Hs256(R"({"sub":"ada"})")), HasSubstr("exp"));
  EXPECT_THAT(with(R"("exp":"tomorrow")"), HasSubstr("exp"));
  EXPECT_THAT(with(R"("exp":-1)"), HasSubstr("exp"));
  EXPECT_THAT(with(R"("exp":1e300)"), HasSubstr("exp"));
  EXPECT_EQ(with(R"("exp":)" + at(-29)), "ok");
  EXPECT_THAT(with(R"("exp":)" + at(-30)), HasSubstr("expired"));
  EXPECT_EQ(with(R"("exp":)" + at(60) + R"(,"nbf":)" + at(30)), "ok");
  EXPECT_THAT(with(R"("exp":)" + at(60) + R"(,"nbf":)" + at(31)), HasSubstr("nbf"));
  EXPECT_THAT(with(R"("exp":)" + at(60) + R"(,"nbf":"now")"), HasSubstr("nbf"));
  EXPECT_EQ(with(R"("exp":)" + at(60) + ".5"), "ok");
}

TEST_F(TokenVerifierTest, ExpiryBeyondTheClockCountsAsItsLastMoment) {
  // The years 2262, 2286 and 9999.
  for (const char* exp : {"9223372035", "9223372036", "9223372037", "9999999999", "253402300799"}) {
    const std::string token = Hs256(R"({"sub":"ada","exp":)" + std::string(exp) + "}");
    EXPECT_EQ(Verdict(token), "ok") << exp;
    EXPECT_THAT(Verdict({.secret = kSecret, .max_lifetime = std::chrono::hours(1)}, token),
                HasSubstr("longer"))
        << exp;
  }
  auto verifier = TokenVerifier::Create({.secret = kSecret});
  const auto verified = (*verifier)->Verify(Hs256(R"({"sub":"ada","exp":9999999999})"), now_);
  ASSERT_TRUE(verified.ok()) << verified.status();
  EXPECT_EQ(verified->expires_at, TokenVerifier::Time::max());
  EXPECT_EQ(verified->accepted_until, TokenVerifier::Time::max());
}

TEST_F(TokenVerifierTest, StartBeyondTheClockIsNotYet) {
  for (const char* nbf : {"9223372036", "9223372037", "9999999999", "253402300799", "1e300"}) {
    EXPECT_THAT(Verdict(Hs256(Claims(R"(,"nbf":)" + std::string(nbf)))), HasSubstr("nbf")) << nbf;
  }
}

TEST_F(TokenVerifierTest, TokenThatLivesLongerThanAllowedIsRefused) {
  const TokenOptions options{.secret = kSecret, .max_lifetime = std::chrono::minutes(59)};
  EXPECT_THAT(Verdict(options, Hs256(Claims())), HasSubstr("longer"));
  EXPECT_EQ(Verdict({.secret = kSecret, .max_lifetime = std::chrono::minutes(61)}, Hs256(Claims())),
            "ok");
}

TEST_F(TokenVerifierTest, IssuerAndAudienceAreRequiredWhereConfigured) {
  const TokenOptions options{.secret = kSecret, .issuer = "https://id", .audience = "clarion"};
  EXPECT_THAT(Verdict(options, Hs256(Claims())), HasSubstr("iss"));
  EXPECT_THAT(Verdict(options, Hs256(Claims(R"(,"iss":"https://other","aud":"clarion")"))),
              HasSubstr("iss"));
  EXPECT_THAT(Verdict(options, Hs256(Claims(R"(,"iss":"https://id")"))), HasSubstr("aud"));
  EXPECT_THAT(Verdict(options, Hs256(Claims(R"(,"iss":"https://id","aud":"other")"))),
              HasSubstr("aud"));
  EXPECT_THAT(Verdict(options, Hs256(Claims(R"(,"iss":"https://id","aud":{"clarion":1})"))),
              HasSubstr("aud"));
  EXPECT_EQ(Verdict(options, Hs256(Claims(R"(,"iss":"https://id","aud":"clarion")"))), "ok");
  EXPECT_EQ(Verdict(options, Hs256(Claims(R"(,"iss":"https://id","aud":["x","clarion"])"))), "ok");
}

TEST_F(TokenVerifierTest, UserMustBeAnIdAndNotReserved) {
  const auto with = [&](const std::string& sub) {
    return Verdict(Hs256(R"({"exp":)" + std::to_string(Seconds(60)) + R"(,"sub":)" + sub + "}"));
  };
  for (const char* sub :
       {"\"\"", "7", "null", "\"a b\"", "\"\\u0000\"", "\"\xc3\xa4\"", "[\"ada\"]"}) {
    EXPECT_THAT(with(sub), HasSubstr("sub")) << sub;
  }
  EXPECT_THAT(with("\"" + std::string(129, 'x') + "\""), HasSubstr("sub"));
  EXPECT_THAT(with("\"_clarion\""), HasSubstr("reserved"));
  EXPECT_EQ(with("\"_clarion2\""), "another user");
}

TEST_F(TokenVerifierTest, MissingOrUnfitKeysAreNamedByTheirFlag) {
  EXPECT_THAT(Verdict(TokenOptions{}, ""),
              ::testing::AllOf(HasSubstr("--token-secret"), HasSubstr("--token-public-key")));
  EXPECT_THAT(Verdict({.secret = "short"}, ""), HasSubstr("--token-secret"));
  EXPECT_THAT(Verdict({.public_key_files = {"/does/not/exist.pem"}}, ""),
              HasSubstr("--token-public-key"));
  EXPECT_THAT(Verdict({.public_key_files = {KeyFile("nothing")}}, ""), HasSubstr("no public key"));
  EXPECT_THAT(Verdict({.public_key_files = {KeyFile(PublicPem(MakeRsa(1024).get()))}}, ""),
              HasSubstr("2,048"));
  EXPECT_THAT(Verdict({.public_key_files = {KeyFile(PublicPem(MakeEc("P-384").get()))}}, ""),
              HasSubstr("P-256"));
}

TEST_F(TokenVerifierTest, DevelopmentTokenIsAccepted) {
  const TokenOptions options{.secret = kSecret, .issuer = "i", .audience = "a"};
  EXPECT_EQ(
      Verdict(options, SignDevToken(kSecret, options, UserId("ada"), now_ + std::chrono::hours(1))),
      "ok");
}

}  // namespace
}  // namespace clarion::gateway
