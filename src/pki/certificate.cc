#include "pki/certificate.h"

#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/err.h>

#include "base/bytes.h"
#include "base/status.h"
#include "pki/openssl.h"

namespace sealift::pki {
namespace {

absl::StatusOr<std::string> SerialOf(const X509* certificate) {
  const NumberPtr number(ASN1_INTEGER_to_BN(X509_get0_serialNumber(certificate), nullptr));
  if (!number) {
    return OpenSslError(absl::StatusCode::kInvalidArgument, "read the serial of a certificate");
  }
  base::Bytes bytes(static_cast<std::size_t>(BN_num_bytes(number.get())));
  BN_bn2bin(number.get(), reinterpret_cast<unsigned char*>(bytes.data()));
  return base::ToHex(bytes);
}

absl::Status AddRequestedIdentity(X509_REQ* request, const Identity& identity) {
  const std::string value = "URI:" + identity.ToUri();
  const Owned<STACK_OF(X509_EXTENSION),
              [](STACK_OF(X509_EXTENSION) * stack) {
                sk_X509_EXTENSION_pop_free(stack, X509_EXTENSION_free);
              }>
      extensions(sk_X509_EXTENSION_new_null());
  ExtensionPtr name(X509V3_EXT_nconf_nid(nullptr, nullptr, NID_subject_alt_name, value.c_str()));
  if (!extensions || !name || sk_X509_EXTENSION_push(extensions.get(), name.get()) == 0) {
    return OpenSslError(absl::StatusCode::kInternal, "write the identity into a request");
  }
  (void)name.release();  // the stack owns it now
  if (X509_REQ_add_extensions(request, extensions.get()) != 1) {
    return OpenSslError(absl::StatusCode::kInternal, "write the identity into a request");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<CertificateInfo> ReadCertificate(const std::string& pem) {
  SEALIFT_ASSIGN_OR_RETURN(const CertificatePtr certificate, ParseCertificate(pem));
  SEALIFT_ASSIGN_OR_RETURN(const std::string uri, OnlyUri(certificate.get()));
  CertificateInfo info;
  SEALIFT_ASSIGN_OR_RETURN(info.identity, ParseIdentity(uri));
  SEALIFT_ASSIGN_OR_RETURN(info.serial, SerialOf(certificate.get()));
  SEALIFT_ASSIGN_OR_RETURN(info.not_before, ToWallTime(X509_get0_notBefore(certificate.get())));
  SEALIFT_ASSIGN_OR_RETURN(info.not_after, ToWallTime(X509_get0_notAfter(certificate.get())));
  return info;
}

bool RenewalDue(const CertificateInfo& certificate, base::WallTime now) {
  return certificate.not_after - now < (certificate.not_after - certificate.not_before) / 3;
}

absl::Status CheckValidity(const CertificateInfo& certificate, base::WallTime now) {
  const std::string whose = certificate.identity.ToUri();
  if (now < certificate.not_before) {
    return absl::UnauthenticatedError(
        fmt::format("the certificate of {} is valid from {} on and it is {} here: set the clock",
                    whose, base::FormatUtc(certificate.not_before), base::FormatUtc(now)));
  }
  if (now > certificate.not_after) {
    return absl::UnauthenticatedError(fmt::format(
        "the certificate of {} expired at {}: get a new one, or set the clock if it is wrong",
        whose, base::FormatUtc(certificate.not_after)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> GeneratePrivateKey() {
  SEALIFT_ASSIGN_OR_RETURN(const KeyPtr key, NewKey());
  return PrivateKeyToPem(key.get());
}

absl::StatusOr<std::string> MakeRequest(const std::string& key_pem, const Identity& identity) {
  SEALIFT_RETURN_IF_ERROR(ParseIdentity(identity.ToUri()).status());
  SEALIFT_ASSIGN_OR_RETURN(const KeyPtr key, ParsePrivateKey(key_pem));
  const RequestPtr request(X509_REQ_new());
  if (!request || X509_REQ_set_version(request.get(), X509_REQ_VERSION_1) != 1) {
    return OpenSslError(absl::StatusCode::kInternal, "make a certificate request");
  }
  SEALIFT_RETURN_IF_ERROR(SetSubject(X509_REQ_get_subject_name(request.get()), identity));
  SEALIFT_RETURN_IF_ERROR(AddRequestedIdentity(request.get(), identity));
  const BioPtr bio(BIO_new(BIO_s_mem()));
  if (X509_REQ_set_pubkey(request.get(), key.get()) != 1 ||
      X509_REQ_sign(request.get(), key.get(), EVP_sha384()) == 0 || !bio ||
      PEM_write_bio_X509_REQ(bio.get(), request.get()) != 1) {
    return OpenSslError(absl::StatusCode::kInternal, "sign a certificate request");
  }
  return TextOf(bio.get());
}

absl::StatusOr<bool> MatchesKey(const std::string& chain_pem, const std::string& key_pem) {
  SEALIFT_ASSIGN_OR_RETURN(const CertificatePtr certificate, ParseCertificate(chain_pem));
  SEALIFT_ASSIGN_OR_RETURN(const KeyPtr key, ParsePrivateKey(key_pem));
  return EVP_PKEY_eq(X509_get0_pubkey(certificate.get()), key.get()) == 1;
}

absl::StatusOr<bool> IsIssuedBy(const std::string& chain_pem, const std::string& ca_pem) {
  SEALIFT_ASSIGN_OR_RETURN(const CertificatePtr certificate, ParseCertificate(chain_pem));
  SEALIFT_ASSIGN_OR_RETURN(const CertificatePtr ca, ParseCertificate(ca_pem));
  const bool issued = X509_check_issued(ca.get(), certificate.get()) == X509_V_OK &&
                      X509_verify(certificate.get(), X509_get0_pubkey(ca.get())) == 1;
  ERR_clear_error();
  return issued;
}

void WipeKey(std::string& key_pem) {
  OPENSSL_cleanse(key_pem.data(), key_pem.size());
  key_pem.clear();
}

}  // namespace sealift::pki
