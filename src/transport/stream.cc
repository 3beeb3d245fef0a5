#include "transport/stream.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace sealift::transport {
namespace {

using base::ByteSpan;
using base::MutableByteSpan;
using record::RecordType;
using record::Verdict;

constexpr std::size_t SealedSize(std::size_t payload) {
  return record::kHeaderSize + payload + record::kTagSize;
}
static_assert(kReceiveBufferSize >= 2 * SealedSize(record::kMaxPayload));

absl::Status BadConnection(const char* why) { return absl::PermissionDeniedError(why); }

}  // namespace

absl::StatusOr<Stream> Stream::Create(const keys::KeySchedule& schedule,
                                      const StreamOptions& options) {
  SEALIFT_ASSIGN_OR_RETURN(
      record::Sealer sealer,
      record::Sealer::Create(schedule, options.backend, options.stream, options.sending,
                             options.protection, options.sequencing));
  SEALIFT_ASSIGN_OR_RETURN(record::RecordOpener opener,
                           record::RecordOpener::Create(schedule, options.backend, options.stream,
                                                        keys::Opposite(options.sending),
                                                        options.protection, options.sequencing));
  return Stream(schedule, options, std::move(sealer), std::move(opener));
}

Stream::Stream(const keys::KeySchedule& schedule, const StreamOptions& options,
               record::Sealer sealer, record::RecordOpener opener)
    : schedule_(&schedule),
      options_(options),
      sealer_(std::move(sealer)),
      opener_(std::move(opener)),
      payload_buffer_(TakeBuffer()),
      receive_buffer_(std::make_unique_for_overwrite<std::byte[]>(kReceiveBufferSize)) {}

absl::Status Stream::Attach(std::uint32_t generation, std::uint64_t peer_next_expected) {
  if (peer_next_expected < first_retained_ || peer_next_expected > sealer_.next_sequence()) {
    return BadConnection("the peer's next expected sequence is impossible");
  }
  SEALIFT_ASSIGN_OR_RETURN(auto sealer, record::AcknowledgementSealer::Create(
                                            *schedule_, options_.backend, options_.stream,
                                            options_.sending, generation));
  SEALIFT_ASSIGN_OR_RETURN(auto opener, record::AcknowledgementOpener::Create(
                                            *schedule_, options_.backend, options_.stream,
                                            keys::Opposite(options_.sending), generation));
  Detach();
  acknowledgement_sealer_ = std::move(sealer);
  acknowledgement_opener_ = std::move(opener);
  ReleaseBefore(peer_next_expected);
  next_to_write_ = first_retained_;
  opener_.Reset();
  return absl::OkStatus();
}

void Stream::Detach() {
  acknowledgement_sealer_.reset();
  acknowledgement_opener_.reset();
  acknowledgement_due_ = false;
  acknowledgement_written_ = acknowledgement_.size();
  written_of_record_ = 0;
  receive_begin_ = 0;
  receive_end_ = 0;
  unacknowledged_records_ = 0;
  failure_ = absl::OkStatus();
}

bool Stream::HasRoom() const { return !final_sent_ && retained_.size() < kMaxRetainedRecords; }

MutableByteSpan Stream::PayloadBuffer() {
  return {payload_buffer_.get() + record::kHeaderSize, options_.payload_size};
}

absl::Status Stream::Send(RecordType type, std::size_t size) {
  return SendFrom(type, PayloadBuffer().first(size));
}

absl::Status Stream::SendFrom(RecordType type, ByteSpan payload) {
  SEALIFT_CHECK(payload.size() <= options_.payload_size);
  SEALIFT_ASSIGN_OR_RETURN(
      const std::size_t sealed,
      sealer_.Seal(type, payload, {payload_buffer_.get(), RecordBufferSize()}));
  payload_bytes_ += payload.size();
  retained_.push_back({std::exchange(payload_buffer_, TakeBuffer()), sealed});
  final_sent_ = type == RecordType::kFinal;
  return absl::OkStatus();
}

std::size_t Stream::RecordBufferSize() const { return SealedSize(options_.payload_size); }

Stream::Buffer Stream::TakeBuffer() {
  if (spare_buffers_.empty()) {
    return std::make_unique_for_overwrite<std::byte[]>(RecordBufferSize());
  }
  Buffer buffer = std::move(spare_buffers_.back());
  spare_buffers_.pop_back();
  return buffer;
}

void Stream::ReleaseBefore(std::uint64_t sequence) {
  for (; first_retained_ < sequence; ++first_retained_) {
    spare_buffers_.push_back(std::move(retained_.front().bytes));
    retained_.pop_front();
  }
}

ByteSpan Stream::UnsentRecord() {
  if (!acknowledgement_sealer_ || next_to_write_ == sealer_.next_sequence()) return {};
  const Retained& next = retained_[next_to_write_ - first_retained_];
  return ByteSpan(next.bytes.get(), next.size).subspan(written_of_record_);
}

bool Stream::AcknowledgementWaits() const {
  return written_of_record_ == 0 && acknowledgement_written_ < acknowledgement_.size();
}

void Stream::SealAcknowledgement() {
  acknowledgement_due_ = false;
  failure_ = acknowledgement_sealer_->Seal(opener_.next_sequence(), acknowledgement_);
  if (failure_.ok()) acknowledgement_written_ = 0;
}

ByteSpan Stream::Outgoing() {
  // A record that was begun is finished before an acknowledgement may go, and the other way round.
  if (acknowledgement_due_ && written_of_record_ == 0 && !AcknowledgementWaits()) {
    SealAcknowledgement();
  }
  if (AcknowledgementWaits()) return ByteSpan(acknowledgement_).subspan(acknowledgement_written_);
  return UnsentRecord();
}

void Stream::Sent(std::size_t size) {
  if (AcknowledgementWaits()) {
    acknowledgement_written_ += size;
    return;
  }
  written_of_record_ += size;
  if (written_of_record_ == retained_[next_to_write_ - first_retained_].size) {
    written_of_record_ = 0;
    ++next_to_write_;
  }
}

MutableByteSpan Stream::ReceiveBuffer() {
  const std::size_t waiting = receive_end_ - receive_begin_;
  const bool short_of_room =
      kReceiveBufferSize - receive_end_ < kReceiveBufferSize / 2 && receive_begin_ > 0;
  if (waiting == 0 || short_of_room) {
    std::memmove(receive_buffer_.get(), receive_buffer_.get() + receive_begin_, waiting);
    receive_begin_ = 0;
    receive_end_ = waiting;
  }
  return {receive_buffer_.get() + receive_end_, kReceiveBufferSize - receive_end_};
}

void Stream::Received(std::size_t size) {
  receive_end_ += size;
  SEALIFT_CHECK(receive_end_ <= kReceiveBufferSize);
}

absl::StatusOr<record::Opened> Stream::OpenFront(MutableByteSpan waiting, MutableByteSpan into) {
  if (!record::IsAcknowledgement(waiting)) return opener_.Open(waiting, into);
  const record::Opened opened = acknowledgement_opener_->Open(waiting);
  if (opened.verdict != Verdict::kOpened) return opened;
  if (opened.acknowledged > next_to_write_) {
    return BadConnection("the peer acknowledges what it was not sent");
  }
  if (opened.acknowledged < first_retained_) {
    return BadConnection("the peer takes back what it acknowledged");
  }
  ReleaseBefore(opened.acknowledged);
  return opened;
}

absl::StatusOr<std::optional<Delivery>> Stream::Next(MutableByteSpan into) {
  if (!acknowledgement_opener_) return std::nullopt;
  SEALIFT_RETURN_IF_ERROR(failure_);
  for (;;) {
    const MutableByteSpan waiting(receive_buffer_.get() + receive_begin_,
                                  receive_end_ - receive_begin_);
    if (waiting.size() < 2) return std::nullopt;
    SEALIFT_ASSIGN_OR_RETURN(const record::Opened opened, OpenFront(waiting, into));
    if (opened.verdict == Verdict::kRejected) return BadConnection("record rejected");
    if (opened.verdict == Verdict::kNeedMore) return std::nullopt;
    receive_begin_ += opened.size;
    if (opened.type == RecordType::kAcknowledgement) continue;
    if (++unacknowledged_records_ == kAcknowledgeEvery || opened.type != RecordType::kData) {
      unacknowledged_records_ = 0;
      acknowledgement_due_ = true;
    }
    payload_bytes_ += opened.payload.size();
    return Delivery{opened.type, opened.payload};
  }
}

}  // namespace sealift::transport
