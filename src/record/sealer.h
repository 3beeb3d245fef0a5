// Sealing records of one stream and direction.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "keys/key_schedule.h"
#include "record/aead.h"
#include "record/record_format.h"
#include "record/record_key.h"

namespace sealift::record {

// Sealer makes the sequenced records (data, control, final) of one stream in one direction. There
// is one per sub-key and it cannot be copied, so a sequence number is never sealed twice. Not
// thread-safe. Seal allocates nothing, except when it moves to the next sub-key.
class Sealer {
 public:
  // `schedule` must outlive the sealer and stay where it is: the sealer rekeys from it every
  // kRecordsPerKey records. With Protection::kPlain the payload of kData records is left in the
  // clear; all other types are sealed in either case. ALREADY_EXISTS for the second sealer of the
  // same stream and direction. UNAVAILABLE when the CPU lacks what the backend needs.
  [[nodiscard]] static absl::StatusOr<Sealer> Create(const keys::KeySchedule& schedule,
                                                     AeadBackend backend, std::uint16_t stream,
                                                     keys::Direction direction,
                                                     keys::Protection protection,
                                                     Sequencing sequencing = {});
  Sealer(Sealer&&) noexcept = default;
  Sealer& operator=(Sealer&&) noexcept = default;

  // Seal writes one record to the start of `out` and returns its size. `out` needs kHeaderSize +
  // payload.size() + kTagSize bytes; the payload may already stand in `out` at kHeaderSize (sealed
  // in place), else it must not overlap. `type` is never kAcknowledgement. After a kFinal, with a
  // payload over kMaxPayload or a kFinal that has one, or when the sequence would wrap, it fails,
  // and from then on always.
  [[nodiscard]] absl::StatusOr<std::size_t> Seal(RecordType type, base::ByteSpan payload,
                                                 base::MutableByteSpan out);

  // The sequence number of the next record.
  [[nodiscard]] std::uint64_t next_sequence() const { return next_sequence_; }

 private:
  Sealer(RecordKey key, std::uint16_t stream, keys::Protection protection, Sequencing sequencing);
  absl::Status CheckNext(RecordType type, base::ByteSpan payload);

  RecordKey key_;
  std::uint16_t stream_;
  keys::Protection protection_;
  unsigned rekey_shift_;
  std::uint64_t next_sequence_;
  absl::Status failure_;  // why nothing more can be sealed, or OK
};

// AcknowledgementSealer makes the acknowledgements of one connection (one generation of a stream).
// Not copyable, not thread-safe.
class AcknowledgementSealer {
 public:
  // `direction` is the one the acknowledgements themselves travel in. Errors as Sealer::Create.
  [[nodiscard]] static absl::StatusOr<AcknowledgementSealer> Create(
      const keys::KeySchedule& schedule, AeadBackend backend, std::uint16_t stream,
      keys::Direction direction, std::uint32_t generation, Sequencing sequencing = {});

  static constexpr std::size_t kSize = kHeaderSize + kAcknowledgementSize + kTagSize;

  // Seal says "I have everything before `next_expected`", in exactly kSize bytes at the start of
  // `out`. RESOURCE_EXHAUSTED after kMaxAcknowledgements.
  [[nodiscard]] absl::Status Seal(std::uint64_t next_expected, base::MutableByteSpan out);

 private:
  AcknowledgementSealer(RecordKey key, std::uint16_t stream, Sequencing sequencing);

  RecordKey key_;
  std::uint16_t stream_;
  std::uint64_t next_sequence_;
};

}  // namespace sealift::record
