#include "base/bytes.h"

#include "absl/strings/escaping.h"

namespace sealift::base {
namespace {

int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

ByteSpan AsBytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string_view AsText(ByteSpan bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::string ToHex(ByteSpan bytes) {
  return absl::BytesToHexString({AsText(bytes).data(), bytes.size()});
}

absl::StatusOr<Bytes> FromHex(std::string_view hex) {
  if (hex.size() % 2 != 0) return absl::InvalidArgumentError("odd number of hexadecimal digits");
  Bytes bytes;
  bytes.reserve(hex.size() / 2);
  for (std::size_t i = 0; i < hex.size(); i += 2) {
    const int high = HexDigit(hex[i]);
    const int low = HexDigit(hex[i + 1]);
    if (high < 0 || low < 0) return absl::InvalidArgumentError("not a hexadecimal digit");
    bytes.push_back(static_cast<std::byte>(high * 16 + low));
  }
  return bytes;
}

std::string ToBase64Url(ByteSpan bytes) {
  return absl::WebSafeBase64Escape(absl::string_view(AsText(bytes).data(), bytes.size()));
}

absl::StatusOr<Bytes> FromBase64Url(std::string_view text) {
  std::string decoded;
  if (!absl::WebSafeBase64Unescape({text.data(), text.size()}, &decoded)) {
    return absl::InvalidArgumentError("not base64url text");
  }
  const ByteSpan bytes = AsBytes(decoded);
  return Bytes(bytes.begin(), bytes.end());
}

}  // namespace sealift::base
