#include "gateway/auth/signature.h"

#include <openssl/bio.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>

#include <array>
#include <utility>

#include "absl/status/status.h"
#include "proto/base/freer.h"

namespace clarion::gateway {
namespace {

using PublicKeyPtr = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using ContextPtr = std::unique_ptr<EVP_MD_CTX, Freer<EVP_MD_CTX_free>>;
using BioPtr = std::unique_ptr<BIO, Freer<BIO_free>>;
using EcSignaturePtr = std::unique_ptr<ECDSA_SIG, Freer<ECDSA_SIG_free>>;

constexpr int kLeastRsaBits = 2048;
constexpr size_t kEcScalarBytes = 32;

const unsigned char* Bytes(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

class HmacKey final : public SignatureKey {
 public:
  explicit HmacKey(std::string secret) : secret_(std::move(secret)) {}
  std::string_view algorithm() const override { return "HS256"; }
  bool Verifies(std::string_view signed_bytes, std::string_view signature) const override {
    const std::string expected = HmacSha256(secret_, signed_bytes);
    return expected.size() == signature.size() &&
           CRYPTO_memcmp(expected.data(), signature.data(), expected.size()) == 0;
  }

 private:
  const std::string secret_;
};

bool VerifySha256(EVP_PKEY* key, std::string_view signed_bytes, std::string_view signature) {
  const ContextPtr context(EVP_MD_CTX_new());
  const bool good = context != nullptr &&
                    EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key) == 1 &&
                    EVP_DigestVerify(context.get(), Bytes(signature), signature.size(),
                                     Bytes(signed_bytes), signed_bytes.size()) == 1;
  ERR_clear_error();
  return good;
}

class RsaKey final : public SignatureKey {
 public:
  explicit RsaKey(PublicKeyPtr key) : key_(std::move(key)) {}
  std::string_view algorithm() const override { return "RS256"; }
  bool Verifies(std::string_view signed_bytes, std::string_view signature) const override {
    return VerifySha256(key_.get(), signed_bytes, signature);
  }

 private:
  const PublicKeyPtr key_;
};

// r and s side by side, as tokens have them, into the DER that OpenSSL reads. Empty: no signature.
std::string ToDer(std::string_view signature) {
  if (signature.size() != 2 * kEcScalarBytes) return "";
  const EcSignaturePtr numbers(ECDSA_SIG_new());
  BIGNUM* r = BN_bin2bn(Bytes(signature), kEcScalarBytes, nullptr);
  BIGNUM* s = BN_bin2bn(Bytes(signature) + kEcScalarBytes, kEcScalarBytes, nullptr);
  if (numbers == nullptr || r == nullptr || s == nullptr ||
      ECDSA_SIG_set0(numbers.get(), r, s) != 1) {
    BN_free(r);
    BN_free(s);
    return "";
  }
  unsigned char* der = nullptr;
  const int bytes = i2d_ECDSA_SIG(numbers.get(), &der);
  if (bytes <= 0) return "";
  std::string out(reinterpret_cast<char*>(der), static_cast<size_t>(bytes));
  OPENSSL_free(der);
  return out;
}

class EcKey final : public SignatureKey {
 public:
  explicit EcKey(PublicKeyPtr key) : key_(std::move(key)) {}
  std::string_view algorithm() const override { return "ES256"; }
  bool Verifies(std::string_view signed_bytes, std::string_view signature) const override {
    const std::string der = ToDer(signature);
    return !der.empty() && VerifySha256(key_.get(), signed_bytes, der);
  }

 private:
  const PublicKeyPtr key_;
};

bool IsP256(EVP_PKEY* key) {
  std::array<char, 64> name{};
  size_t length = 0;
  return EVP_PKEY_get_utf8_string_param(key, OSSL_PKEY_PARAM_GROUP_NAME, name.data(), name.size(),
                                        &length) == 1 &&
         std::string_view(name.data(), length) == "prime256v1";
}

}  // namespace

std::string HmacSha256(std::string_view secret, std::string_view bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> mac;
  unsigned int size = 0;
  HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()), Bytes(bytes), bytes.size(),
       mac.data(), &size);
  return {reinterpret_cast<char*>(mac.data()), size};
}

std::unique_ptr<const SignatureKey> MakeHmacKey(std::string secret) {
  return std::make_unique<HmacKey>(std::move(secret));
}

absl::StatusOr<std::unique_ptr<const SignatureKey>> MakePublicKey(std::string_view pem) {
  const BioPtr bio(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  PublicKeyPtr key(PEM_read_bio_PUBKEY(bio.get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  if (key == nullptr) {
    return absl::InvalidArgumentError("holds no public key in PEM (-----BEGIN PUBLIC KEY-----)");
  }
  if (EVP_PKEY_is_a(key.get(), "RSA") == 1) {
    if (EVP_PKEY_get_bits(key.get()) < kLeastRsaBits) {
      return absl::InvalidArgumentError("is an RSA key of fewer than 2,048 bits");
    }
    return std::make_unique<RsaKey>(std::move(key));
  }
  if (EVP_PKEY_is_a(key.get(), "EC") == 1 && IsP256(key.get())) {
    return std::make_unique<EcKey>(std::move(key));
  }
  return absl::InvalidArgumentError("is neither an RSA key nor an EC key on P-256");
}

}  // namespace clarion::gateway
