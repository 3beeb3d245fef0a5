// Guest memory and its tracking with a real QEMU and the test guest (tests/guest), under KVM where
// that works, else under TCG.
#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <thread>

#include "base/file.h"
#include "base/status.h"
#include "base/testing.h"
#include "qemu/qemu_hypervisor.h"
#include "qemu/run_folder.h"
#include "qemu/write_tracking.h"

namespace sealift::qemu {
namespace {

using hypervisor::MemoryBlock;
using hypervisor::RunState;
using hypervisor::StartMode;
using hypervisor::Vm;
using hypervisor::VmDefinition;
using hypervisor::WriteTracking;
using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr auto kPatience = seconds(60);  // for a machine that is busy and sanitized
constexpr std::size_t kPage = 4096;
constexpr std::size_t kDiskBytes = 64U << 20;
constexpr char kCanary[] = "00112233445566778899aabbccddeeff";

std::string GuestFile(const std::string& name) {
  const char* folder = getenv("SEALIFT_GUEST");
  return std::string(folder == nullptr ? SEALIFT_SOURCE_DIR "/.cache/guest" : folder) + "/" + name;
}

// PAGEMAP_SCAN, linux/fs.h of Linux 6.7.
struct PageRegion {
  std::uint64_t start, end, categories;
};
struct ScanArguments {
  std::uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
  std::uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
};
constexpr auto kPagemapScan = _IOWR('f', 16, ScanArguments);
constexpr std::uint64_t kWriteProtectMatching = 1;
constexpr std::uint64_t kCheckAsync = 2;
constexpr std::uint64_t kPageIsWritten = 2;

// Copy is what a mover does, in small: it holds guest memory as of the last rounds.
class Copy {
 public:
  Copy(const MemoryBlock& block, const WriteTracking& tracking)
      : block_(block), tracking_(tracking), pages_(block.size) {}

  // Round takes over every page that was written since the last round, and returns how many.
  std::size_t Round() {
    std::vector<PageRegion> regions(65536);
    std::size_t taken = 0;
    std::uint64_t at = block_.address;
    const std::uint64_t end = block_.address + block_.size;
    while (at < end) {
      ScanArguments scan{};
      scan.size = sizeof scan;
      scan.flags = kWriteProtectMatching | kCheckAsync;
      scan.start = at;
      scan.end = end;
      scan.vec = reinterpret_cast<std::uintptr_t>(regions.data());
      scan.vec_len = regions.size();
      scan.category_mask = kPageIsWritten;
      scan.return_mask = kPageIsWritten;
      const int found = ioctl(tracking_.pagemap.get(), kPagemapScan, &scan);
      EXPECT_GE(found, 0) << strerror(errno);
      if (found < 0) return taken;
      for (int i = 0; i < found; ++i) taken += Take(regions[static_cast<std::size_t>(i)]);
      at = scan.walk_end;
    }
    return taken;
  }

  // Differing counts the pages that are not as in the guest, which must stand still: their writes
  // were lost.
  [[nodiscard]] std::size_t Differing() const {
    std::vector<char> page(kPage);
    std::size_t differing = 0;
    for (std::size_t at = 0; at < block_.size; at += kPage) {
      EXPECT_EQ(pread(block_.file.get(), page.data(), kPage, static_cast<off_t>(at)),
                static_cast<ssize_t>(kPage));
      if (memcmp(page.data(), pages_.data() + at, kPage) != 0) ++differing;
    }
    return differing;
  }

 private:
  std::size_t Take(const PageRegion& region) {
    const std::uint64_t offset = region.start - block_.address;
    const std::uint64_t bytes = region.end - region.start;
    EXPECT_EQ(pread(block_.file.get(), pages_.data() + offset, bytes, static_cast<off_t>(offset)),
              static_cast<ssize_t>(bytes));
    return bytes / kPage;
  }

  const MemoryBlock& block_;
  const WriteTracking& tracking_;
  std::vector<char> pages_;
};

// Suspends the VM's process and waits until every thread of it stands still: one that the kernel
// transfers disk data for does so last.
void Freeze(Vm& vm) {
  ASSERT_TRUE(vm.Suspend().ok());
  const auto all_stopped = [&] {
    const std::string tasks = fmt::format("/proc/{}/task", vm.pid());
    for (const auto& task : std::filesystem::directory_iterator(tasks)) {
      const std::string stat = base::ReadFile(task.path().string() + "/stat").value_or("");
      const std::size_t bracket = stat.rfind(')');
      if (bracket == std::string::npos || stat.at(bracket + 2) != 'T') return false;
    }
    return true;
  };
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!all_stopped() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  ASSERT_TRUE(all_stopped());
}

// The flags with which the process has its disk open.
int OpenFlags(int pid, const std::string& path) {
  const std::string folder = fmt::format("/proc/{}/fd", pid);
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (std::filesystem::read_symlink(entry.path(), error) != path) continue;
    const std::string info =
        *base::ReadFile(fmt::format("/proc/{}/fdinfo/{}", pid, entry.path().filename().string()));
    return static_cast<int>(strtol(info.c_str() + info.find("flags:") + 6, nullptr, 8));
  }
  ADD_FAILURE() << path << " is not open";
  return 0;
}

class TrackingTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new base::TestFolder;
    auto host = QemuHypervisor::Create({.run_dir = *folder_ / "a", .user = base::TestUser()});
    ASSERT_TRUE(host.ok()) << host.status();
    host_ = host->release();
    // QEMU's user may not pass through the folders of a checkout.
    for (const char* name : {"vmlinuz", "initrd.gz"}) {
      std::error_code error;
      std::filesystem::copy_file(GuestFile(name), *folder_ / name, error);
      ASSERT_FALSE(error) << GuestFile(name) << ": " << error.message()
                          << ": make it with scripts/make-guest";
    }
    WriteDisk();
  }
  static void TearDownTestSuite() {
    delete host_;
    delete folder_;
  }
  void SetUp() override {
    if (!host_->capabilities().direct_reason.empty()) {
      GTEST_SKIP() << host_->capabilities().direct_reason;
    }
  }
  void TearDown() override {
    console_.reset();
    if (vm_ != nullptr) {
      EXPECT_TRUE(vm_->Quit().ok());
    }
  }

  static std::string Disk() { return *folder_ / "disk"; }
  // What guest.readback=1 expects to read.
  static void WriteDisk() {
    std::string content(kDiskBytes, '\0');
    for (std::uint64_t i = 0; i < kDiskBytes / 8; ++i) {
      const std::uint64_t word = (i + 1) * 0x9e3779b97f4a7c15ULL;
      memcpy(content.data() + 8 * i, &word, sizeof word);
    }
    ASSERT_TRUE(base::WriteFileDurably(Disk(), content, 0666).ok());
    chmod(Disk().c_str(), 0666);
  }

  static VmDefinition Definition(const std::string& options, const std::string& backing) {
    static int number = 0;
    ++number;
    const auto vm = hypervisor::ParseVmDefinition(fmt::format(
        "{{name: vm-{0}, memory: {{size: 256MiB, backing: {1}}}, accel: auto, cpus: 2, "
        "uuid: 6fa3b2c4-0d1e-4f5a-8b9c-{0:012}, kernel: {2}/vmlinuz, initrd: {2}/initrd.gz, "
        "append: 'console=ttyS0 quiet {3}', disks: [{{path: {2}/disk, format: raw}}]}}",
        number, backing, folder_->path(), options));
    EXPECT_TRUE(vm.ok()) << vm.status();
    return *vm;
  }

  // Starts a guest and waits until it is ready.
  void Boot(const std::string& options, const std::string& backing = "shared") {
    Boot(Definition(options, backing));
  }
  void Boot(const VmDefinition& definition) {
    const auto vm = host_->Start(definition, StartMode::kBoot);
    ASSERT_TRUE(vm.ok()) << vm.status();
    vm_ = *vm;
    OpenConsole();
    ASSERT_NE(AwaitLine("READY"), "");
  }
  void OpenConsole() {
    auto console = vm_->OpenConsole();
    ASSERT_TRUE(console.ok()) << console.status();
    console_ = *std::move(console);
    printed_.clear();
    all_printed_.clear();
  }
  // The next line of the guest that begins with `word`; empty when none comes.
  std::string AwaitLine(const std::string& word) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < deadline) {
      const std::size_t end = printed_.find('\n');
      if (end != std::string::npos) {
        const std::string line = printed_.substr(0, end);
        printed_.erase(0, end + 1);
        if (line.starts_with(word)) return line;
        continue;
      }
      pollfd wait{.fd = console_.get(), .events = POLLIN, .revents = 0};
      char text[4096];
      if (poll(&wait, 1, 1000) <= 0) continue;
      const ssize_t got = recv(console_.get(), text, sizeof text, 0);
      if (got <= 0) break;
      printed_.append(text, static_cast<std::size_t>(got));
      all_printed_.append(text, static_cast<std::size_t>(got));
    }
    ADD_FAILURE() << "the guest does not say " << word << ", but: " << all_printed_;
    return "";
  }
  static std::uint64_t NumberIn(const std::string& line, const std::string& key) {
    const std::size_t at = line.find(" " + key + "=");
    EXPECT_NE(at, std::string::npos) << line;
    return strtoull(line.c_str() + at + key.size() + 2, nullptr, 10);
  }

  // Copies memory in rounds while the guest reads its disk, and returns how many pages were lost.
  std::size_t CopyWhileTheGuestReads(const WriteTracking& tracking) {
    constexpr int kChecks = 5;
    constexpr int kRounds = 200;
    const auto blocks = vm_->SharedMemory();
    EXPECT_TRUE(blocks.ok()) << blocks.status();
    Copy copy(blocks->front(), tracking);
    std::size_t lost = 0;
    std::size_t taken = 0;
    for (int check = 0; check < kChecks; ++check) {
      for (int round = 0; round < kRounds; ++round) taken += copy.Round();
      Freeze(*vm_);
      taken += copy.Round();
      lost += copy.Differing();
      EXPECT_TRUE(vm_->Resume().ok());
    }
    EXPECT_GT(taken, kRounds * kChecks);
    return lost;
  }

  [[nodiscard]] bool DiskBypassesTheCache(const std::string& disk = Disk()) const {
    return (OpenFlags(vm_->pid(), disk) & O_DIRECT) != 0;
  }

  static inline base::TestFolder* folder_ = nullptr;
  static inline QemuHypervisor* host_ = nullptr;
  std::shared_ptr<Vm> vm_;
  base::UniqueFd console_;
  std::string printed_;  // and not looked at yet
  std::string all_printed_;
};

TEST_F(TrackingTest, NoReadOfADiskIsLost) {
  Boot("guest.readback=1");
  const std::uint64_t before = NumberIn(AwaitLine("tick"), "readback");
  const auto tracking = vm_->BeginTracking();
  ASSERT_TRUE(tracking.ok()) << tracking.status();
  EXPECT_FALSE(DiskBypassesTheCache());
  EXPECT_EQ(CopyWhileTheGuestReads(*tracking), 0U);
  ASSERT_TRUE(vm_->EndTracking().ok());
  EXPECT_TRUE(DiskBypassesTheCache());
  (void)AwaitLine("tick");
  const std::string after = AwaitLine("tick");
  EXPECT_GT(NumberIn(after, "readback"), before);
  EXPECT_EQ(NumberIn(after, "badreads"), 0U);
}

// QEMU opens a backing file by itself. Nothing but reads of it reach the guest here.
TEST_F(TrackingTest, NoReadOfABackingFileIsLost) {
  const std::string overlay = *folder_ / "overlay";
  const std::string make =
      fmt::format("qemu-img create -q -f qcow2 -F raw -b {} {}", Disk(), overlay);
  ASSERT_EQ(std::system(make.c_str()), 0);
  ASSERT_EQ(chmod(overlay.c_str(), 0666), 0);
  VmDefinition definition = Definition("guest.readback=1", "shared");
  definition.disks = {{overlay, hypervisor::DiskFormat::kQcow2, false}};
  Boot(definition);
  (void)AwaitLine("tick");
  EXPECT_TRUE(DiskBypassesTheCache(overlay));
  const auto tracking = vm_->BeginTracking();
  ASSERT_TRUE(tracking.ok()) << tracking.status();
  EXPECT_FALSE(DiskBypassesTheCache(overlay));
  EXPECT_FALSE(DiskBypassesTheCache());
  EXPECT_EQ(CopyWhileTheGuestReads(*tracking), 0U);
  ASSERT_TRUE(vm_->EndTracking().ok());
  EXPECT_TRUE(DiskBypassesTheCache(overlay));
}

// Why disks go through the page cache. Whether writes are lost depends on when scans hit transfers:
// the figure is printed, and nothing is claimed.
TEST_F(TrackingTest, PastThePageCacheReadsOfADiskCanBeLost) {
  Boot("guest.readback=1");
  (void)AwaitLine("tick");
  const auto running = RunFolder(*folder_ / "a", vm_->definition().name).FindProcess();
  const auto blocks = vm_->SharedMemory();
  ASSERT_TRUE(running.ok() && blocks.ok());
  const auto tracking = TrackWrites(running->process, *blocks);
  ASSERT_TRUE(tracking.ok()) << tracking.status();
  EXPECT_TRUE(DiskBypassesTheCache());
  const std::size_t lost = CopyWhileTheGuestReads(*tracking);
  RecordProperty("lost_pages", static_cast<int>(lost));
  fmt::print("with O_DIRECT {} pages were lost\n", lost);
}

TEST_F(TrackingTest, SeesWhatTheCpuWrites) {
  Boot("guest.fill=64 guest.dirty=20");
  const auto tracking = vm_->BeginTracking();
  ASSERT_TRUE(tracking.ok()) << tracking.status();
  EXPECT_EQ(CopyWhileTheGuestReads(*tracking), 0U);
  ASSERT_TRUE(vm_->EndTracking().ok());
  EXPECT_EQ(NumberIn(AwaitLine("tick"), "bad"), 0U);
}

TEST_F(TrackingTest, EndsWithItsLastDescriptor) {
  Boot("");
  const auto blocks = vm_->SharedMemory();
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  auto tracking = vm_->BeginTracking();
  ASSERT_TRUE(tracking.ok()) << tracking.status();
  std::error_code error;
  for (const auto& fd :
       std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", vm_->pid()))) {
    EXPECT_THAT(std::filesystem::read_symlink(fd.path(), error).string(),
                ::testing::Not(HasSubstr("userfaultfd")));
  }
  tracking->userfaultfd.reset();
  ScanArguments scan{};
  scan.size = sizeof scan;
  scan.flags = kCheckAsync;
  scan.start = blocks->front().address;
  scan.end = scan.start + kPage;
  scan.category_mask = scan.return_mask = kPageIsWritten;
  PageRegion region{};
  scan.vec = reinterpret_cast<std::uintptr_t>(&region);
  scan.vec_len = 1;
  EXPECT_LT(ioctl(tracking->pagemap.get(), kPagemapScan, &scan), 0);
  EXPECT_EQ(errno, EPERM);
  // And may begin again.
  ASSERT_TRUE(vm_->EndTracking().ok());
  EXPECT_TRUE(vm_->BeginTracking().ok());
}

TEST_F(TrackingTest, AnotherAgentFindsTheMemoryAndRepairsWhatWasLeft) {
  Boot(fmt::format("guest.fill=32 guest.canary={}", kCanary));
  { ASSERT_TRUE(vm_->BeginTracking().ok()); }
  EXPECT_FALSE(DiskBypassesTheCache());
  Freeze(*vm_);
  const VmDefinition definition = vm_->definition();
  console_.reset();
  vm_.reset();
  const auto adopted = host_->Adopt(definition);
  ASSERT_TRUE(adopted.ok()) << adopted.status();
  vm_ = *adopted;
  EXPECT_EQ(vm_->State().value(), RunState::kRunning);
  EXPECT_TRUE(DiskBypassesTheCache());
  const auto blocks = vm_->SharedMemory();
  ASSERT_TRUE(blocks.ok()) << blocks.status();
  EXPECT_EQ(blocks->front().size, definition.memory_bytes);
  std::string memory(blocks->front().size, '\0');
  ASSERT_EQ(pread(blocks->front().file.get(), memory.data(), memory.size(), 0),
            static_cast<ssize_t>(memory.size()));
  EXPECT_NE(memory.find(std::string("SEALIFT-CANARY-") + kCanary), std::string::npos);
}

TEST_F(TrackingTest, WithADebuggerEverythingStaysAsItWas) {
  Boot("");
  ASSERT_EQ(ptrace(PTRACE_SEIZE, vm_->pid(), nullptr, nullptr), 0);
  const absl::Status status = vm_->BeginTracking().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(base::MessageOf(status), HasSubstr("end that debugger first"));
  EXPECT_TRUE(DiskBypassesTheCache());
  ASSERT_EQ(ptrace(PTRACE_INTERRUPT, vm_->pid(), nullptr, nullptr), 0);
  siginfo_t info{};
  ASSERT_EQ(waitid(P_PID, static_cast<id_t>(vm_->pid()), &info, WSTOPPED | __WALL), 0);
  ASSERT_EQ(ptrace(PTRACE_DETACH, vm_->pid(), nullptr, nullptr), 0);
  EXPECT_TRUE(vm_->BeginTracking().ok());
}

TEST_F(TrackingTest, PrivateMemoryIsNotShared) {
  Boot("", "private");
  const absl::Status status = vm_->SharedMemory().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(base::MessageOf(status), HasSubstr("runs with private memory"));
  EXPECT_TRUE(absl::IsFailedPrecondition(vm_->BeginTracking().status()));
  EXPECT_TRUE(DiskBypassesTheCache());
}

}  // namespace
}  // namespace sealift::qemu
