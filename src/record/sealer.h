// Sealing records of one stream and direction.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "keys/key_schedule.h"
#include "record/aead.h"
#include "record/record_format.h"

namespace sealift::record {

// Sealer makes the sequenced records (data, control, final) of one stream in one direction. There is one per sub-key and it
// cannot be copied, so a sequence number is never sealed twice. Not thread-safe.
class Sealer {
 public:
  // `schedule` must outlive the sealer: it rekeys from it every kRecordsPerKey records. With Protection::kPlain the payload
  // of kData records is left in the clear; all other types are sealed in either case.
  [[nodiscard]] static absl::StatusOr<Sealer> Create(const keys::KeySchedule& schedule,
                                                     AeadBackend backend, std::uint16_t stream,
                                                     keys::Direction direction,
                                                     keys::Protection protection);
  Sealer(Sealer&&) noexcept = default;
  Sealer& operator=(Sealer&&) noexcept = default;

  // Seal writes one record to the start of `out` and returns its size. `out` needs kHeaderSize + payload.size() +
  // kTagSize bytes; the payload may already stand in `out` at kHeaderSize (sealed in place). After a kFinal, with a payload over
  // kMaxPayload, or when a sequence would wrap, it fails, and from then on always. `type` is never kAcknowledgement.
  [[nodiscard]] absl::StatusOr<std::size_t> Seal(RecordType type, base::ByteSpan payload,
                                                 base::MutableByteSpan out);

  // The sequence number of the next record.
  [[nodiscard]] std::uint64_t next_sequence() const;
};

// AcknowledgementSealer makes the acknowledgements of one connection (one generation of a stream).
class AcknowledgementSealer {
 public:
  [[nodiscard]] static absl::StatusOr<AcknowledgementSealer> Create(
      const keys::KeySchedule& schedule, AeadBackend backend, std::uint16_t stream,
      keys::Direction direction, std::uint32_t generation);

  static constexpr std::size_t kSize = kHeaderSize + 8 + kTagSize;

  // Seal says "I have everything before `next_expected`", in exactly kSize bytes.
  [[nodiscard]] absl::Status Seal(std::uint64_t next_expected, base::MutableByteSpan out);
};

}  // namespace sealift::record
