#include "controller/ownership_watch.h"

#include <fmt/format.h>

#include "base/log.h"
#include "base/status.h"
#include "controller/convert.h"

namespace sealift::controller {
namespace {

// What nobody gave the host.
bool IsAhead(const v1::AgentVm& reported, const store::VmRow& owned) {
  return reported.epoch() > owned.epoch || reported.policy_version() > owned.policy_version;
}

// Nothing is taken from a host's word, so an old store has to be said to be one.
constexpr char kOldStore[] =
    "; if instead the controller's store is an old copy, make it a backup and put that back with "
    "sealift-controllerd restore";

}  // namespace

void OwnershipWatch::OnReport(const std::string& host, const v1::AgentStatus& status) {
  const absl::StatusOr<store::HostRow> from = store_.GetHost(host);
  if (!from.ok()) return;
  std::map<Claim, std::string> wrong;
  for (const v1::AgentVm& reported : status.vms()) {
    const absl::StatusOr<store::VmRow> owned = store_.GetVm(reported.name());
    if (!owned.ok() && !absl::IsNotFound(owned.status())) continue;
    const absl::StatusOr<std::string> why =
        owned.ok() ? Judge(*from, reported, *owned) : JudgeUnknown(host, reported);
    if (!why.ok()) spdlog::error("VM {}: {}", reported.name(), base::MessageOf(why.status()));
    if (!why.ok() || why->empty()) continue;
    // Names that the store does not know can be made up without end: one event for all.
    const Claim claim = owned.ok() ? Claim(owned->name, owned->epoch) : Claim();
    wrong.try_emplace(claim, *why);
  }
  const std::lock_guard lock(mutex_);
  for (const auto& [claim, why] : wrong) {
    if (!last_[host].contains(claim) || !told_[host].insert(claim).second) continue;
    const std::string subject = claim == Claim() ? "host/" + host : "vm/" + claim.first;
    events_.AddWarning("vm.disputed", subject, kControllerActor, why);
  }
  last_[host].clear();
  for (const auto& [claim, why] : wrong) last_[host].insert(claim);
}

absl::StatusOr<std::string> OwnershipWatch::Judge(const store::HostRow& host,
                                                  const v1::AgentVm& reported,
                                                  const store::VmRow& owned) {
  if (host.unheard || owned.unconfirmed) return "";
  const bool own = owned.host == host.name;
  const bool ahead = IsAhead(reported, owned);
  // What is stopped under an older epoch is a copy that does no harm.
  const bool wrong =
      ahead || (!own && (MayHaveProcess(reported.state()) || reported.epoch() == owned.epoch));
  if (!wrong) return "";
  SEALIFT_ASSIGN_OR_RETURN(const auto moving, store_.FindRunningMigration(owned.name));
  if (moving) return "";  // it is between the two
  const std::string rest = ahead ? kOldStore : "";
  if (own) {
    return fmt::format(
        "host {} holds it under epoch {} and version {} of its mode, and was given {} and {}: look "
        "at that host{}",
        host.name, reported.epoch(), reported.policy_version(), owned.epoch, owned.policy_version,
        rest);
  }
  return fmt::format(
      "host {} says that it {} it, under epoch {}; it is host {}'s, under epoch {}: look at host "
      "{}, and end what is there{}",
      host.name, MayHaveProcess(reported.state()) ? "runs" : "has", reported.epoch(), owned.host,
      owned.epoch, host.name, rest);
}

// A restored store adopts them (VmOwners).
absl::StatusOr<std::string> OwnershipWatch::JudgeUnknown(const std::string& host,
                                                         const v1::AgentVm& reported) {
  SEALIFT_ASSIGN_OR_RETURN(const std::uint64_t past, store_.PastEpoch(reported.name()));
  if (reported.epoch() <= past) return "";
  SEALIFT_ASSIGN_OR_RETURN(const auto restore, store_.LastRestore());
  if (restore) return "";
  return fmt::format(
      "host {} has a VM {}, perhaps others, that the store does not know: look at "
      "that host{}",
      host, reported.name(), kOldStore);
}

}  // namespace sealift::controller
