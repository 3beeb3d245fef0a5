#include "qemu/direct_support.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/file.h"

namespace sealift::qemu {
namespace {

// The beginnings of the versions that the direct engine was tested with.
constexpr std::string_view kTestedVersions[] = {"7.2."};

constexpr std::pair<std::string_view, std::string_view> kNeededFeatures[] = {
    {"userfaultfd-wp-async", "userfaultfd with async write-protection"},
    {"pagemap-scan", "PAGEMAP_SCAN"},
};

constexpr const char* kShmemEnabled = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

}  // namespace

std::string DirectReason(const DirectFacts& facts) {
  for (const auto& [feature, what] : kNeededFeatures) {
    if (std::ranges::find(facts.kernel_features, feature) == facts.kernel_features.end()) {
      return fmt::format("Linux {} has no {}, which comes with 6.7", facts.kernel_version, what);
    }
  }
  const auto begins = [&](std::string_view start) {
    return std::string_view(facts.qemu_version).starts_with(start);
  };
  if (std::ranges::none_of(kTestedVersions, begins)) {
    return fmt::format("QEMU {} is none of the versions that it was tested with ({}x)",
                       facts.qemu_version, fmt::join(kTestedVersions, "x, "));
  }
  if (!facts.ignore_shared) {
    return fmt::format("QEMU {} has no migration capability x-ignore-shared", facts.qemu_version);
  }
  return "";
}

std::string MemoryAdvice(std::string_view shmem_enabled) {
  for (const std::string_view bad : {"never", "deny"}) {
    if (shmem_enabled.find(fmt::format("[{}]", bad)) != std::string_view::npos) {
      return fmt::format(
          "{0} is {1}: guests and the direct engine are faster with advise (echo advise > {0})",
          kShmemEnabled, bad);
    }
  }
  return "";
}

std::string ReadMemoryAdvice() { return MemoryAdvice(base::ReadFile(kShmemEnabled).value_or("")); }

}  // namespace sealift::qemu
