// Opening records of one stream and direction.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "base/bytes.h"
#include "keys/key_schedule.h"
#include "record/aead.h"
#include "record/record_format.h"

namespace sealift::record {

// Verdict on the bytes given to an opener.
enum class Verdict {
  kOpened,    // one record: see the other fields
  kNeedMore,  // an incomplete record: `size` bytes are needed in all
  kRejected,  // not a record of this stream, at this place, under this key; the opener only ever rejects from here on
};

// Opened is the outcome of one Open.
struct Opened {
  Verdict verdict = Verdict::kRejected;
  std::size_t size = 0;           // kOpened: bytes taken from the front; kNeedMore: bytes needed
  RecordType type{};              // kOpened
  base::ByteSpan payload;         // kOpened: plaintext, inside the buffer given
  std::uint64_t acknowledged = 0; // kOpened, kAcknowledgement: the next sequence the peer expects
};

// RecordOpener accepts the sequenced records of one stream in one direction: each exactly once, in order, from sequence 0 on. After
// kFinal nothing more is accepted. Not thread-safe.
//
// A rejection is sticky: the connection is dead. Reset() is for the next connection of the same stream: it forgives the
// rejection and keeps the sequence, so that the peer resends from next_sequence().
class RecordOpener {
 public:
  [[nodiscard]] static absl::StatusOr<RecordOpener> Create(const keys::KeySchedule& schedule,
                                                           AeadBackend backend, std::uint16_t stream,
                                                           keys::Direction direction,
                                                           keys::Protection protection);
  RecordOpener(RecordOpener&&) noexcept = default;
  RecordOpener& operator=(RecordOpener&&) noexcept = default;

  // Open looks at the front of `buffer` and decrypts in place. Guards, in order: state, header complete, version, type, flags, zero
  // fields, stream, length limit, sequence, complete record, tag; the sequence advances only after all of them.
  [[nodiscard]] Opened Open(base::MutableByteSpan buffer);

  [[nodiscard]] std::uint64_t next_sequence() const;
  // True once the peer's kFinal was opened.
  [[nodiscard]] bool ended() const;
  void Reset();
};

// AcknowledgementOpener accepts the acknowledgements of one connection: exact sequence from 0, values that never fall.
class AcknowledgementOpener {
 public:
  [[nodiscard]] static absl::StatusOr<AcknowledgementOpener> Create(
      const keys::KeySchedule& schedule, AeadBackend backend, std::uint16_t stream,
      keys::Direction direction, std::uint32_t generation);
  [[nodiscard]] Opened Open(base::MutableByteSpan buffer);
};

// PeekType tells from the first bytes which opener a record is for: kAcknowledgement or anything else. Needs 2 bytes.
[[nodiscard]] bool IsAcknowledgement(base::ByteSpan buffer);

}  // namespace sealift::record
