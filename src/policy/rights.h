// Who may do what: pure decisions, no I/O. The table is in docs/rights.md.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace sealift::policy {

// UserRole of an operator, written into the certificate.
enum class UserRole : std::uint8_t { kViewer = 1, kOperator = 2, kAdmin = 3 };

// RoleName gives "viewer", "operator" or "admin"; ParseUserRole reads exactly those.
[[nodiscard]] std::string_view RoleName(UserRole role);
[[nodiscard]] std::optional<UserRole> ParseUserRole(std::string_view name);

// Right to do one kind of thing.
enum class Right : std::uint8_t {
  kRead = 1,              // see everything but secrets, which nobody sees
  kOperate = 2,           // make, start, stop and delete VMs, use their consoles
  kMigrate = 3,           // migrate VMs, drain hosts
  kMigrateEncrypted = 4,  // migrate encrypted VMs
  kChangeMode = 5,        // change modes, labels and defaults, raise floors
  kLowerFloor = 6,        // lower a floor or take it away
  kManageHosts = 7,       // let hosts join, change and remove them
  kManageUsers = 8,       // make and revoke users
};

// RightName gives "read", "operate", "migrate", "migrate-encrypted", "change-mode", "lower-floor",
// "manage-hosts" or "manage-users"; ParseRight reads exactly those.
[[nodiscard]] std::string_view RightName(Right right);
[[nodiscard]] std::optional<Right> ParseRight(std::string_view name);

using Rights = std::set<Right>;

// RightsOf is what a role brings by itself: a viewer reads; an operator also operates and migrates
// VMs that are not encrypted; an administrator may do everything.
[[nodiscard]] Rights RightsOf(UserRole role);

// CheckRight is PERMISSION_DENIED, naming the right and who has it, unless `rights` has it.
[[nodiscard]] absl::Status CheckRight(const Rights& rights, Right right);

// FormatRights and ParseRights write and read "migrate,read"; an unknown word is INVALID_ARGUMENT.
[[nodiscard]] std::string FormatRights(const Rights& rights);
[[nodiscard]] absl::StatusOr<Rights> ParseRights(std::string_view text);

}  // namespace sealift::policy
