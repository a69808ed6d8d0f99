#include "telemetry/runtime/tls.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "proto/base/freer.h"
#include "proto/base/text.h"
#include "telemetry/runtime/flags.h"

namespace clarion {
namespace {

using BioPtr = std::unique_ptr<BIO, Freer<BIO_free>>;
using CertificatePtr = std::unique_ptr<X509, Freer<X509_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Freer<EVP_PKEY_free>>;
using ContextPtr = std::unique_ptr<SSL_CTX, Freer<SSL_CTX_free>>;

struct PemFile {
  std::string flag;
  std::string path;
  std::string text;
};

template <class... Parts>
absl::Status Mistake(const PemFile& file, const Parts&... what) {
  ERR_clear_error();
  return absl::InvalidArgumentError(Concat(file.flag, ": ", file.path, what...));
}

absl::StatusOr<PemFile> Read(const PemFlag& flag) {
  auto text = ReadFlagFile(flag.path);
  if (!text) return absl::InvalidArgumentError(Concat(flag.flag, ": cannot read ", flag.path));
  return PemFile{flag.flag, flag.path, *std::move(text)};
}

BioPtr Reader(const PemFile& file) {
  return BioPtr(BIO_new_mem_buf(file.text.data(), static_cast<int>(file.text.size())));
}

// In place of OpenSSL's own, which asks on the terminal.
int NoPassphrase(char*, int, int, void*) {
  return -1;
}

CertificatePtr ReadCertificate(BIO* bio) {
  ERR_clear_error();
  return CertificatePtr(PEM_read_bio_X509_AUX(bio, nullptr, NoPassphrase, nullptr));
}

// After ReadCertificate had none: whether that was for want of a further one.
bool AtEnd() {
  const unsigned long error = ERR_peek_last_error();
  return ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
}

// The first certificate of at least one, all of which can be read.
absl::StatusOr<CertificatePtr> CheckCertificates(const PemFile& file) {
  const BioPtr bio = Reader(file);
  CertificatePtr first = ReadCertificate(bio.get());
  if (first == nullptr) {
    return Mistake(file, " holds no certificate in PEM (-----BEGIN CERTIFICATE-----)");
  }
  while (ReadCertificate(bio.get()) != nullptr) {
  }
  if (!AtEnd()) return Mistake(file, " holds a certificate that cannot be read, after the first");
  ERR_clear_error();
  return first;
}

absl::Status Unusable(const PemFile& file) {
  const char* reason = ERR_reason_error_string(ERR_peek_last_error());
  return Mistake(file, " cannot be used: ", reason == nullptr ? "no reason given" : reason);
}

absl::Status CheckPair(const PemFile& cert, const PemFile& key) {
  const auto first = CheckCertificates(cert);
  if (!first.ok()) return first.status();
  const BioPtr bio = Reader(key);
  const KeyPtr secret(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassphrase, nullptr));
  if (secret == nullptr) {
    return Mistake(key, " holds no private key in PEM that is free of a passphrase");
  }
  // Keys that are too short for this system's OpenSSL, for instance.
  const ContextPtr context(SSL_CTX_new(TLS_method()));
  if (SSL_CTX_use_certificate(context.get(), first->get()) != 1) return Unusable(cert);
  if (X509_check_private_key(first->get(), secret.get()) != 1) {
    return Mistake(key, " is not the key of the certificate in ", cert.flag, " ", cert.path);
  }
  if (SSL_CTX_use_PrivateKey(context.get(), secret.get()) != 1) return Unusable(key);
  return absl::OkStatus();
}

// What one side shows.
struct Identity {
  PemFile cert;
  PemFile key;
};

absl::StatusOr<Identity> ReadIdentity(const TlsFlags& flags) {
  if (flags.cert.path.empty()) {
    return absl::InvalidArgumentError(Concat(flags.cert.flag, ": ", flags.key.flag, " needs it"));
  }
  if (flags.key.path.empty()) {
    return absl::InvalidArgumentError(Concat(flags.key.flag, ": ", flags.cert.flag, " needs it"));
  }
  auto cert = Read(flags.cert);
  if (!cert.ok()) return cert.status();
  auto key = Read(flags.key);
  if (!key.ok()) return key.status();
  if (absl::Status status = CheckPair(*cert, *key); !status.ok()) return status;
  return Identity{*std::move(cert), *std::move(key)};
}

// The text of the file.
absl::StatusOr<std::string> ReadAuthorities(const PemFlag& flag) {
  auto file = Read(flag);
  if (!file.ok()) return file.status();
  if (const auto first = CheckCertificates(*file); !first.ok()) return first.status();
  return std::move(file->text);
}

bool ShowsNothing(const TlsFlags& flags) {
  return flags.cert.path.empty() && flags.key.path.empty();
}

}  // namespace

absl::StatusOr<std::shared_ptr<grpc::ServerCredentials>> MakeServerCredentials(
    const TlsFlags& flags) {
  if (ShowsNothing(flags)) {
    if (flags.ca.path.empty()) return grpc::InsecureServerCredentials();
    return absl::InvalidArgumentError(
        Concat(flags.ca.flag, ": needs ", flags.cert.flag, " and ", flags.key.flag));
  }
  auto identity = ReadIdentity(flags);
  if (!identity.ok()) return identity.status();
  grpc::SslServerCredentialsOptions ssl(GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
  ssl.pem_key_cert_pairs.push_back({std::move(identity->key.text), std::move(identity->cert.text)});
  if (!flags.ca.path.empty()) {
    auto authorities = ReadAuthorities(flags.ca);
    if (!authorities.ok()) return authorities.status();
    ssl.pem_root_certs = *std::move(authorities);
    ssl.client_certificate_request = GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY;
  }
  return grpc::SslServerCredentials(ssl);
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> MakeChannelCredentials(
    const TlsFlags& flags) {
  if (flags.ca.path.empty()) {
    if (ShowsNothing(flags)) return grpc::InsecureChannelCredentials();
    const PemFlag& given = flags.cert.path.empty() ? flags.key : flags.cert;
    return absl::InvalidArgumentError(Concat(given.flag, ": needs ", flags.ca.flag));
  }
  auto authorities = ReadAuthorities(flags.ca);
  if (!authorities.ok()) return authorities.status();
  grpc::SslCredentialsOptions ssl;
  ssl.pem_root_certs = *std::move(authorities);
  if (!ShowsNothing(flags)) {
    auto identity = ReadIdentity(flags);
    if (!identity.ok()) return identity.status();
    ssl.pem_private_key = std::move(identity->key.text);
    ssl.pem_cert_chain = std::move(identity->cert.text);
  }
  return grpc::SslCredentials(ssl);
}

}  // namespace clarion
