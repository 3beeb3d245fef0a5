#include "base/system_user.h"

#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include "base/status.h"

namespace sealift::base {
namespace {

std::vector<gid_t> GroupsOf(const char* name, gid_t gid) {
  int count = 64;
  std::vector<gid_t> groups(static_cast<std::size_t>(count));
  while (getgrouplist(name, gid, groups.data(), &count) < 0) {
    groups.resize(static_cast<std::size_t>(count));
  }
  groups.resize(static_cast<std::size_t>(count));
  return groups;
}

}  // namespace

bool SystemUser::IsSelf() const { return uid == geteuid(); }

absl::StatusOr<SystemUser> LookUpUser(const std::string& name) {
  std::vector<char> buffer(16384);
  passwd entry{};
  passwd* found = nullptr;
  const int error = getpwnam_r(name.c_str(), &entry, buffer.data(), buffer.size(), &found);
  if (error != 0) return ErrnoStatus(fmt::format("look up user {}", name), error);
  if (found == nullptr) {
    return absl::FailedPreconditionError(fmt::format(
        "user {0} does not exist: create it with 'useradd --system --no-create-home --shell "
        "/usr/sbin/nologin {0}'",
        name));
  }
  SystemUser user{name, entry.pw_uid, entry.pw_gid, GroupsOf(name.c_str(), entry.pw_gid)};
  if (!user.IsSelf() && geteuid() != 0) {
    return absl::FailedPreconditionError(
        fmt::format("only root can start programs as user {}: run as root", name));
  }
  return user;
}

}  // namespace sealift::base
