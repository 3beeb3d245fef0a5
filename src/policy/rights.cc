#include "policy/rights.h"

#include <fmt/format.h>

#include <array>

namespace sealift::policy {
namespace {

template <typename Value>
struct Named {
  Value value;
  std::string_view name;
};

constexpr std::array kRoles{
    Named<UserRole>{UserRole::kViewer, "viewer"},
    Named<UserRole>{UserRole::kOperator, "operator"},
    Named<UserRole>{UserRole::kAdmin, "admin"},
};
constexpr std::array kRights{
    Named<Right>{Right::kRead, "read"},
    Named<Right>{Right::kOperate, "operate"},
    Named<Right>{Right::kMigrate, "migrate"},
    Named<Right>{Right::kMigrateEncrypted, "migrate-encrypted"},
    Named<Right>{Right::kChangeMode, "change-mode"},
    Named<Right>{Right::kLowerFloor, "lower-floor"},
    Named<Right>{Right::kManageHosts, "manage-hosts"},
    Named<Right>{Right::kManageUsers, "manage-users"},
};

template <typename Table, typename Value>
std::string_view NameIn(const Table& table, Value value) {
  for (const auto& entry : table) {
    if (entry.value == value) return entry.name;
  }
  return "invalid";
}

template <typename Value, std::size_t kSize>
std::optional<Value> ValueIn(const std::array<Named<Value>, kSize>& table, std::string_view name) {
  for (const auto& entry : table) {
    if (entry.name == name) return entry.value;
  }
  return std::nullopt;
}

}  // namespace

std::string_view RoleName(UserRole role) { return NameIn(kRoles, role); }
std::optional<UserRole> ParseUserRole(std::string_view name) { return ValueIn(kRoles, name); }
std::string_view RightName(Right right) { return NameIn(kRights, right); }
std::optional<Right> ParseRight(std::string_view name) { return ValueIn(kRights, name); }

Rights RightsOf(UserRole role) {
  switch (role) {
    case UserRole::kViewer:
      return {Right::kRead};
    case UserRole::kOperator:
      return {Right::kRead, Right::kOperate, Right::kMigrate};
    case UserRole::kAdmin:
      break;
  }
  Rights all;
  for (const auto& entry : kRights) all.insert(entry.value);
  return all;
}

absl::Status CheckRight(const Rights& rights, Right right) {
  if (rights.contains(right)) return absl::OkStatus();
  return absl::PermissionDeniedError(fmt::format(
      "this needs the right '{}', which you do not have: ask an administrator", RightName(right)));
}

std::string FormatRights(const Rights& rights) {
  std::vector<std::string_view> names;
  for (const Right right : rights) names.push_back(RightName(right));
  return fmt::format("{}", fmt::join(names, ","));
}

absl::StatusOr<Rights> ParseRights(std::string_view text) {
  Rights rights;
  while (!text.empty()) {
    const std::size_t comma = text.find(',');
    const std::string_view name = text.substr(0, comma);
    const std::optional<Right> right = ParseRight(name);
    if (!right) return absl::InvalidArgumentError(fmt::format("'{}' is not a right", name));
    rights.insert(*right);
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
  }
  return rights;
}

}  // namespace sealift::policy
