// Which pages of guest RAM were written since they were last asked for.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "mover/page_message.h"

namespace sealift::mover {

// PagemapRegion is struct page_region of linux/fs.h (Linux 6.7): a run of pages.
struct PagemapRegion {
  std::uint64_t start = 0;  // address
  std::uint64_t end = 0;
  std::uint64_t categories = 0;
};

// WriteScanner asks the kernel (PAGEMAP_SCAN) about one block of a process whose mapping of it is
// registered with a userfaultfd for asynchronous write-protection. A scan protects what it reports,
// in one step: a write is either reported by it or seen by the next. One thread at a time; several
// scanners may share a pagemap descriptor as long as their ranges are disjoint.
class WriteScanner {
 public:
  // `pagemap` is /proc/PID/pagemap and outlives the scanner; the block begins at `address` there.
  WriteScanner(int pagemap, std::uint64_t address, std::uint16_t block)
      : pagemap_(pagemap), address_(address), block_(block) {}

  // Scan appends the pages of first..end-1 that were written since the last scan; all of them the
  // first time. An error means that nothing is known of them: the process or its registration is
  // gone.
  [[nodiscard]] absl::Status Scan(std::uint64_t first, std::uint64_t end,
                                  std::vector<PageRange>& written);

 private:
  const int pagemap_;
  const std::uint64_t address_;
  const std::uint16_t block_;
  std::array<PagemapRegion, 512> regions_{};
};

}  // namespace sealift::mover
