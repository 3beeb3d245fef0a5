#include "pki/join_token.h"

#include <fmt/format.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <string_view>

#include "base/check.h"
#include "base/status.h"
#include "pki/identity.h"
#include "pki/openssl.h"

// A token is "sealift1." and the base64url text of
//   1 byte   length of the host's name
//   n bytes  name
//   32 bytes secret
//   n bytes  CA certificate, DER
//   4 bytes  first bytes of the SHA-256 of all before
namespace sealift::pki {
namespace {

constexpr std::string_view kPrefix = "sealift1.";
constexpr std::string_view kAnyPrefix = "sealift";
constexpr std::size_t kSecretBytes = 32;
constexpr std::size_t kChecksumBytes = 4;
constexpr std::size_t kMaxTokenText = 16384;

using Digest = std::array<std::byte, SHA256_DIGEST_LENGTH>;

Digest Sha256(base::ByteSpan bytes) {
  Digest digest;
  SHA256(reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(),
         reinterpret_cast<unsigned char*>(digest.data()));
  return digest;
}

absl::Status Damaged(std::string_view why) {
  return absl::InvalidArgumentError(fmt::format(
      "the join token is damaged ({}): copy the whole word that `sealift host add` printed", why));
}

absl::StatusOr<base::Bytes> CertificateToDer(const std::string& pem) {
  SEALIFT_ASSIGN_OR_RETURN(const CertificatePtr certificate, ParseCertificate(pem));
  unsigned char* der = nullptr;
  const int size = i2d_X509(certificate.get(), &der);
  if (size <= 0) return OpenSslError(absl::StatusCode::kInternal, "encode a certificate");
  const auto* bytes = reinterpret_cast<const std::byte*>(der);
  base::Bytes result(bytes, bytes + size);
  OPENSSL_free(der);
  return result;
}

absl::StatusOr<std::string> DerToPem(base::ByteSpan der) {
  const auto* at = reinterpret_cast<const unsigned char*>(der.data());
  const unsigned char* const end = at + der.size();
  const CertificatePtr certificate(d2i_X509(nullptr, &at, static_cast<long>(der.size())));
  if (!certificate || at != end) {
    (void)OpenSslError(absl::StatusCode::kInvalidArgument, "");  // empties the queue
    return Damaged("no certificate in it");
  }
  return CertificateToPem(certificate.get());
}

std::string_view Trimmed(std::string_view text) {
  constexpr std::string_view kBlank = " \t\r\n";
  const std::size_t first = text.find_first_not_of(kBlank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kBlank) - first + 1);
}

// PayloadOf takes off prefix, base64url and checksum.
absl::StatusOr<base::Bytes> PayloadOf(std::string_view text) {
  if (text.size() > kMaxTokenText) return Damaged("too long");
  if (!text.starts_with(kPrefix)) {
    return text.starts_with(kAnyPrefix) && text.find('.') != std::string_view::npos
               ? absl::InvalidArgumentError(
                     "the join token was made by another version of sealift: install the "
                     "controller's "
                     "version on this host")
               : Damaged("it does not start with \"sealift1.\"");
  }
  text.remove_prefix(kPrefix.size());
  absl::StatusOr<base::Bytes> payload = base::FromBase64Url(text);
  // Unused bits at the end, padding and blanks would let two texts mean the same.
  if (!payload.ok() || base::ToBase64Url(*payload) != text) return Damaged("not base64url text");
  if (payload->size() < kChecksumBytes) return Damaged("too short");
  const auto body = base::ByteSpan(*payload).first(payload->size() - kChecksumBytes);
  const auto checksum = base::ByteSpan(*payload).last(kChecksumBytes);
  if (!std::ranges::equal(checksum, base::ByteSpan(Sha256(body)).first(kChecksumBytes))) {
    return Damaged("its checksum is wrong");
  }
  payload->resize(body.size());
  return payload;
}

}  // namespace

absl::StatusOr<std::string> EncodeJoinToken(const JoinToken& token) {
  SEALIFT_RETURN_IF_ERROR(CheckName("host", token.host));
  SEALIFT_CHECK(token.secret.size() == kSecretBytes);
  SEALIFT_ASSIGN_OR_RETURN(const base::Bytes der, CertificateToDer(token.ca_certificate_pem));
  base::Bytes payload;
  base::AppendBig(payload, static_cast<std::uint8_t>(token.host.size()));
  base::Append(payload, base::AsBytes(token.host));
  base::Append(payload, token.secret);
  base::Append(payload, der);
  const Digest digest = Sha256(payload);
  base::Append(payload, base::ByteSpan(digest).first(kChecksumBytes));
  return fmt::format("{}{}", kPrefix, base::ToBase64Url(payload));
}

absl::StatusOr<JoinToken> DecodeJoinToken(const std::string& text) {
  SEALIFT_ASSIGN_OR_RETURN(const base::Bytes payload, PayloadOf(Trimmed(text)));
  base::ByteSpan rest(payload);
  if (rest.empty()) return Damaged("too short");
  const auto name_size = std::to_integer<std::size_t>(rest[0]);
  if (rest.size() < 1 + name_size + kSecretBytes) return Damaged("too short");
  JoinToken token;
  token.host = base::AsText(rest.subspan(1, name_size));
  SEALIFT_RETURN_IF_ERROR(CheckName("host", token.host));
  rest = rest.subspan(1 + name_size);
  token.secret.assign(rest.begin(), rest.begin() + kSecretBytes);
  SEALIFT_ASSIGN_OR_RETURN(token.ca_certificate_pem, DerToPem(rest.subspan(kSecretBytes)));
  return token;
}

std::string Sha256Hex(base::ByteSpan bytes) { return base::ToHex(Sha256(bytes)); }

}  // namespace sealift::pki
