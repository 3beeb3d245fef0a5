// What finding written pages costs: PAGEMAP_SCAN with write-protection in the same call
// (Linux 6.7), over memory of this process that is registered with userfaultfd in asynchronous
// mode.
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <vector>

#include "base/unique_fd.h"

namespace sealift {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kPage = 4096;

// From linux/fs.h and linux/userfaultfd.h of newer kernels than Debian 12's headers.
constexpr std::uint64_t kWpAsync = 1U << 15;        // UFFD_FEATURE_WP_ASYNC
constexpr std::uint64_t kWpUnpopulated = 1U << 13;  // UFFD_FEATURE_WP_UNPOPULATED
constexpr std::uint64_t kIsWritten = 1U << 1;       // PAGE_IS_WRITTEN
constexpr std::uint64_t kScanWriteProtect = 1U << 0;
constexpr std::uint64_t kScanCheckAsync = 1U << 1;
struct PageRegion {
  std::uint64_t start;
  std::uint64_t end;
  std::uint64_t categories;
};
struct ScanArguments {
  std::uint64_t size;
  std::uint64_t flags;
  std::uint64_t start;
  std::uint64_t end;
  std::uint64_t walk_end;
  std::uint64_t regions;
  std::uint64_t regions_count;
  std::uint64_t max_pages;
  std::uint64_t category_inverted;
  std::uint64_t category_mask;
  std::uint64_t category_any_of;
  std::uint64_t return_mask;
};
constexpr unsigned long kPagemapScan = _IOWR('f', 16, ScanArguments);

// Guest memory as the direct engine has it: a shared memfd, populated, watched for writes.
class WatchedMemory {
 public:
  explicit WatchedMemory(std::size_t size)
      : size_(size),
        file_(::memfd_create("pages", MFD_CLOEXEC)),
        pagemap_(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)),
        userfaultfd_(static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK))) {
    if (::ftruncate(file_.get(), static_cast<off_t>(size)) != 0) return;
    void* memory =
        ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, file_.get(), 0);
    if (memory == MAP_FAILED) return;
    memory_ = static_cast<std::byte*>(memory);
    watched_ = Watch();
  }
  WatchedMemory(const WatchedMemory&) = delete;
  WatchedMemory& operator=(const WatchedMemory&) = delete;
  ~WatchedMemory() {
    if (memory_ != nullptr) ::munmap(memory_, size_);
  }

  // This kernel can watch memory, and does.
  [[nodiscard]] bool watched() const { return watched_; }

  // Writes one word to every `every`-th page.
  void Write(std::size_t every) {
    for (std::size_t page = 0; page < size_ / kPage; page += every) {
      auto* word = reinterpret_cast<volatile std::uint64_t*>(memory_ + page * kPage);
      *word = *word + 1;
    }
  }

  // Scan finds the pages written since the last one; -1 when the kernel refuses.
  [[nodiscard]] std::int64_t Scan() {
    std::int64_t pages = 0;
    ScanArguments arguments{};
    arguments.size = sizeof arguments;
    arguments.flags = kScanWriteProtect | kScanCheckAsync;
    arguments.start = Address();
    arguments.end = Address() + size_;
    arguments.regions = reinterpret_cast<std::uint64_t>(regions_.data());
    arguments.regions_count = regions_.size();
    arguments.category_mask = kIsWritten;
    arguments.return_mask = kIsWritten;
    while (arguments.start < arguments.end) {
      const int count = ::ioctl(pagemap_.get(), kPagemapScan, &arguments);
      if (count < 0) return -1;
      for (int i = 0; i < count; ++i) {
        const PageRegion& region = regions_[static_cast<std::size_t>(i)];
        pages += static_cast<std::int64_t>((region.end - region.start) / kPage);
      }
      arguments.start = arguments.walk_end;
    }
    return pages;
  }

 private:
  [[nodiscard]] std::uint64_t Address() const { return reinterpret_cast<std::uint64_t>(memory_); }

  [[nodiscard]] bool Watch() {
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = kWpAsync | kWpUnpopulated | UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
    uffdio_register range{};
    range.range = {Address(), size_};
    range.mode = UFFDIO_REGISTER_MODE_WP;
    return ::ioctl(userfaultfd_.get(), UFFDIO_API, &api) == 0 &&
           ::ioctl(userfaultfd_.get(), UFFDIO_REGISTER, &range) == 0;
  }

  std::size_t size_;
  base::UniqueFd file_;
  base::UniqueFd pagemap_;
  base::UniqueFd userfaultfd_;
  std::byte* memory_ = nullptr;
  bool watched_ = false;
  std::vector<PageRegion> regions_{4096};
};

// Arguments: GiB, percent of the pages written before each scan. Only the scan is timed.
void BM_PageScan(benchmark::State& state) {
  WatchedMemory memory(static_cast<std::size_t>(state.range(0)) << 30);
  if (!memory.watched() || memory.Scan() < 0) {
    state.SkipWithError("this kernel has no PAGEMAP_SCAN with userfaultfd in asynchronous mode");
    return;
  }
  std::int64_t found = 0;
  for ([[maybe_unused]] auto _ : state) {
    if (state.range(1) > 0) memory.Write(static_cast<std::size_t>(100 / state.range(1)));
    const Clock::time_point start = Clock::now();
    found = memory.Scan();
    state.SetIterationTime(std::chrono::duration<double>(Clock::now() - start).count());
  }
  state.counters["pages"] = static_cast<double>(found);
}

BENCHMARK(BM_PageScan)
    ->ArgNames({"GiB", "percent"})
    ->ArgsProduct({{1, 4}, {0, 1, 10}})
    ->Iterations(20)  // each attempt to find a number would populate the memory again
    ->UseManualTime()
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace sealift
