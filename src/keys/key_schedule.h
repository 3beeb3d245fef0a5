// From the one migration key to the sub-keys of its streams.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "keys/migration_spec.h"
#include "keys/random.h"
#include "keys/secret_bytes.h"

namespace sealift::keys {

inline constexpr std::size_t kMigrationKeySize = 32;
inline constexpr std::size_t kMigrationNonceSize = 8;
inline constexpr std::size_t kAesKeySize = 32;
inline constexpr std::size_t kMacKeySize = 64;
inline constexpr std::size_t kMacSize = 32;

// MigrationKey is the one-time secret of a migration: 256-bit key followed by the 64-bit nonce.
struct MigrationKey {
  SecretBytes bytes;

  // Generate draws a fresh one.
  [[nodiscard]] static absl::StatusOr<MigrationKey> Generate(RandomSource& random);
};

// Direction of bytes between the hosts. Zero is invalid on the wire.
enum class Direction : std::uint8_t { kToDestination = 1, kToSource = 2 };

[[nodiscard]] constexpr Direction Opposite(Direction direction) {
  return direction == Direction::kToDestination ? Direction::kToSource : Direction::kToDestination;
}

// Purpose separates keys that must never meet. Zero is invalid.
enum class Purpose : std::uint8_t {
  kRecords = 1,          // sequenced records; index = rekey index
  kAcknowledgement = 2,  // acknowledgements of one connection; index = generation
  kHello = 3,            // MAC key of the hello of one connection; index = generation
};

// SubKeyId names one sub-key.
struct SubKeyId {
  Purpose purpose;
  Direction direction;
  std::uint16_t stream;
  std::uint64_t index;

  auto operator<=>(const SubKeyId&) const = default;  // NOLINT(modernize-use-nullptr)
};

// KeySchedule derives sub-keys with HKDF-SHA512 (RFC 5869): extract with salt = nonce and input key
// = key, then expand with info = "sealift/1" || spec hash || purpose || direction || stream ||
// index (docs/protocol.md, "Sub-keys"). Deriving is thread-safe.
class KeySchedule {
 public:
  // Takes the key and wipes it: afterwards only the extracted pseudo-random key exists, in secret
  // memory. INVALID_ARGUMENT when the key has not the size of a migration key.
  [[nodiscard]] static absl::StatusOr<KeySchedule> Create(MigrationKey key,
                                                          const SpecHash& spec_hash);

  KeySchedule(KeySchedule&&) noexcept;
  KeySchedule& operator=(KeySchedule&&) noexcept;
  ~KeySchedule();

  // Derive gives `size` bytes, at most 255 * 64.
  [[nodiscard]] absl::StatusOr<SecretBytes> Derive(const SubKeyId& id, std::size_t size) const;

  // DeriveForSealing is Derive for whoever encrypts with an AES-GCM sub-key. It gives each id away
  // once in the life of this schedule, ALREADY_EXISTS from then on: two sealers with the same
  // sub-key would use the same IVs twice.
  [[nodiscard]] absl::StatusOr<SecretBytes> DeriveForSealing(const SubKeyId& id,
                                                             std::size_t size) const;

 private:
  struct SealingLedger;

  KeySchedule(SecretBytes pseudo_random_key, const SpecHash& spec_hash);

  SecretBytes pseudo_random_key_;
  SpecHash spec_hash_;
  std::unique_ptr<SealingLedger> ledger_;
};

// Mac is HMAC-SHA512 cut to its first 32 bytes (SP 800-107r1 §5.1). Thread-safe.
[[nodiscard]] std::array<std::byte, kMacSize> Mac(const SecretBytes& key, base::ByteSpan message);

}  // namespace sealift::keys
