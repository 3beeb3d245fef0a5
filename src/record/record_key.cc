#include "record/record_key.h"

#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace sealift::record {
namespace {

absl::StatusOr<std::unique_ptr<Aead>> DeriveAead(const keys::KeySchedule& schedule,
                                                 AeadBackend backend, KeyUse use,
                                                 const keys::SubKeyId& id) {
  SEALIFT_ASSIGN_OR_RETURN(const keys::SecretBytes key,
                           use == KeyUse::kSealing
                               ? schedule.DeriveForSealing(id, keys::kAesKeySize)
                               : schedule.Derive(id, keys::kAesKeySize));
  return MakeAead(backend, key);
}

}  // namespace

HeaderBytes RecordHeader::Encode() const {
  HeaderBytes bytes{};
  const base::MutableByteSpan to(bytes);
  base::StoreBig(to, kVersion);
  base::StoreBig(to.subspan(1), static_cast<std::uint8_t>(type));
  base::StoreBig(to.subspan(2), flags);
  base::StoreBig(to.subspan(4), stream);
  base::StoreBig(to.subspan(8), sequence);
  base::StoreBig(to.subspan(16), length);
  return bytes;
}

absl::StatusOr<RecordKey> RecordKey::Create(const keys::KeySchedule& schedule, AeadBackend backend,
                                            KeyUse use, const keys::SubKeyId& id) {
  SEALIFT_ASSIGN_OR_RETURN(std::unique_ptr<Aead> aead, DeriveAead(schedule, backend, use, id));
  return RecordKey(schedule, backend, use, id, std::move(aead));
}

RecordKey::RecordKey(const keys::KeySchedule& schedule, AeadBackend backend, KeyUse use,
                     const keys::SubKeyId& id, std::unique_ptr<Aead> aead)
    : schedule_(&schedule), backend_(backend), use_(use), id_(id), aead_(std::move(aead)) {}

absl::Status RecordKey::MoveTo(std::uint64_t index) {
  if (index == id_.index) return absl::OkStatus();
  keys::SubKeyId next = id_;
  next.index = index;
  SEALIFT_ASSIGN_OR_RETURN(aead_, DeriveAead(*schedule_, backend_, use_, next));
  id_ = next;
  return absl::OkStatus();
}

void RecordKey::Seal(std::uint64_t sequence, base::ByteSpan payload, base::MutableByteSpan out) {
  SEALIFT_CHECK(aead_ != nullptr && use_ == KeyUse::kSealing);
  const Iv iv = IvOf(sequence);
  aead_->Seal(iv, out.first(kHeaderSize), payload, out.subspan(kHeaderSize, payload.size()),
              out.subspan(kHeaderSize + payload.size()));
}

bool RecordKey::Open(std::uint64_t sequence, base::ByteSpan record, base::MutableByteSpan payload) {
  SEALIFT_CHECK(aead_ != nullptr && use_ == KeyUse::kOpening);
  const Iv iv = IvOf(sequence);
  return aead_->Open(iv, record.first(kHeaderSize), record.subspan(kHeaderSize, payload.size()),
                     record.last(kTagSize), payload);
}

RecordKey::Iv RecordKey::IvOf(std::uint64_t sequence) const {
  Iv iv;
  const base::MutableByteSpan to(iv);
  base::StoreBig(to, id_.stream);
  base::StoreBig(to.subspan(2), static_cast<std::uint8_t>(id_.direction));
  base::StoreBig(to.subspan(3), static_cast<std::uint8_t>(id_.purpose));
  base::StoreBig(to.subspan(4), sequence);
  return iv;
}

}  // namespace sealift::record
