#include "controller/mode_policy.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/status.h"
#include "controller/convert.h"

namespace sealift::controller {
namespace {

absl::StatusOr<std::optional<policy::EncryptionMode>> OptionalMode(const std::string& name) {
  if (name.empty()) return std::optional<policy::EncryptionMode>();
  SEALIFT_ASSIGN_OR_RETURN(const policy::EncryptionMode mode, StoredMode(name));
  return std::optional(mode);
}

}  // namespace

absl::StatusOr<ModePolicy> ModePolicy::Load(store::Store& store) {
  ModePolicy loaded;
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<store::PolicyRow> policies, store.ListPolicies());
  for (const store::PolicyRow& row : policies) {
    Rule& rule = loaded.rules_[row.group];
    rule.scope = row.group.empty() ? "the installation" : fmt::format("group {}", row.group);
    SEALIFT_ASSIGN_OR_RETURN(rule.floor, OptionalMode(row.floor));
    SEALIFT_ASSIGN_OR_RETURN(rule.default_mode, OptionalMode(row.default_mode));
  }
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<store::HostRow> hosts, store.ListHosts());
  for (const store::HostRow& host : hosts) loaded.group_of_[host.name] = host.group;
  return loaded;
}

std::vector<ModePolicy::Rule> ModePolicy::RulesAt(const std::vector<std::string>& hosts) const {
  std::set<std::string> groups{""};
  for (const std::string& host : hosts) {
    if (const auto group = group_of_.find(host); group != group_of_.end()) {
      groups.insert(group->second);
    }
  }
  std::vector<Rule> rules;
  for (const std::string& group : groups) {
    if (const auto rule = rules_.find(group); rule != rules_.end()) rules.push_back(rule->second);
  }
  return rules;
}

std::vector<policy::Floor> ModePolicy::FloorsAt(const std::vector<std::string>& hosts) const {
  std::vector<policy::Floor> floors;
  for (const Rule& rule : RulesAt(hosts)) {
    if (rule.floor) floors.push_back({rule.scope, *rule.floor});
  }
  return floors;
}

policy::EncryptionMode ModePolicy::FloorOf(const std::string& group) const {
  policy::EncryptionMode highest = policy::EncryptionMode::kDisabled;
  for (const std::string& scope : {std::string(), group}) {
    const auto rule = rules_.find(scope);
    if (rule != rules_.end()) highest = std::max(highest, rule->second.floor.value_or(highest));
  }
  return highest;
}

absl::StatusOr<policy::EffectiveMode> ModePolicy::EffectiveAt(
    const store::VmRow& vm, const std::vector<std::string>& hosts) const {
  SEALIFT_ASSIGN_OR_RETURN(const policy::EncryptionMode set, StoredMode(vm.encryption));
  return policy::RaiseToFloors(set, FloorsAt(hosts));
}

policy::EncryptionMode ModePolicy::DefaultAt(const std::string& host) const {
  policy::EncryptionMode mode = policy::kDefaultMode;
  for (const Rule& rule : RulesAt({host})) mode = rule.default_mode.value_or(mode);
  return policy::RaiseToFloors(mode, FloorsAt({host})).mode;
}

}  // namespace sealift::controller
