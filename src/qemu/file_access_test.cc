#include "qemu/file_access.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "base/file.h"
#include "base/status.h"
#include "base/testing.h"
#include "base/unique_fd.h"

namespace sealift::qemu {
namespace {

using ::testing::HasSubstr;

// HangingStorage is a file system that never answers, at `folder`, for as long as this lives: a
// FUSE server that does not even answer FUSE_INIT. Only the thread that makes it, and those it
// starts, see it.
class HangingStorage {
 public:
  explicit HangingStorage(const std::string& folder) : server_(open("/dev/fuse", O_RDWR)) {
    const std::string options =
        fmt::format("fd={},rootmode=40000,user_id=0,group_id=0,allow_other", server_.get());
    mounted_ = server_.valid() && unshare(CLONE_NEWNS) == 0 &&
               mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
               mount("hanging", folder.c_str(), "fuse", 0, options.c_str()) == 0;
  }
  [[nodiscard]] bool mounted() const { return mounted_; }

 private:
  const base::UniqueFd server_;  // once closed, whoever waits is told that nobody serves
  bool mounted_ = false;
};

class FileAccessTest : public ::testing::Test {
 protected:
  // Makes a file with that mode, owned by us.
  std::string File(const std::string& name, mode_t mode) {
    EXPECT_TRUE(base::WriteFileDurably(folder_ / name, "x", mode).ok());
    return folder_ / name;
  }
  void SetUp() override {
    if (geteuid() != 0) GTEST_SKIP() << "needs root to have a user other than our own";
  }
  base::TestFolder folder_;
  const base::SystemUser user_ = *base::LookUpUser(base::TestUser());
};

TEST_F(FileAccessTest, OpensFilesAsTheUserWould) {
  EXPECT_TRUE(CheckAccess(user_, "kernel", File("open", 0644), Access::kRead).ok());
  const std::string closed = File("closed", 0600);
  EXPECT_EQ(base::MessageOf(CheckAccess(user_, "kernel", closed, Access::kRead)),
            "kernel " + closed + " is not readable by user " + user_.name +
                ": give that user access to it and to every folder above, for example 'chown " +
                user_.name + " " + closed + "'");
  EXPECT_THAT(base::MessageOf(CheckAccess(user_, "kernel", folder_ / "none", Access::kRead)),
              HasSubstr("/none does not exist on this host"));
  // Our own identity is what it was.
  EXPECT_EQ(access(closed.c_str(), R_OK), 0);
}

TEST_F(FileAccessTest, StorageThatHangsIsNotWaitedForWithoutEnd) {
  std::thread([this] {
    const HangingStorage storage(folder_.path());
    if (!storage.mounted()) GTEST_SKIP() << "no FUSE here";
    const absl::Status kernel = CheckAccess(user_, "kernel", folder_ / "vmlinuz", Access::kRead);
    EXPECT_EQ(kernel, absl::DeadlineExceededError("kernel " + (folder_ / "vmlinuz") +
                                                  " does not open: its storage hangs on this "
                                                  "host"));
  }).join();
}

TEST_F(FileAccessTest, WantsToWriteADiskUnlessItIsReadOnly) {
  const std::string path = File("disk", 0644);
  EXPECT_TRUE(ProbeDisk(user_, {path, {}, true}).ok());
  EXPECT_THAT(base::MessageOf(ProbeDisk(user_, {path, {}, false}).status()),
              HasSubstr("is not readable and writable by user"));
  ASSERT_EQ(chmod(path.c_str(), 0666), 0);
  EXPECT_EQ(ProbeDisk(user_, {path, {}, false})->driver, DiskDriver::kFile);
}

TEST_F(FileAccessTest, RefusesADiskThatIsNone) {
  EXPECT_THAT(base::MessageOf(ProbeDisk(user_, {"/dev/null", {}, false}).status()),
              HasSubstr("neither a file nor a block device"));
  EXPECT_FALSE(ProbeDisk(user_, {folder_.path(), {}, false}).ok());
}

// How many pages of a file are in the page cache.
std::size_t CachedPages(const std::string& path, std::size_t size) {
  const base::UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  void* at = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd.get(), 0);
  std::vector<unsigned char> pages(size / 4096);
  EXPECT_EQ(mincore(at, size, pages.data()), 0);
  munmap(at, size);
  return static_cast<std::size_t>(
      std::ranges::count_if(pages, [](unsigned char page) { return (page & 1) != 0; }));
}

TEST(PageCache, OfADiskIsDropped) {
  constexpr std::size_t kSize = 1U << 20;
  const base::TestFolder folder;
  const std::string path = folder / "disk";
  ASSERT_TRUE(base::WriteFileDurably(path, std::string(kSize, 'x'), 0644).ok());
  chmod(path.c_str(), 0644);
  ASSERT_EQ(base::ReadFile(path)->size(), kSize);
  EXPECT_EQ(CachedPages(path, kSize), kSize / 4096);
  const base::SystemUser user = *base::LookUpUser(base::TestUser());
  ASSERT_TRUE(DropPageCache(user, {.path = path}).ok());
  struct statfs info {};
  ASSERT_EQ(statfs(path.c_str(), &info), 0);
  constexpr long kTmpfs = 0x01021994;  // where the page cache is the file
  EXPECT_EQ(CachedPages(path, kSize), info.f_type == kTmpfs ? kSize / 4096 : 0);
  EXPECT_TRUE(absl::IsFailedPrecondition(DropPageCache(user, {.path = folder / "none"})));
}

// cachestat() of Linux 6.5, which is newer than the headers of Debian 12.
struct CacheRange {
  std::uint64_t offset, length;
};
struct CacheState {
  std::uint64_t cached, dirty, under_writeback, evicted, recently_evicted;
};

TEST(PageCache, OfADiskIsWrittenBack) {
  constexpr long kCachestat = 451;
  const base::TestFolder folder;
  const std::string path = folder / "disk";
  const base::UniqueFd file(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  const std::string content(1U << 20, 'x');
  ASSERT_EQ(write(file.get(), content.data(), content.size()), std::ssize(content));
  const auto unwritten = [&] {
    CacheRange all{0, content.size()};
    CacheState state{};
    EXPECT_EQ(syscall(kCachestat, file.get(), &all, &state, 0), 0) << std::strerror(errno);
    return state.dirty + state.under_writeback;
  };
  if (unwritten() == 0) GTEST_SKIP() << "it has been written back already, or is in memory only";
  const base::SystemUser user = *base::LookUpUser(base::TestUser());
  ASSERT_TRUE(WriteBack(user, {.path = path}).ok());
  EXPECT_EQ(unwritten(), 0U);
  EXPECT_TRUE(absl::IsFailedPrecondition(WriteBack(user, {.path = folder / "none"})));
}

}  // namespace
}  // namespace sealift::qemu
