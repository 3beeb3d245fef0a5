#include "mover/write_scanner.h"

#include <sys/ioctl.h>

#include <cerrno>
#include <utility>

#include "base/status.h"
#include "mover/pagemap_scan.h"

namespace sealift::mover {

absl::Status WriteScanner::Scan(std::uint64_t first, std::uint64_t end,
                                std::vector<PageRange>& written) {
  const std::uint64_t stop = address_ + end * kPageSize;
  std::uint64_t at = address_ + first * kPageSize;
  while (at < stop) {
    PagemapScan scan{};
    scan.size = sizeof scan;
    // CHECK_WPASYNC: memory that is not registered is an error, and not "nothing was written".
    scan.flags = kPagemapScanWriteProtect | kPagemapScanCheckAsync;
    scan.start = at;
    scan.end = stop;
    scan.regions = reinterpret_cast<std::uintptr_t>(regions_.data());
    scan.regions_size = regions_.size();
    scan.category_mask = kPageIsWritten;
    scan.return_mask = kPageIsWritten;
    const int found = ioctl(pagemap_, kPagemapScanCall, &scan);
    if (found < 0) return base::ErrnoStatus("find the written pages of the guest", errno);
    for (const PagemapRegion& region : std::span(regions_).first(static_cast<std::size_t>(found))) {
      written.push_back({block_, (region.start - address_) / kPageSize,
                         static_cast<std::uint32_t>((region.end - region.start) / kPageSize)});
    }
    at = scan.walk_end;
  }
  return absl::OkStatus();
}

}  // namespace sealift::mover
