// What the unprivileged user that QEMU runs as may open.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/system_user.h"
#include "hypervisor/vm_definition.h"
#include "qemu/qemu_command.h"

namespace sealift::qemu {

enum class Access { kRead, kReadWrite };

// CheckAccess opens `path` as `user` would. FAILED_PRECONDITION naming it and the remedy when that
// is not possible, DEADLINE_EXCEEDED when its storage does not answer; `what` is what it is:
// "kernel".
[[nodiscard]] absl::Status CheckAccess(const base::SystemUser& user, const std::string& what,
                                       const std::string& path, Access access);

// ProbeDisk opens a disk as `user` would, for writing too unless it is read-only, and says how QEMU
// should open it. Errors as CheckAccess().
[[nodiscard]] absl::StatusOr<DiskBackend> ProbeDisk(const base::SystemUser& user,
                                                    const hypervisor::Disk& disk);

// DropPageCache opens a disk as `user` would, and drops what the host's page cache holds of it and
// has written back. Errors as CheckAccess().
[[nodiscard]] absl::Status DropPageCache(const base::SystemUser& user,
                                         const hypervisor::Disk& disk);

// WriteBack opens a disk as `user` would, and writes back what the host's page cache holds of it,
// however long that takes. Errors as CheckAccess().
[[nodiscard]] absl::Status WriteBack(const base::SystemUser& user, const hypervisor::Disk& disk);

}  // namespace sealift::qemu
