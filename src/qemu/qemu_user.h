// The unprivileged user that QEMU runs as, and what that user may open.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hypervisor/vm_definition.h"
#include "qemu/qemu_command.h"

namespace sealift::qemu {

// QemuUser is a user of the system with all its groups.
struct QemuUser {
  std::string name;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // supplementary ones, e.g. kvm; includes gid

  // IsSelf says that this process already runs as that user.
  [[nodiscard]] bool IsSelf() const;
};

// LookUpUser finds a user. FAILED_PRECONDITION with the remedy when there is none, or when this
// process may not become it.
[[nodiscard]] absl::StatusOr<QemuUser> LookUpUser(const std::string& name);

enum class Access { kRead, kReadWrite };

// CheckAccess opens `path` as `user` would. FAILED_PRECONDITION naming it and the remedy when that
// is not possible; `what` is what it is: "kernel".
[[nodiscard]] absl::Status CheckAccess(const QemuUser& user, const std::string& what,
                                       const std::string& path, Access access);

// ProbeDisk opens a disk as `user` would, for writing too unless it is read-only, and says how QEMU
// should open it. Errors as CheckAccess().
[[nodiscard]] absl::StatusOr<DiskBackend> ProbeDisk(const QemuUser& user,
                                                    const hypervisor::Disk& disk);

}  // namespace sealift::qemu
