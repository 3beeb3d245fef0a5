// VmService of the API.
#pragma once

#include "controller/agents.h"
#include "controller/event_log.h"
#include "controller/vm_changes.h"
#include "controller/vms.h"
#include "sealift/v1/controller.grpc.pb.h"
#include "store/store.h"

namespace sealift::controller {

// VmServiceImpl: everything handed in outlives it. The console is a callback method, because it
// reads and writes at the same time.
class VmServiceImpl final
    : public v1::VmService::WithCallbackMethod_Console<v1::VmService::Service> {
 public:
  VmServiceImpl(VmOperations& vms, VmChanges& changes, store::Store& store, AgentDirectory& agents,
                EventLog& events)
      : vms_(vms), changes_(changes), store_(store), agents_(agents), events_(events) {}

  grpc::Status Create(grpc::ServerContext* context, const v1::CreateVmRequest* request,
                      v1::Vm* response) override;
  grpc::Status List(grpc::ServerContext* context, const v1::ListVmsRequest* request,
                    v1::ListVmsResponse* response) override;
  grpc::Status Get(grpc::ServerContext* context, const v1::GetVmRequest* request,
                   v1::Vm* response) override;
  grpc::Status Start(grpc::ServerContext* context, const v1::StartVmRequest* request,
                     v1::Vm* response) override;
  grpc::Status Stop(grpc::ServerContext* context, const v1::StopVmRequest* request,
                    v1::Vm* response) override;
  grpc::Status Set(grpc::ServerContext* context, const v1::SetVmsRequest* request,
                   v1::SetVmsResponse* response) override;
  grpc::Status Delete(grpc::ServerContext* context, const v1::DeleteVmRequest* request,
                      v1::DeleteVmResponse* response) override;
  grpc::ServerBidiReactor<v1::ConsoleInput, v1::ConsoleOutput>* Console(
      grpc::CallbackServerContext* context) override;

 private:
  VmOperations& vms_;
  VmChanges& changes_;
  store::Store& store_;
  AgentDirectory& agents_;
  EventLog& events_;
};

}  // namespace sealift::controller
