#include "pki/openssl.h"

#include <fmt/format.h>
#include <openssl/ec.h>
#include <openssl/err.h>

#include <algorithm>
#include <cstdint>
#include <ctime>

#include "base/status.h"

namespace sealift::pki {
namespace {

constexpr const char* kCurve = "P-384";
constexpr std::string_view kGroup = "secp384r1";

// Without it OpenSSL would ask for a password on the terminal.
int NoPassword(char*, int, int, void*) { return -1; }

absl::Status AddNamePart(X509_NAME* subject, const char* field, std::string_view value) {
  const auto* bytes = reinterpret_cast<const unsigned char*>(value.data());
  if (X509_NAME_add_entry_by_txt(subject, field, MBSTRING_ASC, bytes,
                                 static_cast<int>(value.size()), -1, 0) != 1) {
    return OpenSslError(absl::StatusCode::kInternal, "write the subject of a certificate");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status OpenSslError(absl::StatusCode code, std::string_view what) {
  const unsigned long first = ERR_peek_error();
  const char* reason = first == 0 ? nullptr : ERR_reason_error_string(first);
  const std::string text =
      reason == nullptr ? std::string(what) : fmt::format("{}: {}", what, reason);
  ERR_clear_error();
  return absl::Status(code, text);
}

BioPtr ReadOnly(std::string_view text) {
  return BioPtr(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

std::string TextOf(BIO* bio) {
  char* data = nullptr;
  const long size = BIO_get_mem_data(bio, &data);
  return {data, static_cast<std::size_t>(size)};
}

absl::StatusOr<CertificatePtr> ParseCertificate(std::string_view pem) {
  const BioPtr bio = ReadOnly(pem);
  CertificatePtr certificate(PEM_read_bio_X509(bio.get(), nullptr, NoPassword, nullptr));
  if (!certificate) {
    return OpenSslError(absl::StatusCode::kInvalidArgument, "read a certificate from PEM text");
  }
  return certificate;
}

absl::StatusOr<KeyPtr> ParsePrivateKey(std::string_view pem) {
  const BioPtr bio = ReadOnly(pem);
  KeyPtr key(PEM_read_bio_PrivateKey(bio.get(), nullptr, NoPassword, nullptr));
  if (!key) {
    return OpenSslError(absl::StatusCode::kInvalidArgument, "read a private key from PEM text");
  }
  SEALIFT_RETURN_IF_ERROR(CheckKeyKind(key.get()));
  return key;
}

absl::StatusOr<RequestPtr> ParseRequest(std::string_view pem) {
  const BioPtr bio = ReadOnly(pem);
  RequestPtr request(PEM_read_bio_X509_REQ(bio.get(), nullptr, NoPassword, nullptr));
  if (!request) {
    return OpenSslError(absl::StatusCode::kInvalidArgument,
                        "read a certificate request from PEM text");
  }
  return request;
}

absl::StatusOr<std::string> CertificateToPem(X509* certificate) {
  const BioPtr bio(BIO_new(BIO_s_mem()));
  if (!bio || PEM_write_bio_X509(bio.get(), certificate) != 1) {
    return OpenSslError(absl::StatusCode::kInternal, "write a certificate");
  }
  return TextOf(bio.get());
}

absl::StatusOr<std::string> PrivateKeyToPem(EVP_PKEY* key) {
  // Growing and freeing a memory BIO cleanses what it held (BUF_MEM_grow_clean, BUF_MEM_free).
  const BioPtr bio(BIO_new(BIO_s_secmem()));
  if (!bio || PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, NoPassword,
                                            nullptr) != 1) {
    return OpenSslError(absl::StatusCode::kInternal, "write a private key");
  }
  return TextOf(bio.get());
}

absl::Status CheckKeyKind(const EVP_PKEY* key) {
  char group[64] = {};
  std::size_t size = 0;
  if (key == nullptr || EVP_PKEY_get_base_id(key) != EVP_PKEY_EC ||
      EVP_PKEY_get_group_name(key, group, sizeof group, &size) != 1 ||
      std::string_view(group, size) != kGroup) {
    return OpenSslError(absl::StatusCode::kInvalidArgument, "the key is not an ECDSA key on P-384");
  }
  return absl::OkStatus();
}

absl::StatusOr<KeyPtr> NewKey() {
  KeyPtr key(EVP_EC_gen(kCurve));
  if (!key) return OpenSslError(absl::StatusCode::kInternal, "make a private key");
  return key;
}

absl::StatusOr<base::WallTime> ToWallTime(const ASN1_TIME* time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) {
    return OpenSslError(absl::StatusCode::kInvalidArgument, "read a time of a certificate");
  }
  return base::FromUnixMillis(std::max<std::int64_t>(timegm(&parts), 0) * 1000);
}

absl::StatusOr<std::string> OnlyUri(const X509* certificate) {
  int critical = 0;
  const NamesPtr names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, &critical, nullptr)));
  if (!names || sk_GENERAL_NAME_num(names.get()) != 1 ||
      sk_GENERAL_NAME_value(names.get(), 0)->type != GEN_URI) {
    return OpenSslError(absl::StatusCode::kInvalidArgument,
                        "the certificate does not name exactly one spiffe:// identity");
  }
  const ASN1_STRING* uri = sk_GENERAL_NAME_value(names.get(), 0)->d.uniformResourceIdentifier;
  return std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(uri)),
                     static_cast<std::size_t>(ASN1_STRING_length(uri)));
}

absl::Status SetSubject(X509_NAME* subject, std::string_view unit, std::string_view name) {
  SEALIFT_RETURN_IF_ERROR(AddNamePart(subject, "O", "sealift"));
  SEALIFT_RETURN_IF_ERROR(AddNamePart(subject, "OU", unit));
  return AddNamePart(subject, "CN", name);
}

absl::Status SetSubject(X509_NAME* subject, const Identity& identity) {
  const std::string_view role = RoleName(identity.role);
  return SetSubject(subject, role, identity.name.empty() ? role : identity.name);
}

}  // namespace sealift::pki
