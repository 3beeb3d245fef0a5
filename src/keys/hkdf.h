// HMAC-SHA512 and HKDF-SHA512, for the key schedule and for HPKE. Internal to keys.
//
// OpenSSL's copies of the keys given to it are cleansed when its contexts are freed, which is
// before these functions return. All functions are thread-safe.
#pragma once

#include <cstddef>
#include <initializer_list>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "keys/secret_bytes.h"

namespace sealift::keys {

inline constexpr std::size_t kSha512Size = 64;

// HmacSha512 writes HMAC-SHA512 (RFC 2104) of the concatenated parts: kSha512Size bytes.
void HmacSha512(base::ByteSpan key, std::initializer_list<base::ByteSpan> parts,
                base::MutableByteSpan mac);

// HkdfExtract is HKDF-Extract (RFC 5869 §2.2); the input keying material is the concatenated parts.
// The result has kSha512Size bytes.
[[nodiscard]] absl::StatusOr<SecretBytes> HkdfExtract(
    base::ByteSpan salt, std::initializer_list<base::ByteSpan> input_key);

// HkdfExpand is HKDF-Expand (RFC 5869 §2.3). INVALID_ARGUMENT for a size of 0 or over
// 255 * kSha512Size.
[[nodiscard]] absl::StatusOr<SecretBytes> HkdfExpand(const SecretBytes& pseudo_random_key,
                                                     base::ByteSpan info, std::size_t size);

}  // namespace sealift::keys
