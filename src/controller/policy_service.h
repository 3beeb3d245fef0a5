// PolicyService of the API: floors, default modes, and what they mean for moves.
#pragma once

#include <mutex>

#include "controller/agents.h"
#include "controller/edge.h"
#include "controller/event_log.h"
#include "controller/vm_sync.h"
#include "sealift/v1/controller.grpc.pb.h"
#include "store/store.h"

namespace sealift::controller {

// PolicyServiceImpl: everything handed in outlives it.
class PolicyServiceImpl final : public v1::PolicyService::Service {
 public:
  PolicyServiceImpl(store::Store& store, AgentDirectory& agents, VmSync& sync, EventLog& events)
      : store_(store), agents_(agents), sync_(sync), events_(events) {}

  grpc::Status List(grpc::ServerContext* context, const v1::ListPoliciesRequest* request,
                    v1::ListPoliciesResponse* response) override;
  grpc::Status Set(grpc::ServerContext* context, const v1::SetPolicyRequest* request,
                   v1::Policy* response) override;
  grpc::Status Check(grpc::ServerContext* context, const v1::CheckPolicyRequest* request,
                     v1::CheckPolicyResponse* response) override;

 private:
  [[nodiscard]] absl::Status Change(const v1::SetPolicyRequest& request, const Caller& caller,
                                    v1::Policy& response);
  [[nodiscard]] absl::Status CheckMoves(const v1::CheckPolicyRequest& request,
                                        v1::CheckPolicyResponse& response);

  store::Store& store_;
  AgentDirectory& agents_;
  VmSync& sync_;
  EventLog& events_;
  std::mutex mutex_;  // held from reading a policy to writing it
};

}  // namespace sealift::controller
