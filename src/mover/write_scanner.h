// Which pages of guest RAM were written since they were last asked for.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "mover/page_message.h"
#include "mover/pagemap_scan.h"

namespace sealift::mover {

// TrackedProcess is a process that has its guest RAM registered with a userfaultfd for asynchronous
// write-protection: that userfaultfd, and its /proc/PID/pagemap.
struct TrackedProcess {
  int userfaultfd;
  int pagemap;
};

// WriteScanner protects one block of a process, and asks the kernel about it (PAGEMAP_SCAN). A scan
// protects what it reports, in one step: a write is either reported by it or seen by the next. One
// thread at a time; several scanners may share a process as long as their ranges are disjoint.
class WriteScanner {
 public:
  // The descriptors of `process` outlive the scanner; the block begins at `address` there.
  WriteScanner(const TrackedProcess& process, std::uint64_t address, std::uint16_t block)
      : process_(process), address_(address), block_(block) {}

  // Begin protects the pages first..end-1 for the first time, each by itself: a huge page of 2 MiB
  // would be reported whole for a single written byte. An error means that nothing is known of
  // them: the process or its registration is gone.
  [[nodiscard]] absl::Status Begin(std::uint64_t first, std::uint64_t end) const;
  // Scan appends the pages that were written since Begin or the last scan. Errors as Begin.
  [[nodiscard]] absl::Status Scan(std::uint64_t first, std::uint64_t end,
                                  std::vector<PageRange>& written);

 private:
  const TrackedProcess process_;
  const std::uint64_t address_;
  const std::uint16_t block_;
  std::array<PagemapRegion, 512> regions_{};
};

}  // namespace sealift::mover
