// Whether this host can use the direct engine, which copies guest memory itself. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace sealift::qemu {

// What the decision rests on.
struct DirectFacts {
  std::string kernel_version;
  std::vector<std::string> kernel_features;  // as KernelFeatures() says
  std::string qemu_version;
  bool ignore_shared = false;  // QEMU has the migration capability x-ignore-shared
};

// DirectReason says why the direct engine is not possible here; empty when it is. A QEMU that it
// was not tested with counts as impossible, because x-ignore-shared may change between versions.
[[nodiscard]] std::string DirectReason(const DirectFacts& facts);

// MemoryAdvice says which setting of the host makes memory files slow, and the remedy; empty when
// there is nothing to improve. `shmem_enabled` is the text of the kernel's file of that name.
[[nodiscard]] std::string MemoryAdvice(std::string_view shmem_enabled);

// ReadMemoryAdvice is MemoryAdvice() for this host.
[[nodiscard]] std::string ReadMemoryAdvice();

}  // namespace sealift::qemu
