// The one-time token that lets a host join.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "base/bytes.h"

namespace sealift::pki {

// JoinToken carries what a joining host needs to trust the controller and be trusted once.
struct JoinToken {
  std::string host;
  std::string ca_certificate_pem;
  base::Bytes secret;  // 32 random bytes
};

// Encode gives one word without spaces, "sealift1.…", with a checksum so that a half-pasted token
// is told apart from a refused one.
[[nodiscard]] absl::StatusOr<std::string> EncodeJoinToken(const JoinToken& token);
[[nodiscard]] absl::StatusOr<JoinToken> DecodeJoinToken(const std::string& text);

// Sha256Hex is a SHA-256 in hexadecimal: what the controller keeps of a token's secret, and of the
// request that made a user, to know them again.
[[nodiscard]] std::string Sha256Hex(base::ByteSpan bytes);

}  // namespace sealift::pki
