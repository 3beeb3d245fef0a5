// What the two movers of a direct migration say on a page stream, besides the pages themselves: the
// payload of control records, which are sealed whatever the protection. docs/protocol.md, "Direct
// engine".
#pragma once

#include <cstddef>
#include <cstdint>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "base/bytes.h"

namespace sealift::mover {

// ---- Dictated by the protocol ----

inline constexpr std::size_t kPageSize = 4096;
// Pages that one Pages message announces at most: 4 MiB.
inline constexpr std::uint64_t kMaxAnnouncedPages = 1024;
// Guest RAM is cut into stripes, each of which belongs to one page stream: 8 MiB.
inline constexpr std::uint64_t kStripePages = 2048;
// Ranges in one message at most.
inline constexpr std::size_t kMaxRanges = 1024;

// PageRange names pages of one block of guest RAM by their number. Never empty.
struct PageRange {
  std::uint16_t block = 0;
  std::uint64_t first = 0;
  std::uint32_t count = 0;

  bool operator==(const PageRange&) const = default;
};

// source: the data records that follow hold these pages, in this order, without gaps.
struct PagesMessage {
  std::vector<PageRange> ranges;
};
// source: these pages hold zeros; no more than a stripe has.
struct ZeroPagesMessage {
  std::vector<PageRange> ranges;
};
// source: everything of this round that belongs to this stream was sent. Rounds count from 1.
struct RoundMessage {
  std::uint32_t round = 0;
};
// destination: all rounds to this one are in memory; pages received on this stream since the start.
struct AppliedMessage {
  std::uint32_t round = 0;
  std::uint64_t data_pages = 0;
  std::uint64_t zero_pages = 0;

  bool operator==(const AppliedMessage&) const = default;
};

using PageMessage = std::variant<PagesMessage, ZeroPagesMessage, RoundMessage, AppliedMessage>;

// EncodePageMessage and DecodePageMessage are inverse. Decoding is strict: INVALID_ARGUMENT for an
// unknown kind, a wrong size, no range or too many, an empty range, more announced pages than
// kMaxAnnouncedPages, and more zero pages than kStripePages. Whether a block has such pages is for
// GuestMemory to say.
[[nodiscard]] base::Bytes EncodePageMessage(const PageMessage& message);
[[nodiscard]] absl::StatusOr<PageMessage> DecodePageMessage(base::ByteSpan bytes);

// PagesIn counts the pages of ranges.
[[nodiscard]] std::uint64_t PagesIn(const std::vector<PageRange>& ranges);

}  // namespace sealift::mover
