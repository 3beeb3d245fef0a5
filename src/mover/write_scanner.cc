#include "mover/write_scanner.h"

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <span>
#include <utility>

#include "base/status.h"
#include "mover/pagemap_scan.h"

namespace sealift::mover {
namespace {

// A page of the host's pool cannot be protected in part, and is told by that.
constexpr std::uint64_t kPartOfHugePage = (std::uint64_t{1} << 20) / kPageSize;

absl::Status Lost(int error) {
  return base::ErrnoStatus("find the written pages of the guest", error);
}

// What the kernel does with a part of a huge page of the host's pool: nothing, and it says so.
absl::Status Unsplittable() {
  return absl::FailedPreconditionError(
      "the guest's memory is of pages that cannot be protected in pieces of 4 KiB");
}

}  // namespace

// Not by PAGEMAP_SCAN: where nothing is mapped, not even by an empty page table, some kernels let
// it protect nothing. This splits the mappings of huge pages, and leaves a page table everywhere.
absl::Status WriteScanner::Begin(std::uint64_t first, std::uint64_t end) const {
  for (std::uint64_t at = first; at < end; at += kPartOfHugePage) {
    uffdio_writeprotect protect{};
    protect.range.start = address_ + at * kPageSize;
    protect.range.len = (std::min(at + kPartOfHugePage, end) - at) * kPageSize;
    protect.mode = UFFDIO_WRITEPROTECT_MODE_WP;
    if (ioctl(process_.userfaultfd, UFFDIO_WRITEPROTECT, &protect) == 0) continue;
    return errno == EINVAL ? Unsplittable() : Lost(errno);
  }
  return absl::OkStatus();
}

absl::Status WriteScanner::Scan(std::uint64_t first, std::uint64_t end,
                                std::vector<PageRange>& written) {
  PagemapScan scan{};
  scan.size = sizeof scan;
  // CHECK_WPASYNC: memory that is not registered is an error, and not "nothing was written".
  scan.flags = kPagemapScanWriteProtect | kPagemapScanCheckAsync;
  scan.start = address_ + first * kPageSize;
  scan.end = address_ + end * kPageSize;
  // Only this category: the kernel then takes a page that is not mapped for written unless it is
  // marked as protected.
  scan.category_mask = kPageIsWritten;
  scan.return_mask = kPageIsWritten;
  scan.regions = reinterpret_cast<std::uintptr_t>(regions_.data());
  scan.regions_size = regions_.size();
  for (; scan.start < scan.end; scan.start = scan.walk_end) {
    const int found = ioctl(process_.pagemap, kPagemapScanCall, &scan);
    if (found < 0) return Lost(errno);
    if (scan.walk_end <= scan.start) return Unsplittable();
    for (const PagemapRegion& region : std::span(regions_).first(static_cast<std::size_t>(found))) {
      written.push_back({block_, (region.start - address_) / kPageSize,
                         static_cast<std::uint32_t>((region.end - region.start) / kPageSize)});
    }
  }
  return absl::OkStatus();
}

}  // namespace sealift::mover
