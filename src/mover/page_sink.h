// The destination's end of one page stream: puts pages into guest memory.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "mover/channel.h"
#include "mover/guest_memory.h"
#include "mover/page_message.h"

namespace sealift::mover {

// PageSink trusts nothing but the record layer: whatever the peer names is looked up in the blocks
// that were agreed on, and every record that is not due ends the migration.
class PageSink final : public Channel {
 public:
  // `blocks` are zero throughout, and outlive the sink. Sinks of other streams may write to the
  // same block.
  explicit PageSink(const std::vector<GuestMemory>& blocks) : blocks_(blocks) {}

  [[nodiscard]] absl::Status Send(transport::Stream& stream) override;
  [[nodiscard]] bool HasMore() const override;
  // The guest does not run before every record is opened; one whose tag is wrong comes again.
  [[nodiscard]] base::MutableByteSpan Destination() override {
    return announced_.empty() ? base::MutableByteSpan() : announced_.front();
  }
  [[nodiscard]] absl::Status Receive(const transport::Delivery& delivery) override;
  [[nodiscard]] bool Flush() override { return true; }
  [[nodiscard]] pollfd WaitFor(bool /*room*/) const override { return {-1, 0, 0}; }

 private:
  [[nodiscard]] absl::Status Take(const PagesMessage& message);
  [[nodiscard]] absl::Status Take(const ZeroPagesMessage& message);
  [[nodiscard]] absl::Status Take(const RoundMessage& message);
  [[nodiscard]] absl::Status Take(const AppliedMessage& message);
  [[nodiscard]] absl::Status TakeData(base::ByteSpan bytes);
  [[nodiscard]] absl::StatusOr<base::MutableByteSpan> Find(const PageRange& range) const;

  const std::vector<GuestMemory>& blocks_;
  std::deque<base::MutableByteSpan> announced_;  // where the next data records go
  AppliedMessage applied_;
  std::optional<AppliedMessage> to_confirm_;
  enum class End { kOpen, kReceived, kSent } end_ = End::kOpen;
};

}  // namespace sealift::mover
