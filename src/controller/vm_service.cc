#include "controller/vm_service.h"

#include "base/status.h"
#include "controller/console_relay.h"
#include "controller/convert.h"
#include "controller/edge.h"
#include "controller/lookup.h"
#include "controller/requests.h"

namespace sealift::controller {
namespace {

// Set moves the value of an outcome into a response.
template <typename Message>
absl::Status Deliver(absl::StatusOr<Message> outcome, Message* response) {
  if (!outcome.ok()) return outcome.status();
  *response = *std::move(outcome);
  return absl::OkStatus();
}

}  // namespace

grpc::Status VmServiceImpl::Create(grpc::ServerContext* context, const v1::CreateVmRequest* request,
                                   v1::Vm* response) {
  return Answer(store_, *context, "vm create", policy::Right::kOperate, [&](const Caller& caller) {
    return Deliver(
        vms_.Create(request->definition_yaml(), request->host(),
                    request->start() ? AfterCreation::kStart : AfterCreation::kLeaveStopped,
                    caller.uri),
        response);
  });
}

grpc::Status VmServiceImpl::List(grpc::ServerContext* context, const v1::ListVmsRequest* request,
                                 v1::ListVmsResponse* response) {
  return Answer(store_, *context, "vm list", policy::Right::kRead,
                [&](const Caller&) -> absl::Status {
                  SEALIFT_ASSIGN_OR_RETURN(std::vector<v1::Vm> vms,
                                           vms_.List(request->host(), request->selector()));
                  for (v1::Vm& vm : vms) *response->add_vms() = std::move(vm);
                  return absl::OkStatus();
                });
}

grpc::Status VmServiceImpl::Get(grpc::ServerContext* context, const v1::GetVmRequest* request,
                                v1::Vm* response) {
  return Answer(store_, *context, "vm show", policy::Right::kRead,
                [&](const Caller&) { return Deliver(vms_.Get(request->name()), response); });
}

grpc::Status VmServiceImpl::Start(grpc::ServerContext* context, const v1::StartVmRequest* request,
                                  v1::Vm* response) {
  return Answer(store_, *context, "vm start", policy::Right::kOperate, [&](const Caller& caller) {
    const Whereabouts whereabouts =
        request->runs_nowhere() ? Whereabouts::kRunsNowhere : Whereabouts::kUnknown;
    return Deliver(vms_.Start(request->name(), request->host(), whereabouts, caller.uri), response);
  });
}

grpc::Status VmServiceImpl::Stop(grpc::ServerContext* context, const v1::StopVmRequest* request,
                                 v1::Vm* response) {
  return Answer(store_, *context, "vm stop", policy::Right::kOperate,
                [&](const Caller& caller) -> absl::Status {
                  SEALIFT_ASSIGN_OR_RETURN(const std::chrono::seconds timeout, TimeoutOf(*request));
                  const StopManner manner =
                      request->force() ? StopManner::kForce : StopManner::kPowerButton;
                  return Deliver(vms_.Stop(request->name(), manner, timeout, caller.uri), response);
                });
}

grpc::Status VmServiceImpl::Set(grpc::ServerContext* context, const v1::SetVmsRequest* request,
                                v1::SetVmsResponse* response) {
  return Answer(store_, *context, "vm set", policy::Right::kChangeMode,
                [&](const Caller& caller) -> absl::Status {
                  SEALIFT_ASSIGN_OR_RETURN(*response, changes_.Apply(*request, caller.uri));
                  for (const v1::VmChanged& result : response->results()) {
                    if (!result.ok()) {
                      LogRefusal(caller.uri, "vm set",
                                 absl::FailedPreconditionError(result.error()));
                    }
                  }
                  return absl::OkStatus();
                });
}

grpc::Status VmServiceImpl::Delete(grpc::ServerContext* context, const v1::DeleteVmRequest* request,
                                   v1::DeleteVmResponse*) {
  return Answer(store_, *context, "vm delete", policy::Right::kOperate,
                [&](const Caller& caller) { return vms_.Delete(request->name(), caller.uri); });
}

grpc::ServerBidiReactor<v1::ConsoleInput, v1::ConsoleOutput>* VmServiceImpl::Console(
    grpc::CallbackServerContext* context) {
  const auto peer = rpc::PeerOf(*context);
  const std::string caller = peer.ok() ? peer->identity.ToUri() : "";
  return RelayConsole([this, caller, peer](const std::string& name)
                          -> absl::StatusOr<std::shared_ptr<AgentConnection>> {
    auto agent = [&]() -> absl::StatusOr<std::shared_ptr<AgentConnection>> {
      SEALIFT_RETURN_IF_ERROR(peer.status());
      SEALIFT_ASSIGN_OR_RETURN(const Caller user, CallerOf(store_, *peer));
      SEALIFT_RETURN_IF_ERROR(policy::CheckRight(user.rights, policy::Right::kOperate));
      SEALIFT_ASSIGN_OR_RETURN(const store::VmRow vm, FindVm(store_, name));
      return agents_.Connection(vm.host);
    }();
    if (agent.ok()) {
      events_.Add("vm.console_opened", "vm/" + name, caller, "its serial console is being used");
    } else {
      LogRefusal(caller, "vm console", agent.status());
    }
    return agent;
  });
}

}  // namespace sealift::controller
