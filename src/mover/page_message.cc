#include "mover/page_message.h"

#include <utility>

#include "base/status.h"

namespace sealift::mover {
namespace {

using base::Bytes;
using base::ByteSpan;

// The first byte of a message. Zero is invalid.
enum class Kind : std::uint8_t { kPages = 1, kZeroPages = 2, kRound = 3, kApplied = 4 };

constexpr std::size_t kRangeSize = 2 + 8 + 4;
constexpr std::size_t kRoundSize = 4;
constexpr std::size_t kAppliedSize = 4 + 8 + 8;

absl::Status Bad(const char* what) {
  return absl::InvalidArgumentError(std::string("page message of the peer: ") + what);
}

Bytes Begin(Kind kind) { return {static_cast<std::byte>(kind)}; }

Bytes EncodeRanges(Kind kind, const std::vector<PageRange>& ranges) {
  Bytes bytes = Begin(kind);
  bytes.reserve(1 + ranges.size() * kRangeSize);
  for (const PageRange& range : ranges) {
    base::AppendBig(bytes, range.block);
    base::AppendBig(bytes, range.first);
    base::AppendBig(bytes, range.count);
  }
  return bytes;
}

struct Encoder {
  Bytes operator()(const PagesMessage& m) const { return EncodeRanges(Kind::kPages, m.ranges); }
  Bytes operator()(const ZeroPagesMessage& m) const {
    return EncodeRanges(Kind::kZeroPages, m.ranges);
  }
  Bytes operator()(const RoundMessage& m) const {
    Bytes bytes = Begin(Kind::kRound);
    base::AppendBig(bytes, m.round);
    return bytes;
  }
  Bytes operator()(const AppliedMessage& m) const {
    Bytes bytes = Begin(Kind::kApplied);
    base::AppendBig(bytes, m.round);
    base::AppendBig(bytes, m.data_pages);
    base::AppendBig(bytes, m.zero_pages);
    return bytes;
  }
};

absl::StatusOr<std::vector<PageRange>> DecodeRanges(ByteSpan body, std::uint64_t max_pages) {
  if (body.empty() || body.size() % kRangeSize != 0) return Bad("wrong size");
  if (body.size() > kMaxRanges * kRangeSize) return Bad("too many ranges");
  std::vector<PageRange> ranges;
  ranges.reserve(body.size() / kRangeSize);
  for (; !body.empty(); body = body.subspan(kRangeSize)) {
    ranges.push_back({base::LoadBig<std::uint16_t>(body),
                      base::LoadBig<std::uint64_t>(body.subspan(2)),
                      base::LoadBig<std::uint32_t>(body.subspan(10))});
    if (ranges.back().count == 0) return Bad("empty range");
  }
  if (PagesIn(ranges) > max_pages) return Bad("too many pages");
  return ranges;
}

absl::StatusOr<PageMessage> DecodePages(ByteSpan body) {
  SEALIFT_ASSIGN_OR_RETURN(std::vector<PageRange> ranges, DecodeRanges(body, kMaxAnnouncedPages));
  return PagesMessage{std::move(ranges)};
}

absl::StatusOr<PageMessage> DecodeZeroPages(ByteSpan body) {
  SEALIFT_ASSIGN_OR_RETURN(std::vector<PageRange> ranges, DecodeRanges(body, kStripePages));
  return ZeroPagesMessage{std::move(ranges)};
}

absl::StatusOr<PageMessage> DecodeRound(ByteSpan body) {
  if (body.size() != kRoundSize) return Bad("wrong size");
  return RoundMessage{base::LoadBig<std::uint32_t>(body)};
}

absl::StatusOr<PageMessage> DecodeApplied(ByteSpan body) {
  if (body.size() != kAppliedSize) return Bad("wrong size");
  return AppliedMessage{base::LoadBig<std::uint32_t>(body),
                        base::LoadBig<std::uint64_t>(body.subspan(4)),
                        base::LoadBig<std::uint64_t>(body.subspan(12))};
}

}  // namespace

base::Bytes EncodePageMessage(const PageMessage& message) { return std::visit(Encoder{}, message); }

absl::StatusOr<PageMessage> DecodePageMessage(ByteSpan bytes) {
  if (bytes.empty()) return Bad("empty");
  const ByteSpan body = bytes.subspan(1);
  switch (static_cast<Kind>(bytes[0])) {
    case Kind::kPages:
      return DecodePages(body);
    case Kind::kZeroPages:
      return DecodeZeroPages(body);
    case Kind::kRound:
      return DecodeRound(body);
    case Kind::kApplied:
      return DecodeApplied(body);
  }
  return Bad("unknown kind");
}

std::uint64_t PagesIn(const std::vector<PageRange>& ranges) {
  std::uint64_t pages = 0;  // at most kMaxRanges * 2^32
  for (const PageRange& range : ranges) pages += range.count;
  return pages;
}

}  // namespace sealift::mover
