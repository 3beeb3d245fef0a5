#include "mover/write_scanner.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mover/testing_memory.h"

namespace sealift::mover {
namespace {

using ::testing::ElementsAre;
using testing::HugeFile;
using ::testing::IsEmpty;
using testing::TestMemory;
using testing::Tracking;

constexpr std::uint64_t kPages = 4096;  // 16 MiB

class WriteScannerTest : public ::testing::Test {
 protected:
  explicit WriteScannerTest(base::UniqueFd file = base::UniqueFd(memfd_create("ram", MFD_CLOEXEC)))
      : memory_(kPages, std::move(file)),
        tracking_(memory_),
        scanner_(tracking_.process(), memory_.address(), 7) {}

  std::vector<PageRange> Scan() {
    std::vector<PageRange> written;
    EXPECT_TRUE(scanner_.Scan(0, kPages, written).ok());
    return written;
  }

  TestMemory memory_;
  Tracking tracking_;
  WriteScanner scanner_;
};

TEST_F(WriteScannerTest, ReportsEachWriteOnce) {
  ASSERT_TRUE(scanner_.Begin(0, kPages).ok());
  EXPECT_THAT(Scan(), IsEmpty());
  memory_.Write(3, 1);
  memory_.Write(4, 1);
  memory_.Write(kPages - 1, 1);
  EXPECT_THAT(Scan(), ElementsAre(PageRange{7, 3, 2}, PageRange{7, kPages - 1, 1}));
  EXPECT_THAT(Scan(), IsEmpty());
  memory_.Write(4, 2);
  EXPECT_THAT(Scan(), ElementsAre(PageRange{7, 4, 1}));
}

TEST_F(WriteScannerTest, ReadingIsNoWrite) {
  memory_.Write(1, 1);
  ASSERT_TRUE(scanner_.Begin(0, kPages).ok());
  EXPECT_NE(memory_.page(1)[0], std::byte{0});
  EXPECT_EQ(memory_.page(2)[0], std::byte{0}) << "touched for the first time";
  EXPECT_THAT(Scan(), IsEmpty());
}

TEST_F(WriteScannerTest, ReportsMoreRunsThanItsBufferHolds) {
  ASSERT_TRUE(scanner_.Begin(0, kPages).ok());
  for (std::uint64_t page = 0; page < kPages; page += 2) memory_.Write(page, 1);
  EXPECT_EQ(Scan().size(), kPages / 2);
}

TEST_F(WriteScannerTest, MemoryThatIsTakenAwayIsNotTakenForUnwritten) {
  ASSERT_TRUE(scanner_.Begin(0, kPages).ok());
  memory_.Write(5, 1);
  // As the kernel does when it is short of memory; the page stays in its file.
  ASSERT_EQ(madvise(memory_.page(5).data(), kPageSize, MADV_DONTNEED), 0);
  EXPECT_THAT(Scan(), ElementsAre(PageRange{7, 5, 1}));
}

TEST_F(WriteScannerTest, AKernelWriteThroughTheMappingIsAWrite) {
  ASSERT_TRUE(scanner_.Begin(0, kPages).ok());
  const base::UniqueFd zeros(open("/dev/zero", O_RDONLY | O_CLOEXEC));
  ASSERT_EQ(read(zeros.get(), memory_.page(9).data(), kPageSize), ssize_t{kPageSize});
  EXPECT_THAT(Scan(), ElementsAre(PageRange{7, 9, 1}));
}

TEST_F(WriteScannerTest, WithoutTrackingNothingIsKnown) {
  ASSERT_TRUE(scanner_.Begin(0, kPages).ok());
  tracking_.userfaultfd.reset();
  std::vector<PageRange> written;
  EXPECT_FALSE(scanner_.Scan(0, kPages, written).ok());
  EXPECT_FALSE(scanner_.Begin(0, kPages).ok());
}

class HugePageTest : public WriteScannerTest {
 protected:
  HugePageTest() : WriteScannerTest(HugeFile()) {
    for (std::uint64_t page = 0; page < kPages; ++page) memory_.Write(page, 1);
  }
};

// Else a guest that writes here and there would never be copied.
TEST_F(HugePageTest, AWrittenByteIsOnePageAndNotTwoMegabytes) {
  ASSERT_TRUE(scanner_.Begin(0, kPages).ok());
  EXPECT_THAT(Scan(), IsEmpty());
  memory_.Write(1000, 2);
  EXPECT_THAT(Scan(), ElementsAre(PageRange{7, 1000, 1}));
  memory_.Write(1001, 2);
  EXPECT_THAT(Scan(), ElementsAre(PageRange{7, 1001, 1}));
}

TEST_F(HugePageTest, MemoryThatIsTakenAwayIsNotTakenForUnwritten) {
  ASSERT_TRUE(scanner_.Begin(0, kPages).ok());
  memory_.Write(1000, 2);
  ASSERT_EQ(madvise(memory_.page(512).data(), 512 * kPageSize, MADV_DONTNEED), 0);
  EXPECT_THAT(Scan(), ElementsAre(PageRange{7, 1000, 1}));
}

// What the test above would not see on a host that gives no huge pages.
TEST_F(HugePageTest, WithoutSplittingTheMappingItIsTwoMegabytes) {
  Scan();
  memory_.Write(1000, 2);
  std::uint64_t pages = 0;
  for (const PageRange& range : Scan()) pages += range.count;
  EXPECT_EQ(pages, 512);
}

// A page of the host's pool is protected whole or not at all: that must not pass for protected.
TEST(ReservedHugePages, AreAnError) {
  TestMemory memory(kPages, base::UniqueFd(memfd_create("ram", MFD_CLOEXEC | MFD_HUGETLB)));
  if (memory.address() == reinterpret_cast<std::uintptr_t>(MAP_FAILED)) {
    GTEST_SKIP() << "this host has no 8 huge pages free";
  }
  const Tracking tracking(memory);
  WriteScanner scanner(tracking.process(), memory.address(), 7);
  EXPECT_TRUE(absl::IsFailedPrecondition(scanner.Begin(0, kPages)));
  std::vector<PageRange> written;
  EXPECT_FALSE(scanner.Scan(1, kPages - 1, written).ok());
}

}  // namespace
}  // namespace sealift::mover
