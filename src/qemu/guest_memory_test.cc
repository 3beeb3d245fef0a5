#include "qemu/guest_memory.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <sstream>

#include "base/file.h"
#include "base/status.h"
#include "base/testing.h"

namespace sealift::qemu {
namespace {

using hypervisor::HugePages;
using hypervisor::VmDefinition;
using ::testing::HasSubstr;

constexpr std::size_t kSize = 4U << 20;

VmDefinition Definition() {
  VmDefinition vm;
  vm.name = "a";
  vm.memory_bytes = kSize;
  return vm;
}

base::SystemUser User() { return *base::LookUpUser(base::TestUser()); }

// This process, in which the tests map memory as QEMU would.
base::Process Self() {
  const std::string stat = *base::ReadFile("/proc/self/stat");
  std::istringstream words(stat.substr(stat.rfind(')') + 2));
  std::string word;
  for (int field = 3; field <= 22; ++field) words >> word;
  return *base::Process::Open({getpid(), std::stoull(word)});
}

// A shared mapping of a file, as long as this object lives.
class Mapped {
 public:
  explicit Mapped(int fd, std::size_t size = kSize)
      : size_(size), at_(mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0)) {
    EXPECT_NE(at_, MAP_FAILED);
  }
  ~Mapped() { munmap(at_, size_); }
  Mapped(const Mapped&) = delete;
  Mapped& operator=(const Mapped&) = delete;
  [[nodiscard]] char* data() const { return static_cast<char*>(at_); }

 private:
  std::size_t size_;
  void* at_;
};

TEST(GuestMemory, IsAFileOfTheUserThatKeepsItsSize) {
  const auto file = MakeGuestMemory(Definition(), User());
  ASSERT_TRUE(file.ok()) << file.status();
  struct stat info {};
  ASSERT_EQ(fstat(file->get(), &info), 0);
  EXPECT_EQ(static_cast<std::size_t>(info.st_size), kSize);
  EXPECT_EQ(info.st_blocks, 0);
  EXPECT_EQ(info.st_uid, User().uid);
  EXPECT_EQ(info.st_mode & 07777, 0600U);
  EXPECT_NE(ftruncate(file->get(), kSize / 2), 0);
  EXPECT_NE(ftruncate(file->get(), 2 * kSize), 0);
  EXPECT_EQ(fcntl(file->get(), F_GETFD), FD_CLOEXEC);
}

TEST(GuestMemory, IsFoundWhereTheProcessHasMappedIt) {
  const auto file = MakeGuestMemory(Definition(), User());
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_TRUE(absl::IsNotFound(FindGuestMemory(Self()).status()));
  const Mapped mapped(file->get());
  // The kernel shows the mapping in three lines then.
  ASSERT_EQ(mprotect(mapped.data() + 8192, 4096, PROT_READ), 0);
  const auto blocks = FindGuestMemory(Self());
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  ASSERT_EQ(blocks->size(), 1U);
  EXPECT_EQ(blocks->front().id, "pc.ram");
  EXPECT_EQ(blocks->front().size, kSize);
  EXPECT_EQ(blocks->front().address, reinterpret_cast<std::uintptr_t>(mapped.data()));
  mapped.data()[kSize - 1] = 'x';
  const Mapped again(blocks->front().file.get());
  EXPECT_EQ(again.data()[kSize - 1], 'x');
}

// What a QEMU that was taken over could show.
TEST(GuestMemory, IsNotWhatOnlyLooksLikeIt) {
  const base::UniqueFd unsealed(memfd_create("sealift-ram", MFD_CLOEXEC));
  ASSERT_EQ(ftruncate(unsealed.get(), kSize), 0);
  {
    const Mapped mapped(unsealed.get());
    EXPECT_TRUE(absl::IsInternal(FindGuestMemory(Self()).status()));
  }
  const auto file = MakeGuestMemory(Definition(), User());
  ASSERT_TRUE(file.ok());
  const Mapped part(file->get(), kSize / 2);
  EXPECT_TRUE(absl::IsInternal(FindGuestMemory(Self()).status()));
}

TEST(GuestMemory, WantsFreeHugePages) {
  const base::TestFolder pools;
  const auto error = [&](HugePages huge_pages) {
    VmDefinition vm = Definition();
    vm.huge_pages = huge_pages;
    return base::MessageOf(CheckHugePages(vm, pools.path()));
  };
  const std::string pool = pools / "hugepages-2048kB";
  ASSERT_TRUE(base::MakeDirectories(pool).ok());
  const auto write = [&](const char* name, const char* number) {
    ASSERT_TRUE(base::WriteFileDurably(pool + "/" + name, number).ok());
  };
  write("nr_hugepages", "10\n");
  write("free_hugepages", "4\n");
  write("resv_hugepages", "2\n");
  EXPECT_EQ(error(HugePages::k2M), "");
  write("resv_hugepages", "3\n");
  EXPECT_EQ(error(HugePages::k2M),
            "VM a needs 2 huge pages of 2MiB, this host has 1 free: reserve more, for example "
            "'echo 11 > " +
                pool + "/nr_hugepages'");
  EXPECT_THAT(error(HugePages::k1G), HasSubstr("this host has no huge pages of 1GiB"));
  EXPECT_EQ(error(HugePages::kAuto), "");
  EXPECT_EQ(error(HugePages::kOff), "");
}

}  // namespace
}  // namespace sealift::qemu
