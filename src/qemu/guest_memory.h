// Guest RAM in a memory file: the agent makes it, QEMU maps it, and so can a mover. The file is
// found again in the maps of the process, so that nothing has to be remembered.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/process.h"
#include "base/system_user.h"
#include "base/unique_fd.h"
#include "hypervisor/hypervisor.h"

namespace sealift::qemu {

// kGuestRam is what QEMU calls the RAM of the machine types we run, also when it is private. With
// the same name for a memory file, a VM can be moved from the one kind to the other.
inline constexpr std::string_view kGuestRam = "pc.ram";

// CheckHugePages: FAILED_PRECONDITION with the remedy when the host has too few free huge pages of
// the size that the definition wants. `pools` is where the kernel describes them.
[[nodiscard]] absl::Status CheckHugePages(const hypervisor::VmDefinition& definition,
                                          const std::string& pools = "/sys/kernel/mm/hugepages");

// MakeGuestMemory makes the memory file of a VM, which `user` may open: of its size for good,
// empty, and occupying nothing yet. RESOURCE_EXHAUSTED when there are no huge pages for it.
[[nodiscard]] absl::StatusOr<base::UniqueFd> MakeGuestMemory(
    const hypervisor::VmDefinition& definition, const base::SystemUser& user);

// ResidentGuestMemory is how much of its RAM a guest has got so far, in bytes, without a lock that
// a process stuck in its storage may hold.
[[nodiscard]] std::uint64_t ResidentGuestMemory(const base::Process& process);

// FindGuestMemory opens the memory files that a process has mapped as guest RAM. NOT_FOUND when it
// has none, and when it has ended.
[[nodiscard]] absl::StatusOr<std::vector<hypervisor::MemoryBlock>> FindGuestMemory(
    const base::Process& process);

}  // namespace sealift::qemu
