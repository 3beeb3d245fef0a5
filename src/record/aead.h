// AES-256-GCM behind one small interface (SP 800-38D; 96-bit IV, 128-bit tag).
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "keys/secret_bytes.h"

namespace sealift::record {

// AeadBackend is an implementation of AES-256-GCM.
enum class AeadBackend { kIpsecMb, kOpenssl };

// AeadBackendName gives "ipsec-mb" or "openssl"; ParseAeadBackend reads it, nothing for other text.
[[nodiscard]] std::string_view AeadBackendName(AeadBackend backend);
[[nodiscard]] std::optional<AeadBackend> ParseAeadBackend(std::string_view name);

// Aead is AES-256-GCM under one key. Resource; one thread at a time.
class Aead {
 public:
  virtual ~Aead() = default;

  // Seal writes plaintext.size() bytes of ciphertext and the 16-byte tag. `ciphertext` may be
  // exactly `plaintext`, else they must not overlap.
  virtual void Seal(base::ByteSpan iv, base::ByteSpan aad, base::ByteSpan plaintext,
                    base::MutableByteSpan ciphertext, base::MutableByteSpan tag) = 0;

  // Open checks the tag in constant time and writes the plaintext. On false the contents of
  // `plaintext` are zeroed and must not be used. Overlap as in Seal.
  [[nodiscard]] virtual bool Open(base::ByteSpan iv, base::ByteSpan aad, base::ByteSpan ciphertext,
                                  base::ByteSpan tag, base::MutableByteSpan plaintext) = 0;
};

// MakeAead prepares a key. UNAVAILABLE when the CPU lacks the instructions the backend needs.
[[nodiscard]] absl::StatusOr<std::unique_ptr<Aead>> MakeAead(AeadBackend backend,
                                                             const keys::SecretBytes& key);

// SelfTest runs known-answer tests (one that must open, one that must not) and the backend's own
// power-on test.
[[nodiscard]] absl::Status SelfTest(AeadBackend backend);

// BestBackend is the fastest backend of this CPU: ipsec-mb when it has AES-NI, else OpenSSL. A
// self-test that fails is an error, never a reason to take the other one.
[[nodiscard]] absl::StatusOr<AeadBackend> BestBackend();

// CheckedBackend is `wanted` if its SelfTest passes, and BestBackend for no wish.
[[nodiscard]] absl::StatusOr<AeadBackend> CheckedBackend(std::optional<AeadBackend> wanted);

}  // namespace sealift::record
