// The word that an administrator pastes on a host that is to join. What is read survives being
// written and read again.
//
// The input: one byte, then a token as text, or, if the byte is odd, what is below its encoding:
// then the checksum is right.
#include <openssl/sha.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "base/bytes.h"
#include "base/check.h"
#include "pki/identity.h"
#include "pki/join_token.h"

namespace {

using namespace sealift;

std::string WithChecksum(std::span<const std::uint8_t> payload) {
  std::array<std::uint8_t, SHA256_DIGEST_LENGTH> digest;
  SHA256(payload.data(), payload.size(), digest.data());
  base::Bytes whole;
  base::Append(whole, std::as_bytes(payload));
  base::Append(whole, std::as_bytes(std::span(digest)).first(4));
  return "sealift1." + base::ToBase64Url(whole);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::span input(data + 1, size - 1);
  const std::string text =
      data[0] % 2 == 1 ? WithChecksum(input) : std::string(input.begin(), input.end());
  const absl::StatusOr<pki::JoinToken> token = pki::DecodeJoinToken(text);
  if (!token.ok()) {
    SEALIFT_CHECK(absl::IsInvalidArgument(token.status()));
    return 0;
  }
  SEALIFT_CHECK(pki::CheckName("host", token->host).ok());
  const absl::StatusOr<std::string> written = pki::EncodeJoinToken(*token);
  SEALIFT_CHECK(written.ok());
  const absl::StatusOr<pki::JoinToken> again = pki::DecodeJoinToken(*written);
  SEALIFT_CHECK(again.ok() && again->host == token->host && again->secret == token->secret &&
                again->ca_certificate_pem == token->ca_certificate_pem);
  return 0;
}
