// Certificates of peers and requests for certificates. Nothing that our authority has not signed
// counts as signed by it, and whatever a request asks for, what is signed names whom we meant.
//
// The input: one byte, then PEM text (0), or what is below it: the DER of a certificate (1) or of a
// request (2).
#include <openssl/evp.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "pki/certificate.h"

namespace {

using namespace sealift;

const base::SystemClock& Clock() {
  static const base::SystemClock clock;
  return clock;
}

pki::CertificateAuthority& Authority() {
  static const auto authority = pki::CertificateAuthority::Create(Clock()).value();
  return *authority;
}

const std::string& Key() {
  static const std::string key = pki::GeneratePrivateKey().value();
  return key;
}

std::string ToPem(std::span<const std::uint8_t> der, const std::string& kind) {
  std::vector<unsigned char> text(4 * ((der.size() + 2) / 3) + 1);
  const int size = EVP_EncodeBlock(text.data(), der.data(), static_cast<int>(der.size()));
  std::string pem = "-----BEGIN " + kind + "-----\n";
  for (int at = 0; at < size; at += 64) {
    pem.append(reinterpret_cast<const char*>(text.data()) + at,
               static_cast<std::size_t>(std::min(64, size - at)));
    pem += '\n';
  }
  return pem + "-----END " + kind + "-----\n";
}

void ReadCertificate(const std::string& pem) {
  const absl::StatusOr<pki::CertificateInfo> info = pki::ReadCertificate(pem);
  if (info.ok()) {
    SEALIFT_CHECK(pki::ParseIdentity(info->identity.ToUri()).value() == info->identity);
    (void)pki::CheckValidity(*info, Clock().Now());
    (void)pki::RenewalDue(*info, Clock().Now());
    (void)base::FormatUtc(info->not_after);
  }
  (void)pki::ReadTrustDomain(pem);
  if (const auto issued = pki::IsIssuedBy(pem, Authority().certificate_pem()); issued.ok()) {
    SEALIFT_CHECK(!*issued);
  }
  if (const auto matches = pki::MatchesKey(pem, Key()); matches.ok()) SEALIFT_CHECK(!*matches);
}

void SignRequest(const std::string& pem) {
  const pki::Identity host{Authority().trust_domain(), pki::Role::kHost, "a"};
  const absl::StatusOr<std::string> chain = Authority().Issue(pem, host, std::chrono::hours(1));
  if (!chain.ok()) return SEALIFT_CHECK(absl::IsInvalidArgument(chain.status()));
  const absl::StatusOr<pki::CertificateInfo> info = pki::ReadCertificate(*chain);
  SEALIFT_CHECK(info.ok() && info->identity == host);
  SEALIFT_CHECK(pki::IsIssuedBy(*chain, Authority().certificate_pem()).value());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::span input(data + 1, size - 1);
  std::string pem(input.begin(), input.end());
  if (data[0] == 1) pem = ToPem(input, "CERTIFICATE");
  if (data[0] == 2) pem = ToPem(input, "CERTIFICATE REQUEST");
  ReadCertificate(pem);
  SignRequest(pem);
  return 0;
}
