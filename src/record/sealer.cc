#include "record/sealer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace sealift::record {

absl::StatusOr<Sealer> Sealer::Create(const keys::KeySchedule& schedule, AeadBackend backend,
                                      std::uint16_t stream, keys::Direction direction,
                                      keys::Protection protection, Sequencing sequencing) {
  const keys::SubKeyId id{keys::Purpose::kRecords, direction, stream,
                          sequencing.first >> sequencing.rekey_shift};
  SEALIFT_ASSIGN_OR_RETURN(RecordKey key,
                           RecordKey::Create(schedule, backend, KeyUse::kSealing, id));
  return Sealer(std::move(key), stream, protection, sequencing);
}

Sealer::Sealer(RecordKey key, std::uint16_t stream, keys::Protection protection,
               Sequencing sequencing)
    : key_(std::move(key)),
      stream_(stream),
      protection_(protection),
      rekey_shift_(sequencing.rekey_shift),
      next_sequence_(sequencing.first) {}

absl::StatusOr<std::size_t> Sealer::Seal(RecordType type, base::ByteSpan payload,
                                         base::MutableByteSpan out) {
  SEALIFT_CHECK(type != RecordType::kAcknowledgement);
  if (failure_.ok()) failure_ = CheckNext(type, payload);
  if (!failure_.ok()) return failure_;
  SEALIFT_CHECK(out.size() >= kHeaderSize + payload.size() + kTagSize);

  const std::uint64_t sequence = next_sequence_++;
  const std::uint8_t flags = FlagsOf(type, protection_);
  const auto length = static_cast<std::uint32_t>(payload.size());
  const HeaderBytes header = RecordHeader{type, flags, stream_, sequence, length}.Encode();
  std::copy(header.begin(), header.end(), out.begin());
  if (type == RecordType::kFinal) failure_ = absl::FailedPreconditionError("the stream was ended");

  if (flags == kFlagPlain) {
    // An empty payload may have no address, which memcpy must not be given.
    if (!payload.empty() && payload.data() != &out[kHeaderSize]) {
      std::memcpy(&out[kHeaderSize], payload.data(), payload.size());
    }
    return kHeaderSize + payload.size();
  }
  const std::size_t size = kHeaderSize + payload.size() + kTagSize;
  key_.Seal(sequence, payload, out.first(size));
  return size;
}

absl::Status Sealer::CheckNext(RecordType type, base::ByteSpan payload) {
  const std::size_t limit = type == RecordType::kFinal ? 0 : kMaxPayload;
  if (payload.size() > limit) {
    return absl::InvalidArgumentError(
        fmt::format("a record of type {} cannot have a payload of {} bytes, allowed are {}",
                    static_cast<int>(type), payload.size(), limit));
  }
  if (next_sequence_ == std::numeric_limits<std::uint64_t>::max()) {
    return absl::ResourceExhaustedError("the stream has used up its sequence numbers");
  }
  return key_.MoveTo(next_sequence_ >> rekey_shift_);
}

absl::StatusOr<AcknowledgementSealer> AcknowledgementSealer::Create(
    const keys::KeySchedule& schedule, AeadBackend backend, std::uint16_t stream,
    keys::Direction direction, std::uint32_t generation, Sequencing sequencing) {
  const keys::SubKeyId id{keys::Purpose::kAcknowledgement, direction, stream, generation};
  SEALIFT_ASSIGN_OR_RETURN(RecordKey key,
                           RecordKey::Create(schedule, backend, KeyUse::kSealing, id));
  return AcknowledgementSealer(std::move(key), stream, sequencing);
}

AcknowledgementSealer::AcknowledgementSealer(RecordKey key, std::uint16_t stream,
                                             Sequencing sequencing)
    : key_(std::move(key)), stream_(stream), next_sequence_(sequencing.first) {}

absl::Status AcknowledgementSealer::Seal(std::uint64_t next_expected, base::MutableByteSpan out) {
  SEALIFT_CHECK(out.size() >= kSize);
  if (next_sequence_ == kMaxAcknowledgements) {
    return absl::ResourceExhaustedError("the connection has used up its acknowledgements");
  }
  const std::uint64_t sequence = next_sequence_++;
  const HeaderBytes header =
      RecordHeader{RecordType::kAcknowledgement, 0, stream_, sequence, kAcknowledgementSize}
          .Encode();
  std::copy(header.begin(), header.end(), out.begin());
  const base::MutableByteSpan payload = out.subspan(kHeaderSize, kAcknowledgementSize);
  base::StoreBig(payload, next_expected);
  key_.Seal(sequence, payload, out.first(kSize));
  return absl::OkStatus();
}

}  // namespace sealift::record
