// Finds out which pages of guest RAM were written, without QEMU's help: userfaultfd in async
// write-protect mode (Linux 6.7).
#pragma once

#include <vector>

#include "absl/status/statusor.h"
#include "base/process.h"
#include "hypervisor/hypervisor.h"

namespace sealift::qemu {

// TrackWrites registers `blocks`, guest RAM of `process`, for write-protection. A userfaultfd works
// on the memory of the process that has made it, so QEMU makes it for us, in half a millisecond,
// and keeps no copy; a helper process sees to it, which outlives us. Errors as
// RemoteThread::Hold().
[[nodiscard]] absl::StatusOr<hypervisor::WriteTracking> TrackWrites(
    const base::Process& process, const std::vector<hypervisor::MemoryBlock>& blocks);

}  // namespace sealift::qemu
