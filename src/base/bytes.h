// Byte spans, text encodings of bytes, and big-endian integers as they stand on our wire.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace sealift::base {

using ByteSpan = std::span<const std::byte>;
using MutableByteSpan = std::span<std::byte>;
using Bytes = std::vector<std::byte>;

// AsBytes views text as bytes; the text must outlive the view.
[[nodiscard]] ByteSpan AsBytes(std::string_view text);
// AsText views bytes as text; the bytes must outlive the view.
[[nodiscard]] std::string_view AsText(ByteSpan bytes);

// ToHex gives lower-case hexadecimal digits. FromHex accepts both cases, no separators.
[[nodiscard]] std::string ToHex(ByteSpan bytes);
[[nodiscard]] absl::StatusOr<Bytes> FromHex(std::string_view hex);

// Base64Url as in RFC 4648 §5, without padding.
[[nodiscard]] std::string ToBase64Url(ByteSpan bytes);
[[nodiscard]] absl::StatusOr<Bytes> FromBase64Url(std::string_view text);

// StoreBig writes an unsigned integer in network byte order at the start of `to`, which must be
// large enough.
template <typename T>
void StoreBig(MutableByteSpan to, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    to[i] = static_cast<std::byte>(static_cast<std::uint64_t>(value) >> (8 * (sizeof(T) - 1 - i)));
  }
}

// LoadBig reads what StoreBig wrote.
template <typename T>
[[nodiscard]] T LoadBig(ByteSpan from) {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    value = (value << 8) | std::to_integer<std::uint64_t>(from[i]);
  }
  return static_cast<T>(value);
}

// AppendBig appends an unsigned integer in network byte order.
template <typename T>
void AppendBig(Bytes& to, T value) {
  const std::size_t at = to.size();
  to.resize(at + sizeof(T));
  StoreBig(MutableByteSpan(to).subspan(at), value);
}

// Append appends bytes.
inline void Append(Bytes& to, ByteSpan bytes) { to.insert(to.end(), bytes.begin(), bytes.end()); }

}  // namespace sealift::base
