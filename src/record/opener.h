// Opening records of one stream and direction.
#pragma once

#include <cstdint>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "keys/key_schedule.h"
#include "record/aead.h"
#include "record/record_format.h"
#include "record/record_key.h"

namespace sealift::record {

// Verdict on the bytes given to an opener.
enum class Verdict {
  kOpened,    // one record: see the other fields
  kNeedMore,  // an incomplete record: `size` bytes are needed in all
  kRejected,  // not a record of this stream, at this place, under this key; the opener only ever
              // rejects from here on
};

// Opened is the outcome of one Open.
struct Opened {
  Verdict verdict = Verdict::kRejected;
  std::size_t size = 0;            // kOpened: bytes taken from the front; kNeedMore: bytes needed
  RecordType type{};               // kOpened
  base::ByteSpan payload;          // kOpened: plaintext, where Open says
  std::uint64_t acknowledged = 0;  // kOpened, kAcknowledgement: the next sequence the peer expects
};

// RecordOpener accepts the sequenced records of one stream in one direction: each exactly once, in
// order, from sequence 0 on. After kFinal nothing more is accepted. Not thread-safe.
//
// A rejection is sticky: the connection is dead. Reset() is for the next connection of the same
// stream: it forgives the rejection and keeps the sequence, so that the peer resends from
// next_sequence().
class RecordOpener {
 public:
  // `schedule` must outlive the opener and stay where it is. With Protection::kPlain kData is only
  // accepted in the clear, with kSealed only sealed: there is one form per type, never a choice.
  [[nodiscard]] static absl::StatusOr<RecordOpener> Create(
      const keys::KeySchedule& schedule, AeadBackend backend, std::uint16_t stream,
      keys::Direction direction, keys::Protection protection, Sequencing sequencing = {});
  RecordOpener(RecordOpener&&) noexcept = default;
  RecordOpener& operator=(RecordOpener&&) noexcept = default;

  // Open looks at the front of `buffer`. It decrypts in place; the payload of a kData record that
  // fits into `into` instead to the start of that, which must not overlap `buffer`. Guards, in
  // order: state, header complete, type, length, then version, flags, zero fields, stream and
  // sequence at once (at each place in a stream a type and a length leave one valid header),
  // complete record, tag. The sequence advances only after all of them. On a bad tag the payload is
  // zeroed where it would be. An empty buffer is never rejected for being after kFinal.
  [[nodiscard]] Opened Open(base::MutableByteSpan buffer, base::MutableByteSpan into = {});

  // The sequence number of the next record; everything before it was opened.
  [[nodiscard]] std::uint64_t next_sequence() const { return next_sequence_; }
  // True once the peer's kFinal was opened.
  [[nodiscard]] bool ended() const { return ended_; }
  // Forgives a rejection; the sequence and the end stay.
  void Reset() { rejected_ = false; }

 private:
  RecordOpener(RecordKey key, std::uint16_t stream, keys::Protection protection,
               Sequencing sequencing);
  Opened Reject();

  RecordKey key_;
  std::uint16_t stream_;
  keys::Protection protection_;
  unsigned rekey_shift_;
  std::uint64_t next_sequence_;
  bool ended_ = false;
  bool rejected_ = false;
};

// AcknowledgementOpener accepts the acknowledgements of one connection: exact sequence from 0,
// values that never fall. A rejection is sticky; there is no Reset, the next connection has its own
// key. Not thread-safe.
class AcknowledgementOpener {
 public:
  // `direction` is the one the acknowledgements themselves travel in.
  [[nodiscard]] static absl::StatusOr<AcknowledgementOpener> Create(
      const keys::KeySchedule& schedule, AeadBackend backend, std::uint16_t stream,
      keys::Direction direction, std::uint32_t generation, Sequencing sequencing = {});

  // Open is RecordOpener::Open for acknowledgements; the value is in Opened::acknowledged.
  [[nodiscard]] Opened Open(base::MutableByteSpan buffer);

 private:
  AcknowledgementOpener(RecordKey key, std::uint16_t stream, Sequencing sequencing);
  Opened Reject();

  RecordKey key_;
  std::uint16_t stream_;
  std::uint64_t next_sequence_;
  std::uint64_t acknowledged_ = 0;
  bool rejected_ = false;
};

// IsAcknowledgement tells from the first 2 bytes which opener a record is for. It looks at nothing
// else and authenticates nothing.
[[nodiscard]] bool IsAcknowledgement(base::ByteSpan buffer);

}  // namespace sealift::record
