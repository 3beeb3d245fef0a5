// The users that programs are started as.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace sealift::base {

// SystemUser is a user of the system with all its groups.
struct SystemUser {
  std::string name;
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // supplementary ones, e.g. kvm; includes gid

  // IsSelf says that this process already runs as that user.
  [[nodiscard]] bool IsSelf() const;
};

// LookUpUser finds a user. FAILED_PRECONDITION with the remedy when there is none, or when this
// process may not become it.
[[nodiscard]] absl::StatusOr<SystemUser> LookUpUser(const std::string& name);

}  // namespace sealift::base
