// Guest RAM for tests: a memory file that this process has mapped, as a VM's process would.
#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "base/unique_fd.h"
#include "mover/page_message.h"
#include "mover/write_scanner.h"

namespace sealift::mover::testing {

class TestMemory {
 public:
  explicit TestMemory(std::uint64_t pages)
      : TestMemory(pages, base::UniqueFd(memfd_create("test-ram", MFD_CLOEXEC))) {}
  // In an empty `file`; its address is MAP_FAILED when the host has no such memory.
  TestMemory(std::uint64_t pages, base::UniqueFd file)
      : size_(pages * kPageSize), file_(std::move(file)) {
    EXPECT_EQ(ftruncate(file_.get(), static_cast<off_t>(size_)), 0);
    void* memory = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, file_.get(), 0);
    memory_ = static_cast<std::byte*>(memory);
  }
  TestMemory(const TestMemory&) = delete;
  TestMemory& operator=(const TestMemory&) = delete;
  ~TestMemory() {
    if (memory_ != MAP_FAILED) munmap(memory_, size_);
  }

  [[nodiscard]] int file() const { return file_.get(); }
  [[nodiscard]] base::UniqueFd Duplicate() const {
    return base::UniqueFd(fcntl(file_.get(), F_DUPFD_CLOEXEC, 0));
  }
  [[nodiscard]] std::uint64_t size() const { return size_; }
  [[nodiscard]] std::uint64_t pages() const { return size_ / kPageSize; }
  [[nodiscard]] std::uint64_t address() const { return reinterpret_cast<std::uintptr_t>(memory_); }
  [[nodiscard]] std::span<std::byte> page(std::uint64_t number) {
    return {memory_ + number * kPageSize, kPageSize};
  }
  // Writes a page that differs from every other number and version; version 0 is all zeros.
  void Write(std::uint64_t number, std::uint32_t version) {
    auto* words = reinterpret_cast<std::uint64_t*>(memory_ + number * kPageSize);
    for (std::size_t i = 0; i < kPageSize / sizeof *words; ++i) {
      words[i] = version == 0 ? 0 : (number << 32) + version + i * 0x9e3779b97f4a7c15U;
    }
  }
  [[nodiscard]] std::uint64_t PopulatedBlocks() const {
    struct stat facts {};
    EXPECT_EQ(fstat(file_.get(), &facts), 0);
    return static_cast<std::uint64_t>(facts.st_blocks);
  }
  // The number of pages that are not the same.
  [[nodiscard]] std::uint64_t Differs(TestMemory& other) {
    std::uint64_t different = 0;
    for (std::uint64_t i = 0; i < pages(); ++i) {
      if (std::memcmp(page(i).data(), other.page(i).data(), kPageSize) != 0) ++different;
    }
    return different;
  }

 private:
  std::uint64_t size_;
  base::UniqueFd file_;
  std::byte* memory_ = nullptr;
};

// A memory file of huge pages, whatever the host's setting for memory files is.
inline base::UniqueFd HugeFile() {
  const auto call = [](long number, auto... arguments) {
    return static_cast<int>(syscall(number, arguments...));
  };
  const base::UniqueFd context(call(SYS_fsopen, "tmpfs", 0));
  constexpr int kSetString = 1;  // FSCONFIG_SET_STRING
  constexpr int kCreate = 6;     // FSCONFIG_CMD_CREATE
  EXPECT_EQ(call(SYS_fsconfig, context.get(), kSetString, "huge", "always", 0), 0);
  EXPECT_EQ(call(SYS_fsconfig, context.get(), kCreate, nullptr, nullptr, 0), 0);
  const base::UniqueFd mount(call(SYS_fsmount, context.get(), 0, 0));
  return base::UniqueFd(openat(mount.get(), "ram", O_RDWR | O_CREAT | O_CLOEXEC, 0600));
}

// Tracking is what an agent prepares in the VM's process: writes to the memory are found by
// PAGEMAP_SCAN for as long as a duplicate of the userfaultfd is open.
struct Tracking {
  explicit Tracking(const TestMemory& memory) {
    constexpr std::uint64_t kHugetlb = 1U << 12;      // UFFD_FEATURE_WP_HUGETLBFS_SHMEM
    constexpr std::uint64_t kUnpopulated = 1U << 13;  // UFFD_FEATURE_WP_UNPOPULATED
    constexpr std::uint64_t kAsync = 1U << 15;        // UFFD_FEATURE_WP_ASYNC
    userfaultfd.reset(static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY)));
    uffdio_api api{};
    api.api = UFFD_API;
    api.features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | kHugetlb | kUnpopulated | kAsync;
    EXPECT_EQ(ioctl(userfaultfd.get(), UFFDIO_API, &api), 0) << std::strerror(errno);
    uffdio_register area{};
    area.range = {memory.address(), memory.size()};
    area.mode = UFFDIO_REGISTER_MODE_WP;
    EXPECT_EQ(ioctl(userfaultfd.get(), UFFDIO_REGISTER, &area), 0) << std::strerror(errno);
    pagemap.reset(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    EXPECT_TRUE(pagemap.valid());
  }
  [[nodiscard]] TrackedProcess process() const { return {userfaultfd.get(), pagemap.get()}; }

  base::UniqueFd userfaultfd;
  base::UniqueFd pagemap;
};

}  // namespace sealift::mover::testing
