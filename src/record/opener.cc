#include "record/opener.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "base/status.h"

namespace sealift::record {
namespace {

constexpr Opened kRejection{};

Opened NeedMore(std::size_t size) {
  Opened opened;
  opened.verdict = Verdict::kNeedMore;
  opened.size = size;
  return opened;
}

Opened OpenedRecord(RecordType type, std::size_t size, base::ByteSpan payload) {
  Opened opened;
  opened.verdict = Verdict::kOpened;
  opened.size = size;
  opened.type = type;
  opened.payload = payload;
  return opened;
}

RecordType TypeOf(base::ByteSpan buffer) {
  return static_cast<RecordType>(base::LoadBig<std::uint8_t>(buffer.subspan(1)));
}

std::uint32_t LengthOf(base::ByteSpan header) {
  return base::LoadBig<std::uint32_t>(header.subspan(16));
}

bool IsSequencedType(RecordType type) {
  return type == RecordType::kData || type == RecordType::kControl || type == RecordType::kFinal;
}

bool Matches(base::ByteSpan buffer, const RecordHeader& expected) {
  return std::ranges::equal(buffer.first(kHeaderSize), expected.Encode());
}

}  // namespace

absl::StatusOr<RecordOpener> RecordOpener::Create(const keys::KeySchedule& schedule,
                                                  AeadBackend backend, std::uint16_t stream,
                                                  keys::Direction direction,
                                                  keys::Protection protection,
                                                  Sequencing sequencing) {
  const keys::SubKeyId id{keys::Purpose::kRecords, direction, stream,
                          sequencing.first >> sequencing.rekey_shift};
  SEALIFT_ASSIGN_OR_RETURN(RecordKey key,
                           RecordKey::Create(schedule, backend, KeyUse::kOpening, id));
  return RecordOpener(std::move(key), stream, protection, sequencing);
}

RecordOpener::RecordOpener(RecordKey key, std::uint16_t stream, keys::Protection protection,
                           Sequencing sequencing)
    : key_(std::move(key)),
      stream_(stream),
      protection_(protection),
      rekey_shift_(sequencing.rekey_shift),
      next_sequence_(sequencing.first) {}

Opened RecordOpener::Open(base::MutableByteSpan buffer, base::MutableByteSpan into) {
  if (rejected_) return kRejection;
  if (buffer.empty()) return NeedMore(kHeaderSize);
  if (ended_) return Reject();
  if (buffer.size() < kHeaderSize) return NeedMore(kHeaderSize);

  const RecordType type = TypeOf(buffer);
  if (!IsSequencedType(type)) return Reject();
  const std::uint32_t length = LengthOf(buffer);
  if (length > (type == RecordType::kFinal ? 0 : kMaxPayload)) return Reject();
  const std::uint8_t flags = FlagsOf(type, protection_);
  if (!Matches(buffer, {type, flags, stream_, next_sequence_, length})) return Reject();
  if (next_sequence_ == std::numeric_limits<std::uint64_t>::max()) return Reject();

  const bool sealed = flags != kFlagPlain;
  const std::size_t size = kHeaderSize + length + (sealed ? kTagSize : 0);
  if (buffer.size() < size) return NeedMore(size);
  if (!key_.MoveTo(next_sequence_ >> rekey_shift_).ok()) return Reject();
  const base::MutableByteSpan received = buffer.subspan(kHeaderSize, length);
  const bool in_place = type != RecordType::kData || into.empty() || length > into.size();
  const base::MutableByteSpan payload = in_place ? received : into.first(length);
  if (sealed && !key_.Open(next_sequence_, buffer.first(size), payload)) return Reject();
  if (!sealed && !in_place) std::memcpy(payload.data(), received.data(), length);

  ++next_sequence_;
  ended_ = type == RecordType::kFinal;
  return OpenedRecord(type, size, payload);
}

Opened RecordOpener::Reject() {
  rejected_ = true;
  return kRejection;
}

absl::StatusOr<AcknowledgementOpener> AcknowledgementOpener::Create(
    const keys::KeySchedule& schedule, AeadBackend backend, std::uint16_t stream,
    keys::Direction direction, std::uint32_t generation, Sequencing sequencing) {
  const keys::SubKeyId id{keys::Purpose::kAcknowledgement, direction, stream, generation};
  SEALIFT_ASSIGN_OR_RETURN(RecordKey key,
                           RecordKey::Create(schedule, backend, KeyUse::kOpening, id));
  return AcknowledgementOpener(std::move(key), stream, sequencing);
}

AcknowledgementOpener::AcknowledgementOpener(RecordKey key, std::uint16_t stream,
                                             Sequencing sequencing)
    : key_(std::move(key)), stream_(stream), next_sequence_(sequencing.first) {}

Opened AcknowledgementOpener::Open(base::MutableByteSpan buffer) {
  constexpr std::size_t kSize = kHeaderSize + kAcknowledgementSize + kTagSize;
  if (rejected_) return kRejection;
  if (buffer.size() < kHeaderSize) return NeedMore(kHeaderSize);

  const RecordHeader expected{RecordType::kAcknowledgement, 0, stream_, next_sequence_,
                              kAcknowledgementSize};
  if (!Matches(buffer, expected)) return Reject();
  if (next_sequence_ == kMaxAcknowledgements) return Reject();
  if (buffer.size() < kSize) return NeedMore(kSize);
  const base::MutableByteSpan payload = buffer.subspan(kHeaderSize, kAcknowledgementSize);
  if (!key_.Open(next_sequence_, buffer.first(kSize), payload)) return Reject();
  const auto value = base::LoadBig<std::uint64_t>(payload);
  if (value < acknowledged_) return Reject();

  ++next_sequence_;
  acknowledged_ = value;
  Opened opened = OpenedRecord(RecordType::kAcknowledgement, kSize, payload);
  opened.acknowledged = value;
  return opened;
}

Opened AcknowledgementOpener::Reject() {
  rejected_ = true;
  return kRejection;
}

bool IsAcknowledgement(base::ByteSpan buffer) {
  return buffer.size() >= 2 && TypeOf(buffer) == RecordType::kAcknowledgement;
}

}  // namespace sealift::record
