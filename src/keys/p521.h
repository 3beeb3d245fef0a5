// The curve P-521 (SP 800-186): public keys and Diffie-Hellman. Internal to keys.
//
// Scalars are big-endian. OpenSSL's copies of a scalar are cleansed before these functions return;
// its multiplications take the same time for every scalar. All functions are thread-safe.
#pragma once

#include <cstddef>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "keys/secret_bytes.h"

namespace sealift::keys {

inline constexpr std::size_t kP521ScalarSize = 66;

// IsP521Scalar tells whether 0 < scalar < order.
[[nodiscard]] bool IsP521Scalar(const SecretBytes& scalar);

// P521PublicKey is scalar * G as an uncompressed point (SEC 1 §2.3.3): 133 bytes.
[[nodiscard]] absl::StatusOr<base::Bytes> P521PublicKey(const SecretBytes& scalar);

// P521SharedSecret is the x coordinate of scalar * peer (SP 800-56A §5.7.1.2), 66 bytes.
// INVALID_ARGUMENT unless `peer` is the uncompressed form of a point on the curve other than
// infinity.
[[nodiscard]] absl::StatusOr<SecretBytes> P521SharedSecret(const SecretBytes& scalar,
                                                           base::ByteSpan peer);

}  // namespace sealift::keys
