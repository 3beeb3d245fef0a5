#include "agent/agent_service.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "agent/console_relay.h"
#include "agent/convert.h"
#include "agent/requests.h"
#include "base/log.h"
#include "base/status.h"
#include "rpc/credentials.h"

namespace sealift::agent {
namespace {

using rpc::ToGrpc;

constexpr std::chrono::milliseconds kWatchPeriod{250};

// Answer of a call that returns one view.
grpc::Status Answer(const absl::StatusOr<VmView>& vm, v1::AgentVm* response) {
  if (vm.ok()) *response = ToProto(*vm);
  return ToGrpc(vm.status());
}

// A refused order is worth a line whoever gave it: a controller that is in order gives none.
void LogRefusal(const std::string& id, const absl::Status& status) {
  if (status.ok()) return;
  const absl::StatusOr<std::string> text = MigrationIdText(id);
  spdlog::warn("migration {} refused: {}", text.value_or("without an id"), base::MessageOf(status));
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
  SEALIFT_ASSIGN_OR_RETURN(const hypervisor::VmDefinition definition, FromProto(request));
  SEALIFT_RETURN_IF_ERROR(parts_.hypervisor.CheckDefinition(definition));
  if (!request.incoming()) return absl::OkStatus();
  return hypervisor::CheckMemory(definition, parts_.hypervisor.AvailableMemoryBytes());
}

grpc::Status AgentService::PutVm(grpc::ServerContext* /*context*/, const v1::PutVmRequest* request,
                                 v1::AgentVm* response) {
  return Answer(Put(*request), response);
}

absl::StatusOr<VmView> AgentService::Put(const v1::PutVmRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(VmRecord record, FromProto(request));
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
  SEALIFT_ASSIGN_OR_RETURN(const StopOrder order, FromProto(request));
  if (order.force) return parts_.vms.ForceOff(order.vm);
  return parts_.vms.PowerDown(order.vm, order.timeout);
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
  SEALIFT_ASSIGN_OR_RETURN(const DestinationOrder order, FromProto(request));
  SEALIFT_RETURN_IF_ERROR(parts_.hypervisor.CheckDefinition(order.definition));
  return parts_.migrations.PrepareDestination(order);
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
  SEALIFT_ASSIGN_OR_RETURN(const MigrationOrder order, FromProto(request));
  return parts_.migrations.PrepareSource(order);
}

grpc::Status AgentService::StartMigration(grpc::ServerContext* /*context*/,
                                          const v1::StartAgentMigrationRequest* request,
                                          v1::StartAgentMigrationResponse* /*response*/) {
  const absl::Status status = Start(*request);
  LogRefusal(request->id(), status);
  return ToGrpc(status);
}

absl::Status AgentService::Start(const v1::StartAgentMigrationRequest& request) const {
  SEALIFT_ASSIGN_OR_RETURN(StartOrder order, FromProto(request));
  SEALIFT_ASSIGN_OR_RETURN(const auto migration, parts_.migrations.Find(order.migration));
  return migration->Start(std::move(order));
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
  const absl::Status status = Tell((*migration)->id(), request->decision());
  LogRefusal(request->id(), status);
  *response = ToProto((*migration)->View());
  return ToGrpc(status);
}

absl::Status AgentService::Tell(const std::string& id, v1::Decision told) {
  SEALIFT_ASSIGN_OR_RETURN(const migration::Decision decision, FromProto(told));
  return parts_.migrations.Tell(id, decision);
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
  if (!made.ok()) return ToGrpc(made.status());
  response->set_certificate_request_pem(*std::move(made));
  return grpc::Status::OK;
}

grpc::Status AgentService::InstallCertificate(grpc::ServerContext* /*context*/,
                                              const v1::InstallCertificateRequest* request,
                                              v1::InstallCertificateResponse* /*response*/) {
  const absl::Status status = parts_.identity.Install(request->certificate_chain_pem());
  if (status.ok()) spdlog::info("certificate renewed");
  return ToGrpc(status);
}

}  // namespace sealift::agent
