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

// HashTokenSecret is the SHA-256 that the controller stores, in hexadecimal.
[[nodiscard]] std::string HashTokenSecret(base::ByteSpan secret);

}  // namespace sealift::pki
