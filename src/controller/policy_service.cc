#include "controller/policy_service.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/status.h"
#include "controller/convert.h"
#include "controller/forecasts.h"
#include "controller/lookup.h"
#include "controller/requests.h"

namespace sealift::controller {
namespace {

using policy::Right;

policy::EncryptionMode OrDisabled(const std::string& name) {
  return policy::ParseMode(name).value_or(policy::EncryptionMode::kDisabled);
}

std::string Shown(const std::string& name) { return name.empty() ? "none" : name; }

}  // namespace

grpc::Status PolicyServiceImpl::List(grpc::ServerContext* context, const v1::ListPoliciesRequest*,
                                     v1::ListPoliciesResponse* response) {
  return Answer(store_, *context, "policy list", Right::kRead, [&](const Caller&) -> absl::Status {
    SEALIFT_ASSIGN_OR_RETURN(const auto rows, store_.ListPolicies());
    for (const store::PolicyRow& row : rows) *response->add_policies() = ToProto(row);
    return absl::OkStatus();
  });
}

grpc::Status PolicyServiceImpl::Set(grpc::ServerContext* context,
                                    const v1::SetPolicyRequest* request, v1::Policy* response) {
  return Answer(store_, *context, "policy set", Right::kChangeMode,
                [&](const Caller& caller) { return Change(*request, caller, *response); });
}

grpc::Status PolicyServiceImpl::Check(grpc::ServerContext* context,
                                      const v1::CheckPolicyRequest* request,
                                      v1::CheckPolicyResponse* response) {
  return Answer(store_, *context, "policy check", Right::kRead,
                [&](const Caller&) { return CheckMoves(*request, *response); });
}

absl::Status PolicyServiceImpl::Change(const v1::SetPolicyRequest& request, const Caller& caller,
                                       v1::Policy& response) {
  const std::lock_guard lock(mutex_);
  SEALIFT_ASSIGN_OR_RETURN(const auto rows, store_.ListPolicies());
  const auto found = std::ranges::find(rows, request.group(), &store::PolicyRow::group);
  const store::PolicyRow before =
      found == rows.end() ? store::PolicyRow{request.group(), "", ""} : *found;
  SEALIFT_ASSIGN_OR_RETURN(const store::PolicyRow after, Changed(request, before));
  response = ToProto(after);
  if (after == before) return absl::OkStatus();
  if (OrDisabled(after.floor) < OrDisabled(before.floor)) {
    SEALIFT_RETURN_IF_ERROR(policy::CheckRight(caller.rights, Right::kLowerFloor));
  }
  SEALIFT_RETURN_IF_ERROR(store_.PutPolicy(after));
  SEALIFT_ASSIGN_OR_RETURN(const auto hosts, store_.ListHosts());
  for (const store::HostRow& host : hosts) sync_.CompareAgain(host.name);
  events_.Add(
      "policy.changed",
      request.group().empty() ? "policy/installation" : "policy/group/" + request.group(),
      caller.uri,
      fmt::format("floor from {} to {}, default from {} to {}", Shown(before.floor),
                  Shown(after.floor), Shown(before.default_mode), Shown(after.default_mode)));
  return absl::OkStatus();
}

absl::Status PolicyServiceImpl::CheckMoves(const v1::CheckPolicyRequest& request,
                                           v1::CheckPolicyResponse& response) {
  if (!request.vm().empty()) SEALIFT_RETURN_IF_ERROR(FindVm(store_, request.vm()).status());
  if (!request.host().empty()) SEALIFT_RETURN_IF_ERROR(FindHost(store_, request.host()).status());
  SEALIFT_ASSIGN_OR_RETURN(const Forecasts forecasts, Forecasts::Make(store_, agents_));
  for (const store::VmRow& vm : forecasts.vms()) {
    if (!request.vm().empty() && vm.name != request.vm()) continue;
    if (!request.host().empty() && vm.host != request.host()) continue;
    SEALIFT_ASSIGN_OR_RETURN(const auto moves, forecasts.Of(vm));
    SEALIFT_ASSIGN_OR_RETURN(const policy::EffectiveMode mode,
                             forecasts.modes().EffectiveAt(vm, {vm.host}));
    v1::VmForecast& forecast = *response.add_vms();
    forecast.set_vm(vm.name);
    forecast.set_host(vm.host);
    forecast.set_effective_encryption(ToProto(mode.mode));
    forecast.mutable_moves()->Assign(moves.begin(), moves.end());
  }
  return absl::OkStatus();
}

}  // namespace sealift::controller
