// What the .cc files of this folder share of OpenSSL: owners of its objects, and PEM in and out.
// Private: nobody outside includes it.
#pragma once

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "pki/identity.h"

namespace sealift::pki {

template <auto kFree>
struct Freer {
  template <typename T>
  void operator()(T* object) const {
    kFree(object);
  }
};
template <typename T, auto kFree>
using Owned = std::unique_ptr<T, Freer<kFree>>;

using BioPtr = Owned<BIO, BIO_free_all>;
using NumberPtr = Owned<BIGNUM, BN_free>;
using KeyPtr = Owned<EVP_PKEY, EVP_PKEY_free>;
using CertificatePtr = Owned<X509, X509_free>;
using RequestPtr = Owned<X509_REQ, X509_REQ_free>;
using ExtensionPtr = Owned<X509_EXTENSION, X509_EXTENSION_free>;
using NamesPtr = Owned<GENERAL_NAMES, GENERAL_NAMES_free>;

// OpenSslError is a status with the first error of OpenSSL's queue of this thread in its text; the
// queue is emptied.
[[nodiscard]] absl::Status OpenSslError(absl::StatusCode code, std::string_view what);

// ReadOnly is a BIO over text that must outlive it. TextOf copies what was written to a memory BIO.
[[nodiscard]] BioPtr ReadOnly(std::string_view text);
[[nodiscard]] std::string TextOf(BIO* bio);

// Parsers of PEM text. Blocks of other kinds before the one wanted are skipped. INVALID_ARGUMENT
// when there is none.
[[nodiscard]] absl::StatusOr<CertificatePtr> ParseCertificate(std::string_view pem);
[[nodiscard]] absl::StatusOr<KeyPtr> ParsePrivateKey(std::string_view pem);
[[nodiscard]] absl::StatusOr<RequestPtr> ParseRequest(std::string_view pem);

// Writers of PEM text; a key as unencrypted PKCS#8, through memory that is cleansed.
[[nodiscard]] absl::StatusOr<std::string> CertificateToPem(X509* certificate);
[[nodiscard]] absl::StatusOr<std::string> PrivateKeyToPem(EVP_PKEY* key);

// CheckKeyKind accepts ECDSA keys on P-384, the only kind in use.
[[nodiscard]] absl::Status CheckKeyKind(const EVP_PKEY* key);

// NewKey makes one.
[[nodiscard]] absl::StatusOr<KeyPtr> NewKey();

// ToWallTime reads a time of a certificate. One that lies outside of 1970 to 2262 becomes the
// nearest inside, so that it can be reckoned with (RFC 5280 writes "never" as the year 9999).
[[nodiscard]] absl::StatusOr<base::WallTime> ToWallTime(const ASN1_TIME* time);

// OnlyUri is the one URI of a certificate's subject alternative names; a certificate with none,
// several or any other kind of name is refused.
[[nodiscard]] absl::StatusOr<std::string> OnlyUri(const X509* certificate);

// SetSubject writes O=sealift, OU=`unit`, CN=`name`. For people; nothing decides by it.
[[nodiscard]] absl::Status SetSubject(X509_NAME* subject, std::string_view unit,
                                      std::string_view name);
[[nodiscard]] absl::Status SetSubject(X509_NAME* subject, const Identity& identity);

}  // namespace sealift::pki
