// Certificates, requests and the certificate authority. PEM text goes in and out; OpenSSL stays
// inside.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "pki/identity.h"

namespace sealift::pki {

inline constexpr std::chrono::hours kCaLifetime{24 * 3650};
inline constexpr std::chrono::hours kCertificateLifetime{24 * 90};

// CertificateInfo is what can be read off a certificate without judging it.
struct CertificateInfo {
  Identity identity;
  std::string serial;  // hexadecimal
  base::WallTime not_before;
  base::WallTime not_after;
};
// ReadCertificate reads the first certificate of a PEM text (a private key before it is skipped).
// INVALID_ARGUMENT unless its only subject alternative name is the URI of one identity.
[[nodiscard]] absl::StatusOr<CertificateInfo> ReadCertificate(const std::string& pem);

// CheckValidity returns UNAUTHENTICATED when a certificate has expired or is not valid yet.
[[nodiscard]] absl::Status CheckValidity(const CertificateInfo& certificate, base::WallTime now);

// RenewalDue says that less than a third of its life is left.
[[nodiscard]] bool RenewalDue(const CertificateInfo& certificate, base::WallTime now);

// PrivateKey is an ECDSA P-384 key as PKCS#8 PEM.
[[nodiscard]] absl::StatusOr<std::string> GeneratePrivateKey();

// MakeRequest is a PKCS#10 request (RFC 2986) that proves possession of the key and asks for
// `identity`.
[[nodiscard]] absl::StatusOr<std::string> MakeRequest(const std::string& key_pem,
                                                      const Identity& identity);

// MatchesKey says whether the first certificate of a chain belongs to a private key.
[[nodiscard]] absl::StatusOr<bool> MatchesKey(const std::string& chain_pem,
                                              const std::string& key_pem);

// IsIssuedBy says whether the first certificate of a chain was signed by a CA.
[[nodiscard]] absl::StatusOr<bool> IsIssuedBy(const std::string& chain_pem,
                                              const std::string& ca_pem);

// ReadTrustDomain reads the trust domain off the certificate of a CA.
[[nodiscard]] absl::StatusOr<std::string> ReadTrustDomain(const std::string& ca_pem);

// WipeKey overwrites the text of a private key and empties it.
void WipeKey(std::string& key_pem);

// CertificateAuthority signs. One per installation; the key stays in its file. It keeps a reference
// to the clock, which must outlive it. Thread-safe.
class CertificateAuthority {
 public:
  // Create makes a new one with a random trust domain.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<CertificateAuthority>> Create(
      const base::Clock& clock);
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<CertificateAuthority>> Load(
      const std::string& certificate_pem, const std::string& key_pem, const base::Clock& clock);
  static void Create(const base::Clock&&) = delete;
  static void Load(const std::string&, const std::string&, const base::Clock&&) = delete;
  virtual ~CertificateAuthority() = default;

  // Issue checks the request's signature and signs it for exactly `identity`; what the request asks
  // for besides its key is ignored. Key usages follow the role: hosts serve, users are clients,
  // the controller is both.
  [[nodiscard]] virtual absl::StatusOr<std::string> Issue(const std::string& request_pem,
                                                          const Identity& identity,
                                                          std::chrono::hours lifetime) = 0;
  [[nodiscard]] virtual const std::string& certificate_pem() const = 0;
  [[nodiscard]] virtual absl::StatusOr<std::string> key_pem() const = 0;
  [[nodiscard]] virtual const std::string& trust_domain() const = 0;
};

}  // namespace sealift::pki
