#include "mover/page_sink.h"

#include <algorithm>
#include <cstring>

#include "base/status.h"

namespace sealift::mover {
namespace {

using record::RecordType;

absl::Status OutOfTurn(const char* what) {
  return absl::PermissionDeniedError(std::string("page stream: ") + what);
}

}  // namespace

absl::Status PageSink::Send(transport::Stream& stream) {
  if (to_confirm_) {
    const base::Bytes bytes = EncodePageMessage(*to_confirm_);
    to_confirm_.reset();
    return stream.SendFrom(RecordType::kControl, bytes);
  }
  if (end_ != End::kReceived) return absl::OkStatus();
  end_ = End::kSent;
  return stream.Send(RecordType::kFinal, 0);
}

bool PageSink::HasMore() const { return to_confirm_ || end_ == End::kReceived; }

absl::Status PageSink::Receive(const transport::Delivery& delivery) {
  if (delivery.type == RecordType::kData) return TakeData(delivery.payload);
  if (!announced_.empty()) return OutOfTurn("pages that were announced did not come");
  if (delivery.type == RecordType::kFinal) {
    end_ = End::kReceived;
    return absl::OkStatus();
  }
  SEALIFT_ASSIGN_OR_RETURN(const PageMessage message, DecodePageMessage(delivery.payload));
  return std::visit([this](const auto& m) { return Take(m); }, message);
}

absl::StatusOr<base::MutableByteSpan> PageSink::Find(const PageRange& range) const {
  if (range.block >= blocks_.size()) return OutOfTurn("a block that does not exist");
  const std::optional<base::MutableByteSpan> bytes = blocks_[range.block].MutableBytes(range);
  if (!bytes) return OutOfTurn("pages outside of their block");
  return *bytes;
}

absl::Status PageSink::Take(const PagesMessage& message) {
  for (const PageRange& range : message.ranges) {
    SEALIFT_ASSIGN_OR_RETURN(const base::MutableByteSpan bytes, Find(range));
    announced_.push_back(bytes);
  }
  return absl::OkStatus();
}

absl::Status PageSink::Take(const ZeroPagesMessage& message) {
  for (const PageRange& range : message.ranges) {
    SEALIFT_ASSIGN_OR_RETURN(const base::MutableByteSpan bytes, Find(range));
    std::memset(bytes.data(), 0, bytes.size());
    applied_.zero_pages += range.count;
  }
  return absl::OkStatus();
}

absl::Status PageSink::Take(const RoundMessage& message) {
  if (message.round != applied_.round + 1) return OutOfTurn("a round that is not the next");
  if (to_confirm_) return OutOfTurn("a round before the last one was confirmed");
  applied_.round = message.round;
  to_confirm_ = applied_;
  return absl::OkStatus();
}

absl::Status PageSink::Take(const AppliedMessage& /*message*/) {
  return OutOfTurn("a confirmation from the source");
}

absl::Status PageSink::TakeData(base::ByteSpan bytes) {
  if (bytes.empty() || bytes.size() % kPageSize != 0) return OutOfTurn("a part of a page");
  applied_.data_pages += bytes.size() / kPageSize;
  while (!bytes.empty()) {
    if (announced_.empty()) return OutOfTurn("pages that were not announced");
    base::MutableByteSpan& to = announced_.front();
    const std::size_t size = std::min(to.size(), bytes.size());
    if (bytes.data() != to.data()) std::memcpy(to.data(), bytes.data(), size);
    bytes = bytes.subspan(size);
    to = to.subspan(size);
    if (to.empty()) announced_.pop_front();
  }
  return absl::OkStatus();
}

}  // namespace sealift::mover
