// The gRPC edge of the agent: checks requests, converts types, calls the keepers.
#pragma once

#include "agent/host_identity.h"
#include "agent/migration_keeper.h"
#include "agent/vm_keeper.h"
#include "hypervisor/hypervisor.h"
#include "sealift/v1/agent.grpc.pb.h"

namespace sealift::agent {

// AgentServiceParts must outlive the service.
struct AgentServiceParts {
  hypervisor::Hypervisor& hypervisor;
  VmKeeper& vms;
  MigrationKeeper& migrations;
  HostIdentity& identity;
  v1::HostCapabilities capabilities;
  std::string boot_id;
};

// AgentService serves only the controller: the server's credentials let nobody else in.
class AgentService final : public v1::AgentService::Service {
 public:
  explicit AgentService(AgentServiceParts parts) : parts_(std::move(parts)) {}

  grpc::Status GetStatus(grpc::ServerContext* context, const v1::GetStatusRequest* request,
                         v1::AgentStatus* response) override;
  grpc::Status CheckVm(grpc::ServerContext* context, const v1::CheckVmRequest* request,
                       v1::CheckVmResponse* response) override;
  grpc::Status PutVm(grpc::ServerContext* context, const v1::PutVmRequest* request,
                     v1::AgentVm* response) override;
  grpc::Status GetVm(grpc::ServerContext* context, const v1::AgentVmRequest* request,
                     v1::AgentVmRecord* response) override;
  grpc::Status StartVm(grpc::ServerContext* context, const v1::AgentVmRequest* request,
                       v1::AgentVm* response) override;
  grpc::Status StopVm(grpc::ServerContext* context, const v1::AgentStopVmRequest* request,
                      v1::AgentVm* response) override;
  grpc::Status ForgetVm(grpc::ServerContext* context, const v1::AgentVmRequest* request,
                        v1::ForgetVmResponse* response) override;
  grpc::Status Console(
      grpc::ServerContext* context,
      grpc::ServerReaderWriter<v1::AgentConsoleOutput, v1::AgentConsoleInput>* stream) override;

  grpc::Status PrepareDestination(grpc::ServerContext* context,
                                  const v1::PrepareDestinationRequest* request,
                                  v1::PrepareDestinationResponse* response) override;
  grpc::Status PrepareSource(grpc::ServerContext* context, const v1::PrepareSourceRequest* request,
                             v1::PrepareSourceResponse* response) override;
  grpc::Status StartMigration(grpc::ServerContext* context,
                              const v1::StartAgentMigrationRequest* request,
                              v1::StartAgentMigrationResponse* response) override;
  grpc::Status WatchMigration(grpc::ServerContext* context,
                              const v1::AgentMigrationRequest* request,
                              grpc::ServerWriter<v1::AgentMigration>* writer) override;
  grpc::Status CancelMigration(grpc::ServerContext* context,
                               const v1::AgentMigrationRequest* request,
                               v1::AgentMigration* response) override;
  grpc::Status TellDecision(grpc::ServerContext* context, const v1::TellDecisionRequest* request,
                            v1::AgentMigration* response) override;
  grpc::Status ForgetMigration(grpc::ServerContext* context,
                               const v1::ForgetMigrationRequest* request,
                               v1::ForgetMigrationResponse* response) override;

  grpc::Status MakeCertificateRequest(grpc::ServerContext* context,
                                      const v1::MakeCertificateRequestRequest* request,
                                      v1::MakeCertificateRequestResponse* response) override;
  grpc::Status InstallCertificate(grpc::ServerContext* context,
                                  const v1::InstallCertificateRequest* request,
                                  v1::InstallCertificateResponse* response) override;

 private:
  [[nodiscard]] absl::Status Check(const v1::CheckVmRequest& request) const;
  [[nodiscard]] absl::StatusOr<VmView> Put(const v1::PutVmRequest& request);
  [[nodiscard]] absl::StatusOr<VmView> Stop(const v1::AgentStopVmRequest& request);
  [[nodiscard]] absl::Status Tell(const std::string& id, v1::Decision told);
  [[nodiscard]] absl::StatusOr<DestinationOffer> Prepare(
      const v1::PrepareDestinationRequest& request);
  [[nodiscard]] absl::StatusOr<base::Bytes> Prepare(const v1::PrepareSourceRequest& request);
  [[nodiscard]] absl::Status Start(const v1::StartAgentMigrationRequest& request) const;
  [[nodiscard]] absl::StatusOr<std::shared_ptr<LiveMigration>> FindMigration(
      const std::string& id) const;

  AgentServiceParts parts_;
};

}  // namespace sealift::agent
