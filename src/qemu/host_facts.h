// What the kernel says about this host.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace sealift::qemu {

struct CpuFacts {
  std::string model_name;          // empty when /proc/cpuinfo has none
  std::vector<std::string> flags;  // of: aes, vaes, vpclmulqdq, avx512f, vmx, svm
  [[nodiscard]] bool Has(std::string_view flag) const;
};

// ParseCpuInfo reads the text of /proc/cpuinfo, of which it looks at the first CPU.
[[nodiscard]] CpuFacts ParseCpuInfo(std::string_view text);

struct MemoryFacts {
  std::uint64_t total_bytes = 0;
  std::uint64_t available_bytes = 0;
};

// ParseMemInfo reads the text of /proc/meminfo; a number that is missing is 0.
[[nodiscard]] MemoryFacts ParseMemInfo(std::string_view text);

[[nodiscard]] CpuFacts ReadCpuFacts();
[[nodiscard]] MemoryFacts ReadMemoryFacts();
[[nodiscard]] std::string KernelVersion();

// KernelFeatures tries out which of memfd_secret, userfaultfd-wp-async, pagemap-scan and io_uring
// work here.
[[nodiscard]] std::vector<std::string> KernelFeatures();

}  // namespace sealift::qemu
