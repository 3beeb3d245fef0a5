#include "qemu/host_facts.h"

#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>

#include "base/file.h"
#include "base/unique_fd.h"

namespace sealift::qemu {
namespace {

constexpr std::array<std::string_view, 6> kInterestingFlags = {"aes",     "vaes", "vpclmulqdq",
                                                               "avx512f", "vmx",  "svm"};

// The value of the first line "key<spaces>: value"; empty when there is none.
std::string_view ValueOf(std::string_view text, std::string_view key) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    const std::size_t colon = line.find(':');
    const std::size_t key_end = line.find_last_not_of(" \t", colon == 0 ? 0 : colon - 1);
    if (colon != std::string_view::npos && line.substr(0, key_end + 1) == key) {
      const std::size_t value = line.find_first_not_of(" \t", colon + 1);
      return value == std::string_view::npos ? std::string_view() : line.substr(value);
    }
    at = end + 1;
  }
  return {};
}

bool HasWord(std::string_view words, std::string_view word) {
  for (std::size_t at = words.find(word); at != std::string_view::npos;
       at = words.find(word, at + 1)) {
    const std::size_t end = at + word.size();
    if ((at == 0 || words[at - 1] == ' ') && (end == words.size() || words[end] == ' '))
      return true;
  }
  return false;
}

std::uint64_t Kibibytes(std::string_view text) {
  std::uint64_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number << 10;
}

bool HasMemfdSecret() {
  return base::UniqueFd(static_cast<int>(syscall(SYS_memfd_secret, O_CLOEXEC))).valid();
}

bool HasWriteProtectAsync() {
  constexpr std::uint64_t kWpAsync = 1U << 15;  // UFFD_FEATURE_WP_ASYNC, Linux 6.7
  const base::UniqueFd fd(
      static_cast<int>(syscall(SYS_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY)));
  if (!fd.valid()) return false;
  uffdio_api api{};
  api.api = UFFD_API;
  api.features = kWpAsync;
  return ioctl(fd.get(), UFFDIO_API, &api) == 0;
}

bool HasPagemapScan() {
  struct PmScanArg {  // struct pm_scan_arg of linux/fs.h, Linux 6.7
    std::uint64_t size, flags, start, end, walk_end, vec, vec_len, max_pages;
    std::uint64_t category_inverted, category_mask, category_anyof_mask, return_mask;
  };
  const base::UniqueFd fd(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  PmScanArg arguments{};
  arguments.size = sizeof arguments;
  // An empty range: a kernel that has the call may accept or refuse it, one that has not says
  // ENOTTY.
  return fd.valid() &&
         (ioctl(fd.get(), _IOWR('f', 16, PmScanArg), &arguments) >= 0 || errno != ENOTTY);
}

bool HasIoUring() {
  io_uring_params parameters{};
  return base::UniqueFd(static_cast<int>(syscall(SYS_io_uring_setup, 1, &parameters))).valid();
}

}  // namespace

bool CpuFacts::Has(std::string_view flag) const {
  return std::ranges::find(flags, flag) != flags.end();
}

CpuFacts ParseCpuInfo(std::string_view text) {
  CpuFacts facts;
  facts.model_name = ValueOf(text, "model name");
  const std::string_view flags = ValueOf(text, "flags");
  for (const std::string_view flag : kInterestingFlags) {
    if (HasWord(flags, flag)) facts.flags.emplace_back(flag);
  }
  return facts;
}

MemoryFacts ParseMemInfo(std::string_view text) {
  return {Kibibytes(ValueOf(text, "MemTotal")), Kibibytes(ValueOf(text, "MemAvailable"))};
}

CpuFacts ReadCpuFacts() { return ParseCpuInfo(base::ReadFile("/proc/cpuinfo").value_or("")); }

MemoryFacts ReadMemoryFacts() { return ParseMemInfo(base::ReadFile("/proc/meminfo").value_or("")); }

std::string KernelVersion() {
  utsname name{};
  return uname(&name) == 0 ? name.release : "";
}

std::vector<std::string> KernelFeatures() {
  std::vector<std::string> features;
  if (HasMemfdSecret()) features.emplace_back("memfd_secret");
  if (HasWriteProtectAsync()) features.emplace_back("userfaultfd-wp-async");
  if (HasPagemapScan()) features.emplace_back("pagemap-scan");
  if (HasIoUring()) features.emplace_back("io_uring");
  return features;
}

}  // namespace sealift::qemu
