#include "controller/ownership_watch.h"

#include <fmt/format.h>

#include "base/log.h"
#include "base/status.h"

namespace sealift::controller {
namespace {

bool HasProcess(const v1::AgentVm& vm) {
  return vm.state() != v1::VM_STATE_STOPPED && vm.state() != v1::VM_STATE_CRASHED;
}

}  // namespace

void OwnershipWatch::OnReport(const std::string& host, const v1::AgentStatus& status) {
  std::map<Claim, std::string> wrong;
  for (const v1::AgentVm& reported : status.vms()) {
    const absl::StatusOr<store::VmRow> owned = store_.GetVm(reported.name());
    if (!owned.ok()) continue;  // not one of ours
    const absl::StatusOr<std::string> why = Judge(host, reported, *owned);
    if (!why.ok()) spdlog::error("VM {}: {}", owned->name, base::MessageOf(why.status()));
    if (why.ok() && !why->empty()) wrong[{owned->name, owned->epoch}] = *why;
  }
  const std::lock_guard lock(mutex_);
  for (const auto& [claim, why] : wrong) {
    if (!last_[host].contains(claim) || !told_[host].insert(claim).second) continue;
    events_.AddWarning("vm.disputed", "vm/" + claim.first, kControllerActor, why);
  }
  last_[host].clear();
  for (const auto& [claim, why] : wrong) last_[host].insert(claim);
}

absl::StatusOr<std::string> OwnershipWatch::Judge(const std::string& host,
                                                  const v1::AgentVm& reported,
                                                  const store::VmRow& owned) {
  const bool own = owned.host == host;
  const bool wrong = own ? reported.epoch() > owned.epoch : HasProcess(reported);
  if (!wrong) return "";
  SEALIFT_ASSIGN_OR_RETURN(const auto moving, store_.FindRunningMigration(owned.name));
  if (moving) return "";  // it is between the two
  if (own) {
    return fmt::format("host {} holds it under epoch {}, and was given {}: look at that host", host,
                       reported.epoch(), owned.epoch);
  }
  return fmt::format(
      "host {} says that it runs it, under epoch {}; it is host {}'s, under epoch {}: look at host "
      "{}, and end what runs there",
      host, reported.epoch(), owned.host, owned.epoch, host);
}

}  // namespace sealift::controller
