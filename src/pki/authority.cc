// The certificate authority of one installation.
#include <fmt/format.h>
#include <openssl/rand.h>

#include <algorithm>
#include <ctime>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/status.h"
#include "pki/certificate.h"
#include "pki/openssl.h"

namespace sealift::pki {
namespace {

using std::chrono::system_clock;

// Certificates are valid from a little before they are made, for parties whose clock is behind.
constexpr std::chrono::minutes kClockSkew{10};
// RFC 5280, 4.1.2.2 wants serials positive and of at most 20 octets; 128 random bits never repeat.
constexpr int kSerialBits = 128;
constexpr std::size_t kTrustDomainBytes = 8;

struct Validity {
  base::WallTime from;
  base::WallTime to;
};

absl::Status SetSerial(X509* certificate) {
  const NumberPtr serial(BN_new());
  if (!serial || BN_rand(serial.get(), kSerialBits, BN_RAND_TOP_ONE, BN_RAND_BOTTOM_ANY) != 1 ||
      BN_to_ASN1_INTEGER(serial.get(), X509_get_serialNumber(certificate)) == nullptr) {
    return OpenSslError(absl::StatusCode::kInternal, "make the serial of a certificate");
  }
  return absl::OkStatus();
}

absl::Status SetValidity(X509* certificate, const Validity& validity) {
  if (ASN1_TIME_set(X509_getm_notBefore(certificate), system_clock::to_time_t(validity.from)) ==
          nullptr ||
      ASN1_TIME_set(X509_getm_notAfter(certificate), system_clock::to_time_t(validity.to)) ==
          nullptr) {
    return OpenSslError(absl::StatusCode::kInternal, "set the validity of a certificate");
  }
  return absl::OkStatus();
}

struct Extension {
  int nid;
  std::string value;  // in the syntax of x509v3_config(5)
};

absl::Status AddExtensions(X509* certificate, X509* issuer,
                           const std::vector<Extension>& extensions) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  for (const Extension& extension : extensions) {
    const ExtensionPtr made(
        X509V3_EXT_nconf_nid(nullptr, &context, extension.nid, extension.value.c_str()));
    if (!made || X509_add_ext(certificate, made.get(), -1) != 1) {
      return OpenSslError(
          absl::StatusCode::kInternal,
          fmt::format("write extension {} of a certificate", OBJ_nid2sn(extension.nid)));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<CertificatePtr> NewCertificate(EVP_PKEY* public_key, const Validity& validity) {
  CertificatePtr certificate(X509_new());
  if (!certificate || X509_set_version(certificate.get(), X509_VERSION_3) != 1 ||
      X509_set_pubkey(certificate.get(), public_key) != 1) {
    return OpenSslError(absl::StatusCode::kInternal, "make a certificate");
  }
  SEALIFT_RETURN_IF_ERROR(SetSerial(certificate.get()));
  SEALIFT_RETURN_IF_ERROR(SetValidity(certificate.get(), validity));
  return certificate;
}

absl::Status Sign(X509* certificate, EVP_PKEY* key) {
  if (X509_sign(certificate, key, EVP_sha384()) == 0) {
    return OpenSslError(absl::StatusCode::kInternal, "sign a certificate");
  }
  return absl::OkStatus();
}

// KeyUsageOf keeps a stolen key from being used on the other side of a connection.
std::string KeyUsageOf(Role role) {
  switch (role) {
    case Role::kController:
      return "serverAuth,clientAuth";
    case Role::kHost:
      return "serverAuth";
    case Role::kViewer:
    case Role::kOperator:
    case Role::kAdmin:
      return "clientAuth";
  }
  return "";
}

absl::StatusOr<std::string> RandomTrustDomain() {
  base::Bytes random(kTrustDomainBytes);
  if (RAND_bytes(reinterpret_cast<unsigned char*>(random.data()),
                 static_cast<int>(random.size())) != 1) {
    return OpenSslError(absl::StatusCode::kInternal, "make a trust domain");
  }
  return fmt::format("sealift-{}", base::ToHex(random));
}

absl::StatusOr<CertificatePtr> SelfSigned(EVP_PKEY* key, const std::string& trust_domain,
                                          base::WallTime now) {
  SEALIFT_ASSIGN_OR_RETURN(CertificatePtr certificate,
                           NewCertificate(key, {now - kClockSkew, now + kCaLifetime}));
  X509_NAME* subject = X509_get_subject_name(certificate.get());
  SEALIFT_RETURN_IF_ERROR(SetSubject(subject, "certificate authority", trust_domain));
  X509_set_issuer_name(certificate.get(), subject);
  SEALIFT_RETURN_IF_ERROR(
      AddExtensions(certificate.get(), certificate.get(),
                    {{NID_basic_constraints, "critical,CA:TRUE,pathlen:0"},
                     {NID_key_usage, "critical,keyCertSign,cRLSign"},
                     {NID_subject_key_identifier, "hash"},
                     {NID_subject_alt_name, fmt::format("URI:spiffe://{}", trust_domain)}}));
  SEALIFT_RETURN_IF_ERROR(Sign(certificate.get(), key));
  return certificate;
}

// TrustDomainOf reads the name of a CA: spiffe://TRUST-DOMAIN without a path.
absl::StatusOr<std::string> TrustDomainOf(const X509* certificate) {
  SEALIFT_ASSIGN_OR_RETURN(const std::string uri, OnlyUri(certificate));
  SEALIFT_ASSIGN_OR_RETURN(const Identity controller, ParseIdentity(uri + "/controller"));
  return controller.trust_domain;
}

absl::Status CheckCa(X509* certificate, EVP_PKEY* key, base::WallTime now) {
  if (X509_check_ca(certificate) != 1) {
    return absl::InvalidArgumentError("the certificate is not one of a certificate authority");
  }
  if (EVP_PKEY_eq(X509_get0_pubkey(certificate), key) != 1) {
    return absl::InvalidArgumentError("the private key does not belong to the certificate");
  }
  if (X509_self_signed(certificate, /*verify_signature=*/1) != 1) {
    return OpenSslError(absl::StatusCode::kInvalidArgument,
                        "the certificate is not signed by itself");
  }
  std::time_t time = system_clock::to_time_t(now);
  if (X509_cmp_time(X509_get0_notAfter(certificate), &time) < 0) {
    return absl::FailedPreconditionError("the certificate of the authority has expired");
  }
  return absl::OkStatus();
}

class OpenSslAuthority final : public CertificateAuthority {
 public:
  OpenSslAuthority(CertificatePtr certificate, KeyPtr key, std::string certificate_pem,
                   std::string trust_domain, const base::Clock& clock)
      : certificate_(std::move(certificate)),
        key_(std::move(key)),
        certificate_pem_(std::move(certificate_pem)),
        trust_domain_(std::move(trust_domain)),
        clock_(clock) {}

  absl::StatusOr<std::string> Issue(const std::string& request_pem, const Identity& identity,
                                    std::chrono::hours lifetime) override {
    SEALIFT_RETURN_IF_ERROR(CheckIdentity(identity));
    SEALIFT_ASSIGN_OR_RETURN(const KeyPtr public_key, ProvenKey(request_pem));
    SEALIFT_ASSIGN_OR_RETURN(const Validity validity, ValidityFor(lifetime));
    SEALIFT_ASSIGN_OR_RETURN(const CertificatePtr leaf, NewCertificate(public_key.get(), validity));
    SEALIFT_RETURN_IF_ERROR(SetSubject(X509_get_subject_name(leaf.get()), identity));
    X509_set_issuer_name(leaf.get(), X509_get_subject_name(certificate_.get()));
    SEALIFT_RETURN_IF_ERROR(AddExtensions(leaf.get(), certificate_.get(),
                                          {{NID_basic_constraints, "critical,CA:FALSE"},
                                           {NID_key_usage, "critical,digitalSignature"},
                                           {NID_ext_key_usage, KeyUsageOf(identity.role)},
                                           {NID_subject_key_identifier, "hash"},
                                           {NID_authority_key_identifier, "keyid:always"},
                                           {NID_subject_alt_name, "URI:" + identity.ToUri()}}));
    SEALIFT_RETURN_IF_ERROR(Sign(leaf.get(), key_.get()));
    SEALIFT_ASSIGN_OR_RETURN(const std::string leaf_pem, CertificateToPem(leaf.get()));
    return leaf_pem + certificate_pem_;
  }

  const std::string& certificate_pem() const override { return certificate_pem_; }
  absl::StatusOr<std::string> key_pem() const override { return PrivateKeyToPem(key_.get()); }
  const std::string& trust_domain() const override { return trust_domain_; }

 private:
  absl::Status CheckIdentity(const Identity& identity) const {
    const std::string uri = identity.ToUri();
    SEALIFT_ASSIGN_OR_RETURN(const Identity parsed, ParseIdentity(uri));
    if (parsed != identity || identity.trust_domain != trust_domain_) {
      return absl::InvalidArgumentError(
          fmt::format("{} is not an identity of trust domain {}", uri, trust_domain_));
    }
    return absl::OkStatus();
  }

  // ProvenKey is the key of a request whose signature shows that the asker has its private half.
  static absl::StatusOr<KeyPtr> ProvenKey(const std::string& request_pem) {
    SEALIFT_ASSIGN_OR_RETURN(const RequestPtr request, ParseRequest(request_pem));
    KeyPtr key(X509_REQ_get_pubkey(request.get()));
    SEALIFT_RETURN_IF_ERROR(CheckKeyKind(key.get()));
    if (X509_REQ_verify(request.get(), key.get()) != 1) {
      return OpenSslError(absl::StatusCode::kInvalidArgument,
                          "the signature of the certificate request is wrong");
    }
    return key;
  }

  // No certificate outlives its issuer's.
  absl::StatusOr<Validity> ValidityFor(std::chrono::hours lifetime) const {
    const base::WallTime now = clock_.Now();
    SEALIFT_ASSIGN_OR_RETURN(const base::WallTime end,
                             ToWallTime(X509_get0_notAfter(certificate_.get())));
    return Validity{now - kClockSkew, std::min<base::WallTime>(now + lifetime, end)};
  }

  const CertificatePtr certificate_;
  const KeyPtr key_;
  const std::string certificate_pem_;
  const std::string trust_domain_;
  const base::Clock& clock_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<CertificateAuthority>> CertificateAuthority::Create(
    const base::Clock& clock) {
  SEALIFT_ASSIGN_OR_RETURN(KeyPtr key, NewKey());
  SEALIFT_ASSIGN_OR_RETURN(std::string trust_domain, RandomTrustDomain());
  SEALIFT_ASSIGN_OR_RETURN(CertificatePtr certificate,
                           SelfSigned(key.get(), trust_domain, clock.Now()));
  SEALIFT_ASSIGN_OR_RETURN(std::string pem, CertificateToPem(certificate.get()));
  return std::make_unique<OpenSslAuthority>(std::move(certificate), std::move(key), std::move(pem),
                                            std::move(trust_domain), clock);
}

absl::StatusOr<std::unique_ptr<CertificateAuthority>> CertificateAuthority::Load(
    const std::string& certificate_pem, const std::string& key_pem, const base::Clock& clock) {
  SEALIFT_ASSIGN_OR_RETURN(CertificatePtr certificate, ParseCertificate(certificate_pem));
  SEALIFT_ASSIGN_OR_RETURN(KeyPtr key, ParsePrivateKey(key_pem));
  SEALIFT_RETURN_IF_ERROR(CheckCa(certificate.get(), key.get(), clock.Now()));
  SEALIFT_ASSIGN_OR_RETURN(std::string trust_domain, TrustDomainOf(certificate.get()));
  SEALIFT_ASSIGN_OR_RETURN(std::string pem, CertificateToPem(certificate.get()));
  return std::make_unique<OpenSslAuthority>(std::move(certificate), std::move(key), std::move(pem),
                                            std::move(trust_domain), clock);
}

absl::StatusOr<std::string> ReadTrustDomain(const std::string& ca_pem) {
  SEALIFT_ASSIGN_OR_RETURN(const CertificatePtr certificate, ParseCertificate(ca_pem));
  return TrustDomainOf(certificate.get());
}

}  // namespace sealift::pki
