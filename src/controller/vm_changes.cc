#include "controller/vm_changes.h"

#include <fmt/format.h>

#include <map>
#include <optional>
#include <utility>

#include "base/status.h"
#include "controller/convert.h"
#include "controller/planner.h"
#include "controller/requests.h"
#include "hypervisor/vm_definition.h"
#include "policy/selector.h"

namespace sealift::controller {
namespace {

using hypervisor::VmDefinition;

using VmsByName = std::map<std::string, store::VmRow>;

// The changes by VM name, whichever way the request names them.
absl::StatusOr<std::vector<v1::VmChange>> Resolve(const v1::SetVmsRequest& request,
                                                  const VmsByName& vms) {
  if (!request.changes().empty()) {
    return std::vector<v1::VmChange>(request.changes().begin(), request.changes().end());
  }
  std::optional<policy::Selector> selector;
  if (!request.all()) {
    SEALIFT_ASSIGN_OR_RETURN(selector, policy::Selector::Parse(request.selector()));
  }
  std::vector<v1::VmChange> changes;
  for (const auto& [name, row] : vms) {
    if (selector) {
      SEALIFT_ASSIGN_OR_RETURN(const VmDefinition definition,
                               hypervisor::ParseVmDefinition(row.definition));
      if (!selector->Matches(definition.labels)) continue;
    }
    changes.push_back(request.change());
    changes.back().set_name(name);
  }
  return changes;
}

v1::EncryptionMode ModeOf(const store::VmRow& row) {
  const std::optional<policy::EncryptionMode> mode = policy::ParseMode(row.encryption);
  return mode ? ToProto(*mode) : v1::ENCRYPTION_MODE_UNSPECIFIED;
}

}  // namespace

// Batch is what one call changes.
struct VmChanges::Batch {
  struct Pair {
    store::VmRow before;
    store::VmRow after;
  };
  std::vector<Pair> vms;
};

absl::StatusOr<v1::SetVmsResponse> VmChanges::Apply(const v1::SetVmsRequest& request,
                                                    const std::string& actor) {
  SEALIFT_RETURN_IF_ERROR(CheckRequest(request));
  SEALIFT_ASSIGN_OR_RETURN(const ModePolicy modes, ModePolicy::Load(store_));
  v1::SetVmsResponse response;
  Batch batch;
  {
    const std::lock_guard lock(mutex_);
    SEALIFT_ASSIGN_OR_RETURN(batch, Judge(request, modes, response));
    if (request.dry_run() || batch.vms.empty()) return response;
    SEALIFT_RETURN_IF_ERROR(Write(batch, actor));
  }
  for (const Batch::Pair& vm : batch.vms) sync_.CompareAgain(vm.after.host);
  // Of one VM it is known whether its agent has heard; of many it is not yet.
  const bool told = batch.vms.size() == 1 && TellAgent(batch.vms.front().after.name, modes);
  for (v1::VmChanged& result : *response.mutable_results()) {
    result.set_pending(result.changed() && !told);
  }
  return response;
}

absl::StatusOr<VmChanges::Batch> VmChanges::Judge(const v1::SetVmsRequest& request,
                                                  const ModePolicy& modes,
                                                  v1::SetVmsResponse& response) {
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<store::VmRow> rows, store_.ListVms());
  VmsByName vms;
  for (const store::VmRow& row : rows) vms[row.name] = row;
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<v1::VmChange> changes, Resolve(request, vms));
  Batch batch;
  for (const v1::VmChange& change : changes) {
    v1::VmChanged& result = *response.add_results();
    result.set_name(change.name());
    const auto found = vms.find(change.name());
    const absl::StatusOr<store::VmRow> after =
        found == vms.end() ? NoSuchVm(change.name())
                           : Changed(change, modes.FloorsAt({found->second.host}), found->second);
    if (!after.ok()) {
      result.set_error(base::MessageOf(after.status()));
      continue;
    }
    const store::VmRow before = std::exchange(found->second, *after);
    result.set_ok(true);
    result.set_before(ModeOf(before));
    result.set_after(ModeOf(*after));
    result.set_changed(before.encryption != after->encryption ||
                       before.definition != after->definition);
    if (result.changed()) batch.vms.push_back({before, *after});
  }
  return batch;
}

absl::Status VmChanges::Write(const Batch& batch, const std::string& actor) {
  std::vector<store::VmUpdate> updates;
  std::vector<std::pair<std::string, std::string>> modes;
  std::vector<std::pair<std::string, std::string>> others;
  for (const Batch::Pair& vm : batch.vms) {
    updates.push_back({vm.after.name, vm.after.definition, vm.after.encryption});
    const std::string subject = "vm/" + vm.after.name;
    if (vm.before.encryption != vm.after.encryption) {
      modes.emplace_back(subject,
                         fmt::format("from {} to {}", vm.before.encryption, vm.after.encryption));
    }
    if (vm.before.definition != vm.after.definition) {
      others.emplace_back(subject, "its labels or flags");
    }
  }
  SEALIFT_RETURN_IF_ERROR(store_.UpdateVms(updates));
  events_.AddAll("vm.encryption_changed", actor, modes);
  events_.AddAll("vm.changed", actor, others);
  return absl::OkStatus();
}

bool VmChanges::TellAgent(const std::string& vm, const ModePolicy& modes) {
  const auto migration = store_.FindRunningMigration(vm);
  if (!migration.ok() || (*migration && !(*migration)->queued)) return false;
  const auto row = store_.GetVm(vm);
  if (!row.ok()) return false;
  const auto agent = agents_.Connection(row->host);
  const absl::Status pushed = agent.ok() ? PushVm(**agent, *row, modes) : agent.status();
  if (pushed.ok()) agents_.Refresh(row->host);
  return pushed.ok();
}

}  // namespace sealift::controller
