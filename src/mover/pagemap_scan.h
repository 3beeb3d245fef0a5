// PAGEMAP_SCAN of linux/fs.h (Linux 6.7), which is newer than the headers of Debian 12.
#pragma once

#include <sys/ioctl.h>

#include <cstdint>

namespace sealift::mover {

struct PagemapScan {  // struct pm_scan_arg
  std::uint64_t size;
  std::uint64_t flags;
  std::uint64_t start;     // address
  std::uint64_t end;       // address
  std::uint64_t walk_end;  // out: address up to which it came
  std::uint64_t regions;   // out: address of struct page_region[]
  std::uint64_t regions_size;
  std::uint64_t max_pages;
  std::uint64_t category_inverted;
  std::uint64_t category_mask;
  std::uint64_t category_anyof_mask;
  std::uint64_t return_mask;
};

inline constexpr unsigned long kPagemapScanCall = _IOWR('f', 16, PagemapScan);
inline constexpr std::uint64_t kPagemapScanWriteProtect = 1U << 0;  // PM_SCAN_WP_MATCHING
inline constexpr std::uint64_t kPagemapScanCheckAsync = 1U << 1;    // PM_SCAN_CHECK_WPASYNC
inline constexpr std::uint64_t kPageIsWritten = 1U << 1;            // PAGE_IS_WRITTEN

}  // namespace sealift::mover
