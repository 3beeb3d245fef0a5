#include "mover/page_source.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/status.h"

namespace sealift::mover {
namespace {

using record::RecordType;

// A run of pages of this size or more is sealed where it lies; shorter ones are gathered first.
constexpr std::size_t kSealInPlace = std::size_t{64} * 1024;

bool IsZero(base::ByteSpan page) {
  constexpr std::size_t kWord = sizeof(std::uint64_t);
  std::uint64_t first = 0;
  std::memcpy(&first, page.data(), kWord);
  return first == 0 && std::memcmp(page.data(), page.data() + kWord, page.size() - kWord) == 0;
}

// Appends pages to a list, to its last range where they continue it.
void Append(std::deque<PageRange>& list, const PageRange& range) {
  if (!list.empty()) {
    PageRange& last = list.back();
    if (last.block == range.block && last.first + last.count == range.first) {
      last.count += range.count;
      return;
    }
  }
  list.push_back(range);
}

// Takes up to `pages` pages from the front.
PageRange TakeFront(std::deque<PageRange>& list, std::uint64_t pages) {
  PageRange taken = list.front();
  if (taken.count <= pages) {
    list.pop_front();
    return taken;
  }
  taken.count = static_cast<std::uint32_t>(pages);
  list.front().first += pages;
  list.front().count -= taken.count;
  return taken;
}

// Takes what one message may name from the front.
std::vector<PageRange> TakeForMessage(std::deque<PageRange>& list, std::uint64_t pages) {
  std::vector<PageRange> taken;
  while (!list.empty() && pages > 0 && taken.size() < kMaxRanges) {
    taken.push_back(TakeFront(list, pages));
    pages -= taken.back().count;
  }
  return taken;
}

}  // namespace

PageSource::PageSource(std::uint16_t stream, std::size_t index, std::size_t count,
                       const std::vector<SourceBlock>& blocks, const TrackedProcess& process,
                       CopyOrders& orders, CopyEvents& events)
    : stream_(stream), blocks_(blocks), orders_(orders), events_(events) {
  std::uint16_t number = 0;
  std::size_t stripe = 0;
  for (const SourceBlock& block : blocks) {
    const std::uint64_t pages = block.memory.pages();
    for (std::uint64_t first = 0; first < pages; first += kStripePages, ++stripe) {
      if (stripe % count == index) {
        stripes_.push_back({number, first, std::min(first + kStripePages, pages)});
      }
    }
    scanners_.emplace_back(process, block.address, number);
    ++number;
  }
}

// One step: a record, or a look at one stripe.
absl::Status PageSource::Send(transport::Stream& stream) {
  if (!announced_.empty()) return SendData(stream);
  if (!to_announce_.empty()) return SendPages(stream);
  if (!zeros_.empty()) return SendZeroPages(stream);
  if (round_ <= orders_.round.load()) {
    return next_stripe_ < stripes_.size() ? LookAt(stripes_[next_stripe_++]) : EndRound(stream);
  }
  if (!HasMore()) return absl::OkStatus();
  ended_ = true;
  return stream.Send(RecordType::kFinal, 0);
}

bool PageSource::HasMore() const {
  return !announced_.empty() || !to_announce_.empty() || !zeros_.empty() ||
         round_ <= orders_.round.load() || (orders_.end.load() && !ended_);
}

absl::Status PageSource::SendMessage(transport::Stream& stream, const PageMessage& message) {
  const base::Bytes bytes = EncodePageMessage(message);
  return stream.SendFrom(RecordType::kControl, bytes);
}

absl::Status PageSource::SendPages(transport::Stream& stream) {
  const PagesMessage message{TakeForMessage(to_announce_, kMaxAnnouncedPages)};
  announced_.assign(message.ranges.begin(), message.ranges.end());
  return SendMessage(stream, message);
}

absl::Status PageSource::SendZeroPages(transport::Stream& stream) {
  const ZeroPagesMessage message{TakeForMessage(zeros_, kStripePages)};
  const std::uint64_t pages = PagesIn(message.ranges);
  sent_.zero_pages += pages;
  orders_.zero_pages += pages;
  return SendMessage(stream, message);
}

base::ByteSpan PageSource::BytesOf(const PageRange& range) const {
  const std::optional<base::ByteSpan> bytes = blocks_[range.block].memory.Bytes(range);
  SEALIFT_CHECK(bytes.has_value());
  return *bytes;
}

absl::Status PageSource::SendData(transport::Stream& stream) {
  const base::MutableByteSpan buffer = stream.PayloadBuffer();
  const std::uint64_t room = buffer.size() / kPageSize;
  if (announced_.front().count * kPageSize >= kSealInPlace) {
    const PageRange range = TakeFront(announced_, room);
    sent_.data_pages += range.count;
    orders_.data_pages += range.count;
    return stream.SendFrom(RecordType::kData, BytesOf(range));
  }
  std::uint64_t gathered = 0;
  while (!announced_.empty() && gathered < room &&
         announced_.front().count * kPageSize < kSealInPlace) {
    const base::ByteSpan bytes = BytesOf(TakeFront(announced_, room - gathered));
    std::memcpy(buffer.data() + gathered * kPageSize, bytes.data(), bytes.size());
    gathered += bytes.size() / kPageSize;
  }
  sent_.data_pages += gathered;
  orders_.data_pages += gathered;
  return stream.Send(RecordType::kData, gathered * kPageSize);
}

absl::Status PageSource::EndRound(transport::Stream& stream) {
  next_stripe_ = 0;
  return SendMessage(stream, RoundMessage{round_++});
}

absl::Status PageSource::LookAt(const Stripe& stripe) {
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<PageRange> candidates, Candidates(stripe));
  for (const PageRange& range : candidates) Sort(range);
  return absl::OkStatus();
}

// Protects before it reads: what is written after this is found by the next round.
absl::StatusOr<std::vector<PageRange>> PageSource::Candidates(const Stripe& stripe) {
  WriteScanner& scanner = scanners_[stripe.block];
  if (round_ > 1) {
    std::vector<PageRange> written;
    SEALIFT_RETURN_IF_ERROR(scanner.Scan(stripe.first, stripe.end, written));
    return written;
  }
  SEALIFT_RETURN_IF_ERROR(scanner.Begin(stripe.first, stripe.end));
  std::vector<PageRange> populated;
  for (std::uint64_t at = stripe.first; at < stripe.end;) {
    SEALIFT_ASSIGN_OR_RETURN(const GuestMemory::Run run,
                             blocks_[stripe.block].memory.NextPopulated(at, stripe.end));
    if (run.first < run.end) {
      populated.push_back(
          {stripe.block, run.first, static_cast<std::uint32_t>(run.end - run.first)});
    }
    at = run.end;
  }
  return populated;
}

// Zero pages are named, not sent; the first time not even that, as the destination begins with
// them.
void PageSource::Sort(const PageRange& range) {
  const base::ByteSpan bytes = BytesOf(range);
  for (std::uint32_t i = 0; i < range.count; ++i) {
    const PageRange page{range.block, range.first + i, 1};
    if (!IsZero(bytes.subspan(i * kPageSize, kPageSize))) {
      Append(to_announce_, page);
    } else if (round_ > 1) {
      Append(zeros_, page);
    }
  }
}

absl::Status PageSource::Receive(const transport::Delivery& delivery) {
  if (delivery.type == RecordType::kFinal) {
    return ended_ ? absl::OkStatus()
                  : absl::AbortedError("the destination ended a page stream too early");
  }
  if (delivery.type != RecordType::kControl) {
    return absl::PermissionDeniedError("the peer sent a record that has no place on this stream");
  }
  SEALIFT_ASSIGN_OR_RETURN(const PageMessage message, DecodePageMessage(delivery.payload));
  const auto* applied = std::get_if<AppliedMessage>(&message);
  // The next round begins when all streams have confirmed this one, so nothing was sent since.
  if (applied == nullptr || applied->round != confirmed_ + 1 || applied->round != round_ - 1 ||
      applied->data_pages != sent_.data_pages || applied->zero_pages != sent_.zero_pages) {
    return absl::AbortedError("the destination confirms other pages than it was sent");
  }
  confirmed_ = applied->round;
  events_.OnApplied(stream_, confirmed_);
  return absl::OkStatus();
}

}  // namespace sealift::mover
