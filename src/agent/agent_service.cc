#include "agent/agent_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "agent/console_relay.h"
#include "agent/convert.h"
#include "base/log.h"
#include "base/status.h"
#include "rpc/credentials.h"

namespace sealift::agent {
namespace {

using rpc::ToGrpc;

constexpr std::chrono::seconds kDefaultStopTimeout{60};
constexpr std::chrono::milliseconds kWatchPeriod{250};

// Answer of a call that returns one view.
grpc::Status Answer(const absl::StatusOr<VmView>& vm, v1::AgentVm* response) {
  if (vm.ok()) *response = ToProto(*vm);
  return ToGrpc(vm.status());
}

// A refused order is worth a line whoever gave it: a controller that is in order gives none.
void LogRefusal(const std::string& id, const absl::Status& status) {
  if (status.ok()) return;
  spdlog::warn("migration {} refused: {}", base::ToHex(base::AsBytes(id)), base::MessageOf(status));
}

}  // namespace

grpc::Status AgentService::GetStatus(grpc::ServerContext* /*context*/,
                                     const v1::GetStatusRequest* /*request*/,
                                     v1::AgentStatus* response) {
  *response->mutable_capabilities() = parts_.capabilities;
  response->mutable_capabilities()->set_memory_available_bytes(
      parts_.hypervisor.AvailableMemoryBytes());
  for (const VmView& vm : parts_.vms.List()) *response->add_vms() = ToProto(vm);
  for (const MigrationView& migration : parts_.migrations.List()) {
    *response->add_migrations() = ToProto(migration);
  }
  response->set_certificate_not_after_ms(base::UnixMillis(parts_.identity.certificate().not_after));
  response->set_boot_id(parts_.boot_id);
  return grpc::Status::OK;
}

grpc::Status AgentService::CheckVm(grpc::ServerContext* /*context*/,
                                   const v1::CheckVmRequest* request,
                                   v1::CheckVmResponse* /*response*/) {
  return ToGrpc(Check(*request));
}

absl::Status AgentService::Check(const v1::CheckVmRequest& request) const {
  SEALIFT_ASSIGN_OR_RETURN(const hypervisor::VmDefinition definition,
                           hypervisor::ParseVmDefinition(request.definition_yaml()));
  SEALIFT_RETURN_IF_ERROR(parts_.hypervisor.CheckDefinition(definition));
  if (!request.incoming()) return absl::OkStatus();
  const std::uint64_t available = parts_.hypervisor.AvailableMemoryBytes();
  if (definition.memory_bytes <= available) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("VM {} needs {} MiB of memory, this host has {} MiB left: free some or choose "
                  "another host",
                  definition.name, definition.memory_bytes >> 20, available >> 20));
}

grpc::Status AgentService::PutVm(grpc::ServerContext* /*context*/, const v1::PutVmRequest* request,
                                 v1::AgentVm* response) {
  return Answer(Put(*request), response);
}

absl::StatusOr<VmView> AgentService::Put(const v1::PutVmRequest& request) {
  VmRecord record;
  SEALIFT_ASSIGN_OR_RETURN(record.definition,
                           hypervisor::ParseVmDefinition(request.definition_yaml()));
  SEALIFT_ASSIGN_OR_RETURN(record.mode, FromProto(request.encryption()));
  record.epoch = request.epoch();
  record.policy_version = request.policy_version();
  return parts_.vms.Put(std::move(record));
}

grpc::Status AgentService::GetVm(grpc::ServerContext* /*context*/,
                                 const v1::AgentVmRequest* request, v1::AgentVmRecord* response) {
  const absl::StatusOr<VmRecord> record = parts_.vms.Record(request->name());
  if (record.ok()) *response = ToProto(*record);
  return ToGrpc(record.status());
}

grpc::Status AgentService::StartVm(grpc::ServerContext* /*context*/,
                                   const v1::AgentVmRequest* request, v1::AgentVm* response) {
  return Answer(parts_.vms.Start(request->name()), response);
}

grpc::Status AgentService::StopVm(grpc::ServerContext* /*context*/,
                                  const v1::AgentStopVmRequest* request, v1::AgentVm* response) {
  return Answer(Stop(*request), response);
}

absl::StatusOr<VmView> AgentService::Stop(const v1::AgentStopVmRequest& request) {
  if (request.force()) return parts_.vms.ForceOff(request.name());
  const auto timeout =
      request.timeout_s() == 0 ? kDefaultStopTimeout : std::chrono::seconds(request.timeout_s());
  return parts_.vms.PowerDown(request.name(), timeout);
}

grpc::Status AgentService::ForgetVm(grpc::ServerContext* /*context*/,
                                    const v1::AgentVmRequest* request,
                                    v1::ForgetVmResponse* /*response*/) {
  return ToGrpc(parts_.vms.Forget(request->name()));
}

grpc::Status AgentService::Console(
    grpc::ServerContext* context,
    grpc::ServerReaderWriter<v1::AgentConsoleOutput, v1::AgentConsoleInput>* stream) {
  v1::AgentConsoleInput first;
  if (!stream->Read(&first)) return grpc::Status::OK;
  absl::StatusOr<base::UniqueFd> console = parts_.vms.OpenConsole(first.name());
  if (!console.ok()) return ToGrpc(console.status());
  RelayConsole(*std::move(console), first.data(), *context, *stream);
  return grpc::Status::OK;
}

// ---- Migrations

absl::StatusOr<std::shared_ptr<LiveMigration>> AgentService::FindMigration(
    const std::string& id) const {
  SEALIFT_ASSIGN_OR_RETURN(const std::string text, MigrationIdText(id));
  return parts_.migrations.Find(text);
}

grpc::Status AgentService::PrepareDestination(grpc::ServerContext* /*context*/,
                                              const v1::PrepareDestinationRequest* request,
                                              v1::PrepareDestinationResponse* response) {
  const absl::StatusOr<DestinationOffer> offer = Prepare(*request);
  LogRefusal(request->spec().id(), offer.status());
  if (!offer.ok()) return ToGrpc(offer.status());
  response->set_mover_public_key(std::string(base::AsText(offer->public_key)));
  for (const base::HostPort& address : offer->addresses) {
    response->add_data_addresses(address.ToString());
  }
  return grpc::Status::OK;
}

absl::StatusOr<DestinationOffer> AgentService::Prepare(
    const v1::PrepareDestinationRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(MigrationOrder order, FromProto(request.spec()));
  order.epoch = request.epoch();
  order.policy_version = request.policy_version();
  SEALIFT_ASSIGN_OR_RETURN(const hypervisor::VmDefinition definition,
                           hypervisor::ParseVmDefinition(request.definition_yaml()));
  if (definition.name != order.spec.vm) {
    return absl::InvalidArgumentError("spec.vm: is not the VM of the definition");
  }
  SEALIFT_RETURN_IF_ERROR(parts_.hypervisor.CheckDefinition(definition));
  return parts_.migrations.PrepareDestination(order, definition, request.listen_address());
}

grpc::Status AgentService::PrepareSource(grpc::ServerContext* /*context*/,
                                         const v1::PrepareSourceRequest* request,
                                         v1::PrepareSourceResponse* response) {
  const absl::StatusOr<base::Bytes> public_key = Prepare(*request);
  LogRefusal(request->spec().id(), public_key.status());
  if (!public_key.ok()) return ToGrpc(public_key.status());
  response->set_mover_public_key(std::string(base::AsText(*public_key)));
  return grpc::Status::OK;
}

absl::StatusOr<base::Bytes> AgentService::Prepare(const v1::PrepareSourceRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(MigrationOrder order, FromProto(request.spec()));
  order.epoch = request.epoch();
  if (request.on_no_convergence() == v1::NO_CONVERGENCE_FAIL) {
    order.on_no_convergence = migration::NoConvergence::kFail;
  }
  return parts_.migrations.PrepareSource(order);
}

grpc::Status AgentService::StartMigration(grpc::ServerContext* /*context*/,
                                          const v1::StartAgentMigrationRequest* request,
                                          v1::StartAgentMigrationResponse* /*response*/) {
  const absl::Status status = Start(*request);
  LogRefusal(request->id(), status);
  return ToGrpc(status);
}

absl::Status AgentService::Start(const v1::StartAgentMigrationRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(const auto migration, FindMigration(request.id()));
  std::vector<base::HostPort> addresses;
  for (const std::string& text : request.data_addresses()) {
    SEALIFT_ASSIGN_OR_RETURN(base::HostPort address, base::ParseHostPort(text, 0));
    addresses.push_back(std::move(address));
  }
  const base::ByteSpan sealed = base::AsBytes(request.sealed_key());
  return migration->Start(base::Bytes(sealed.begin(), sealed.end()), std::move(addresses));
}

grpc::Status AgentService::WatchMigration(grpc::ServerContext* context,
                                          const v1::AgentMigrationRequest* request,
                                          grpc::ServerWriter<v1::AgentMigration>* writer) {
  const auto migration = FindMigration(request->id());
  if (!migration.ok()) return ToGrpc(migration.status());
  std::uint64_t version = 0;
  while (!context->IsCancelled()) {
    const MigrationView view = (*migration)->View();
    if (!writer->Write(ToProto(view)) || migration::IsFinal(view.snapshot.phase)) break;
    version = (*migration)->board()->WaitForChange(version, kWatchPeriod);
  }
  return grpc::Status::OK;
}

grpc::Status AgentService::CancelMigration(grpc::ServerContext* /*context*/,
                                           const v1::AgentMigrationRequest* request,
                                           v1::AgentMigration* response) {
  const auto migration = FindMigration(request->id());
  if (!migration.ok()) return ToGrpc(migration.status());
  const absl::Status status = (*migration)->Cancel();
  *response = ToProto((*migration)->View());
  return ToGrpc(status);
}

grpc::Status AgentService::TellDecision(grpc::ServerContext* /*context*/,
                                        const v1::TellDecisionRequest* request,
                                        v1::AgentMigration* response) {
  const auto migration = FindMigration(request->id());
  if (!migration.ok()) return ToGrpc(migration.status());
  if (request->decision() != v1::DECISION_COMMIT && request->decision() != v1::DECISION_ABORT) {
    return ToGrpc(absl::InvalidArgumentError("decision: neither commit nor abort"));
  }
  const absl::Status status = parts_.migrations.Tell(
      (*migration)->id(), request->decision() == v1::DECISION_COMMIT ? migration::Decision::kCommit
                                                                     : migration::Decision::kAbort);
  *response = ToProto((*migration)->View());
  return ToGrpc(status);
}

grpc::Status AgentService::ForgetMigration(grpc::ServerContext* /*context*/,
                                           const v1::ForgetMigrationRequest* request,
                                           v1::ForgetMigrationResponse* /*response*/) {
  const absl::StatusOr<std::string> id = MigrationIdText(request->id());
  if (!id.ok()) return ToGrpc(id.status());
  const absl::Status status =
      parts_.migrations.Forget(*id, request->completed() ? GuestMoved::kYes : GuestMoved::kUnknown);
  // Forgetting twice is harmless.
  return ToGrpc(absl::IsNotFound(status) ? absl::OkStatus() : status);
}

// ---- Certificate

grpc::Status AgentService::MakeCertificateRequest(
    grpc::ServerContext* /*context*/, const v1::MakeCertificateRequestRequest* /*request*/,
    v1::MakeCertificateRequestResponse* response) {
  absl::StatusOr<std::string> made = parts_.identity.MakeRequest();
  if (made.ok()) response->set_certificate_request_pem(*std::move(made));
  return ToGrpc(made.status());
}

grpc::Status AgentService::InstallCertificate(grpc::ServerContext* /*context*/,
                                              const v1::InstallCertificateRequest* request,
                                              v1::InstallCertificateResponse* /*response*/) {
  const absl::Status status = parts_.identity.Install(request->certificate_chain_pem());
  if (status.ok()) spdlog::info("certificate renewed");
  return ToGrpc(status);
}

}  // namespace sealift::agent
