// The sub-key a sealer or opener works with at the moment, and the header bytes it authenticates.
// Internal to record.
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "keys/key_schedule.h"
#include "record/aead.h"
#include "record/record_format.h"

namespace sealift::record {

using HeaderBytes = std::array<std::byte, kHeaderSize>;

// RecordHeader is what varies in a header.
struct RecordHeader {
  RecordType type{};
  std::uint8_t flags = 0;
  std::uint16_t stream = 0;
  std::uint64_t sequence = 0;
  std::uint32_t length = 0;  // of the payload, without the tag

  [[nodiscard]] HeaderBytes Encode() const;
};

// FlagsOf gives the one flags byte that a record of this type has under this protection.
[[nodiscard]] constexpr std::uint8_t FlagsOf(RecordType type, keys::Protection protection) {
  const bool plain = type == RecordType::kData && protection == keys::Protection::kPlain;
  return plain ? kFlagPlain : 0;
}

// KeyUse says which half of AES-GCM a key is for. The key schedule gives a sealing key away once.
enum class KeyUse { kSealing, kOpening };

// RecordKey is an AES-256-GCM sub-key with its IVs: 32-bit fixed field (stream, direction,
// purpose), 64-bit sequence (SP 800-38D §8.2.1). Movable, not copyable, not thread-safe.
class RecordKey {
 public:
  // Derives the sub-key `id`. `schedule` must outlive the key and stay where it is.
  [[nodiscard]] static absl::StatusOr<RecordKey> Create(const keys::KeySchedule& schedule,
                                                        AeadBackend backend, KeyUse use,
                                                        const keys::SubKeyId& id);

  // MoveTo replaces the sub-key by the one of rekey index `index`, unless it is that one already.
  // On an error the old one stays.
  [[nodiscard]] absl::Status MoveTo(std::uint64_t index);

  // Seal writes ciphertext and tag behind `header`; `out` is header, payload and tag.
  void Seal(std::uint64_t sequence, base::ByteSpan payload, base::MutableByteSpan out);

  // Open decrypts `record` (header, ciphertext, tag) into `payload`, which has the size of the
  // ciphertext and may be just that, and returns whether the tag is right; if not, `payload` is
  // zeroed.
  [[nodiscard]] bool Open(std::uint64_t sequence, base::ByteSpan record,
                          base::MutableByteSpan payload);

 private:
  using Iv = std::array<std::byte, kIvSize>;

  RecordKey(const keys::KeySchedule& schedule, AeadBackend backend, KeyUse use,
            const keys::SubKeyId& id, std::unique_ptr<Aead> aead);
  [[nodiscard]] Iv IvOf(std::uint64_t sequence) const;

  const keys::KeySchedule* schedule_;
  AeadBackend backend_;
  KeyUse use_;
  keys::SubKeyId id_;
  std::unique_ptr<Aead> aead_;
};

}  // namespace sealift::record
