// HPKE (RFC 9180) in base mode with DHKEM(P-521, HKDF-SHA512), HKDF-SHA512 and AES-256-GCM,
// single-shot: how the controller hands a migration key to exactly one mover.
//
// The ephemeral private key and every intermediate secret live in SecretBytes. OpenSSL's copies of
// them (the scalar during a multiplication, the AES round keys) are on its heap and cleansed before
// these functions return.
#pragma once

#include <cstddef>
#include <memory>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "keys/secret_bytes.h"

namespace sealift::keys {

inline constexpr std::size_t kHpkePublicKeySize = 133;  // uncompressed P-521 point
inline constexpr std::size_t kHpkeTagSize = 16;

// HpkeReceiver is one ephemeral key pair. It opens once. Not thread-safe.
class HpkeReceiver {
 public:
  // Generate draws a key pair from the kernel's CSPRNG.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<HpkeReceiver>> Generate();
  virtual ~HpkeReceiver() = default;

  // PublicKey is the SerializePublicKey form (RFC 9180 §7.1.1), kHpkePublicKeySize bytes.
  [[nodiscard]] virtual base::Bytes PublicKey() const = 0;

  // Open takes encapsulated key || ciphertext || tag, as HpkeSeal made it, and wipes the private
  // key whatever the outcome. A second call, a wrong `info` and damaged bytes are all the same
  // PERMISSION_DENIED.
  [[nodiscard]] virtual absl::StatusOr<SecretBytes> Open(base::ByteSpan sealed,
                                                         base::ByteSpan info) = 0;
};

// HpkeSeal encrypts `secret` to a public key (RFC 9180 §6.1 SealBase, empty AAD) and returns
// encapsulated key || ciphertext || tag. INVALID_ARGUMENT when the public key is not a point of
// P-521. Thread-safe.
[[nodiscard]] absl::StatusOr<base::Bytes> HpkeSeal(base::ByteSpan public_key, base::ByteSpan info,
                                                   const SecretBytes& secret);

}  // namespace sealift::keys
