#include "keys/secret_bytes.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <sstream>
#include <string>
#include <utility>

#include "base/unique_fd.h"
#include "keys/random.h"

namespace sealift::keys {
namespace {

constexpr std::size_t kPage = 4096;

std::uintptr_t AddressOf(const SecretBytes& secret) {
  return reinterpret_cast<std::uintptr_t>(secret.bytes().data());
}

// The flags of the mapping at an address, as /proc/self/smaps has them.
std::set<std::string> VmFlags(std::uintptr_t address) {
  std::ifstream smaps("/proc/self/smaps");
  bool here = false;
  for (std::string line; std::getline(smaps, line);) {
    std::uintptr_t start = 0;
    std::uintptr_t end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &start, &end) == 2) {
      here = start <= address && address < end;
    }
    if (here && line.starts_with("VmFlags: ")) {
      std::istringstream words(line.substr(9));
      return {std::istream_iterator<std::string>(words), {}};
    }
  }
  return {};
}

// Bytes of /proc/self/mem at the secret, or -1.
ssize_t ReadThroughProc(const SecretBytes& secret) {
  const base::UniqueFd memory(::open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
  std::byte buffer[16];
  return ::pread(memory.get(), buffer, sizeof buffer, static_cast<off_t>(AddressOf(secret)));
}

// The exit code of `body` in a forked child.
int InChild(const std::function<int()>& body) {
  const pid_t pid = ::fork();
  if (pid == 0) ::_exit(body());
  int status = 0;
  if (::waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

bool IsMapped(std::uintptr_t address) {
  return ::msync(reinterpret_cast<void*>(address), kPage, MS_ASYNC) == 0;
}

std::ptrdiff_t OpenDescriptors() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/fd"), {});
}

class SecretBytesTest : public ::testing::TestWithParam<SecretBacking> {
 protected:
  void SetUp() override {
    if (GetParam() == SecretBacking::kMemfdSecret &&
        ProbeSecretBacking() != SecretBacking::kMemfdSecret) {
      GTEST_SKIP() << "this kernel has no memfd_secret";
    }
  }
  static SecretBytes Allocate(std::size_t size) {
    return SecretBytes::AllocateIn(GetParam(), size).value();
  }
};

INSTANTIATE_TEST_SUITE_P(Backings, SecretBytesTest,
                         ::testing::Values(SecretBacking::kMemfdSecret,
                                           SecretBacking::kLockedMemory),
                         [](const auto& param) {
                           return std::string(SecretBackingName(param.param));
                         });

TEST_P(SecretBytesTest, GivesWritableZeroBytesOfTheSizeAsked) {
  for (const std::size_t size : {1UL, 40UL, kPage, kPage + 1, 3 * kPage}) {
    SecretBytes secret = Allocate(size);
    ASSERT_EQ(secret.size(), size);
    ASSERT_TRUE(std::ranges::all_of(secret.bytes(), [](std::byte b) { return b == std::byte{0}; }));
    std::ranges::fill(secret.bytes(), std::byte{0xa5});
    EXPECT_EQ(secret.bytes().back(), std::byte{0xa5});
  }
}

TEST_P(SecretBytesTest, AllowsAnEmptySecret) { EXPECT_EQ(Allocate(0).bytes().size(), 0U); }

TEST_P(SecretBytesTest, StartsAtAPage) { EXPECT_EQ(AddressOf(Allocate(40)) % kPage, 0U); }

TEST_P(SecretBytesTest, IsLockedAndLeftOutOfCoreFilesAndForks) {
  const SecretBytes secret = Allocate(40);
  const std::set<std::string> flags = VmFlags(AddressOf(secret));
  EXPECT_TRUE(flags.contains("lo")) << "not locked";
  EXPECT_TRUE(flags.contains("dd")) << "in core files";
  EXPECT_TRUE(flags.contains("dc")) << "copied on fork";
}

TEST_P(SecretBytesTest, DoesNotExistInAForkedChild) {
  const SecretBytes secret = Allocate(40);
  const std::uintptr_t address = AddressOf(secret);
  ASSERT_TRUE(IsMapped(address));
  EXPECT_EQ(InChild([address] { return IsMapped(address) ? 1 : 0; }), 0);
}

TEST_P(SecretBytesTest, KeepsNoDescriptorThatAnExecCouldInherit) {
  const std::ptrdiff_t before = OpenDescriptors();
  const SecretBytes secret = Allocate(40);
  EXPECT_EQ(OpenDescriptors(), before);
}

TEST_P(SecretBytesTest, MovesWithoutCopying) {
  SecretBytes first = Allocate(40);
  const std::uintptr_t address = AddressOf(first);
  SecretBytes second = std::move(first);
  EXPECT_EQ(AddressOf(second), address);
  EXPECT_EQ(first.size(), 0U);  // NOLINT(bugprone-use-after-move): the promise under test
  SecretBytes third = Allocate(8);
  const std::uintptr_t replaced = AddressOf(third);
  third = std::move(second);
  EXPECT_EQ(AddressOf(third), address);
  EXPECT_FALSE(IsMapped(replaced));
}

TEST_P(SecretBytesTest, IsUnmappedWhenDestroyed) {
  std::uintptr_t address = 0;
  {
    const SecretBytes secret = Allocate(40);
    address = AddressOf(secret);
  }
  EXPECT_FALSE(IsMapped(address));
}

TEST_P(SecretBytesTest, NamesTheLimitThatIsTooLow) {
  const SecretBacking backing = GetParam();
  EXPECT_EQ(InChild([backing] {
              const rlimit limit{kPage, kPage};
              if (::setrlimit(RLIMIT_MEMLOCK, &limit) != 0) return 1;
              // Root is not bound by the limit.
              if (::geteuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) return 2;
              const auto secret = SecretBytes::AllocateIn(backing, 16 * kPage);
              if (!absl::IsResourceExhausted(secret.status())) return 3;
              return secret.status().message().find("RLIMIT_MEMLOCK") == std::string::npos ? 4 : 0;
            }),
            0);
}

TEST(SecretMemory, IsReadableThroughProcOnlyWithoutMemfdSecret) {
  const SecretBytes locked = SecretBytes::AllocateIn(SecretBacking::kLockedMemory, 40).value();
  EXPECT_EQ(ReadThroughProc(locked), 16) << "the check itself does not work";
  if (ProbeSecretBacking() != SecretBacking::kMemfdSecret) {
    GTEST_SKIP() << "this kernel has no memfd_secret";
  }
  EXPECT_EQ(ReadThroughProc(SecretBytes::Allocate(40).value()), -1);
}

TEST(SecretMemory, IsZeroedBeforeItIsReleased) {
  if (ProbeSecretBacking() != SecretBacking::kMemfdSecret) {
    GTEST_SKIP() << "only shared pages can be seen from a second mapping";
  }
  SecretBytes secret = SecretBytes::Allocate(40).value();
  std::ranges::fill(secret.bytes(), std::byte{0xa5});
  // An old size of 0 maps the same shared pages a second time.
  void* second = ::mremap(secret.bytes().data(), 0, kPage, MREMAP_MAYMOVE);
  ASSERT_NE(second, MAP_FAILED);
  const auto* bytes = static_cast<const std::byte*>(second);
  EXPECT_EQ(bytes[39], std::byte{0xa5}) << "the check itself does not work";
  secret = SecretBytes();
  EXPECT_TRUE(std::all_of(bytes, bytes + kPage, [](std::byte b) { return b == std::byte{0}; }));
  ::munmap(second, kPage);
}

TEST(SecretMemory, AllocateUsesWhatTheProbeSays) {
  const SecretBytes secret = SecretBytes::Allocate(40).value();
  const bool hidden = ReadThroughProc(secret) == -1;
  EXPECT_EQ(hidden, ProbeSecretBacking() == SecretBacking::kMemfdSecret);
}

TEST(ForbidDumping, MakesTheProcessUndumpable) {
  EXPECT_EQ(InChild([] {
              if (::prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) != 0) return 1;
              if (!ForbidDumping().ok()) return 2;
              return ::prctl(PR_GET_DUMPABLE, 0, 0, 0, 0);
            }),
            0);
}

TEST(Cleanse, OverwritesEveryByteAndNoMore) {
  base::Bytes bytes(9, std::byte{0xff});
  Cleanse(base::MutableByteSpan(bytes).subspan(1, 7));
  EXPECT_EQ(base::ToHex(bytes), "ff00000000000000ff");
  Cleanse({});
}

TEST(ConstantTimeEqual, ComparesContentAndLength) {
  EXPECT_TRUE(ConstantTimeEqual(base::AsBytes("secret"), base::AsBytes("secret")));
  EXPECT_FALSE(ConstantTimeEqual(base::AsBytes("secret"), base::AsBytes("sekret")));
  EXPECT_FALSE(ConstantTimeEqual(base::AsBytes("secret"), base::AsBytes("secre")));
  EXPECT_TRUE(ConstantTimeEqual({}, {}));
}

TEST(SystemRandom, FillsTheWholeBufferEachTimeAnew) {
  SystemRandom random;
  base::Bytes first(100'000);
  base::Bytes second(100'000);
  ASSERT_TRUE(random.Fill(first).ok());
  ASSERT_TRUE(random.Fill(second).ok());
  EXPECT_NE(first, second);
  const auto zeros = std::ranges::count(first, std::byte{0});  // 391 expected, sigma 20
  EXPECT_GT(zeros, 200);
  EXPECT_LT(zeros, 600);
  EXPECT_NE(base::Bytes(first.end() - 32, first.end()), base::Bytes(32));
}

}  // namespace
}  // namespace sealift::keys
