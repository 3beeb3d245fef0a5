#include "controller/fake_agent.h"

#include <algorithm>
#include <chrono>

#include "base/check.h"
#include "controller/migration_preparation.h"
#include "hypervisor/vm_definition.h"
#include "keys/migration_spec.h"
#include "pki/certificate.h"

namespace sealift::controller {
namespace {

v1::HostCapabilities GoodHost() {
  v1::HostCapabilities host;
  host.set_agent_version("test");
  host.set_cpu_model("Fictional CPU");
  host.set_cpus(4);
  host.set_memory_bytes(std::uint64_t{16} << 30);
  host.set_memory_available_bytes(std::uint64_t{8} << 30);
  host.set_accelerator("tcg");
  host.set_qemu_version("7.2.0");
  host.add_machine_types("pc-q35-7.2");
  host.add_usable_cpu_models("Westmere");
  host.set_aead_backend("openssl");
  host.set_prepares_early(true);
  return host;
}

bool HasEndedHere(v1::MigrationPhase phase) { return phase >= v1::MIGRATION_PHASE_COMPLETED; }

keys::MigrationSpec FromProto(const v1::MigrationSpec& told) {
  keys::MigrationSpec spec;
  std::ranges::copy(base::AsBytes(told.id()), spec.id.begin());
  spec.vm = told.vm();
  spec.source = told.source();
  spec.destination = told.destination();
  spec.protection = told.plain() ? keys::Protection::kPlain : keys::Protection::kSealed;
  spec.engine = told.engine() == v1::ENGINE_DIRECT ? keys::Engine::kDirect : keys::Engine::kStream;
  spec.streams = static_cast<std::uint16_t>(told.streams());
  return spec;
}

grpc::Status Unknown(const std::string& what) {
  return {grpc::StatusCode::NOT_FOUND, what + " is not known here"};
}

}  // namespace

FakeAgent::FakeAgent() { *status_.mutable_capabilities() = GoodHost(); }

void FakeAgent::Serve(const rpc::CredentialFiles& files, const std::string& trust_domain,
                      std::uint16_t port) {
  rpc::ServerOptions options;
  options.address = {"127.0.0.1", port};
  options.credentials = rpc::MakeServerCredentials(files, trust_domain, {pki::Role::kController});
  options.services = {this};
  {
    const std::lock_guard lock(mutex_);
    serving_ = Serving::kYes;
  }
  auto server = rpc::Server::Start(options);
  SEALIFT_CHECK(server.ok());
  server_ = *std::move(server);
  port_ = server_->port();
}

void FakeAgent::Stop() {
  {
    const std::lock_guard lock(mutex_);
    serving_ = Serving::kNo;
    held_.clear();
  }
  changed_.notify_all();
  server_.reset();
}

void FakeAgent::Change(const std::function<void(v1::AgentStatus&)>& change) {
  const std::lock_guard lock(mutex_);
  change(status_);
  ++version_;
  changed_.notify_all();
}

v1::AgentStatus FakeAgent::Report() {
  const std::lock_guard lock(mutex_);
  return status_;
}

void FakeAgent::Copy(FakeAgent& from, const std::string& vm, std::uint64_t epoch,
                     v1::VmState state) {
  v1::AgentVm copy;
  std::string definition;
  {
    const std::lock_guard lock(from.mutex_);
    copy = from.Vm(vm);
    definition = from.definitions_[vm];
  }
  copy.set_epoch(epoch);
  copy.set_state(state);
  const std::lock_guard lock(mutex_);
  definitions_[vm] = definition;
  Vm(vm) = copy;
}

void FakeAgent::TakeOver(FakeAgent& from, const std::string& vm, std::uint64_t epoch,
                         v1::VmState state) {
  Copy(from, vm, epoch, state);
  from.Lose(vm);
}

void FakeAgent::Lose(const std::string& vm) {
  const std::lock_guard lock(mutex_);
  Remove(vm);
}

std::uint64_t FakeAgent::Epoch(const std::string& vm) {
  const v1::AgentStatus report = Report();
  for (const v1::AgentVm& held : report.vms()) {
    if (held.name() == vm) return held.epoch();
  }
  return 0;
}

void FakeAgent::SetPhase(v1::MigrationPhase phase, const std::string& detail) {
  Change([&](v1::AgentStatus& status) {
    SEALIFT_CHECK(status.migrations_size() == 1);
    v1::MigrationProgress& progress = *status.mutable_migrations(0)->mutable_progress();
    progress.set_phase(phase);
    progress.set_detail(detail);
  });
}

void FakeAgent::ShowReceipt(const std::string& receipt) {
  Change([&](v1::AgentStatus& status) {
    SEALIFT_CHECK(status.migrations_size() == 1);
    status.mutable_migrations(0)->set_receipt(receipt);
  });
}

void FakeAgent::Fail(const std::string& method, const grpc::Status& status) {
  const std::lock_guard lock(mutex_);
  failures_[method] = status;
}

void FakeAgent::Hold(const std::string& method) {
  const std::lock_guard lock(mutex_);
  held_ = method;
}

void FakeAgent::Release() {
  const std::lock_guard lock(mutex_);
  held_.clear();
  changed_.notify_all();
}

int FakeAgent::Called(const std::string& method) {
  const std::lock_guard lock(mutex_);
  return calls_[method];
}

bool FakeAgent::WaitFor(const std::string& method, int times) {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, std::chrono::seconds(10), [&] { return calls_[method] >= times; });
}

v1::PutVmRequest FakeAgent::last_put() {
  const std::lock_guard lock(mutex_);
  return put_;
}

v1::PrepareSourceRequest FakeAgent::last_prepare_source() {
  const std::lock_guard lock(mutex_);
  return prepare_source_;
}

v1::MigrationSpec FakeAgent::last_spec() {
  const std::lock_guard lock(mutex_);
  return spec_;
}

std::uint64_t FakeAgent::last_epoch() {
  const std::lock_guard lock(mutex_);
  return epoch_;
}

std::string FakeAgent::installed_chain() {
  const std::lock_guard lock(mutex_);
  return chain_;
}

std::string FakeAgent::last_receipt() {
  const std::lock_guard lock(mutex_);
  return receipt_;
}

std::string FakeAgent::OpenedKey() {
  const std::lock_guard lock(mutex_);
  const auto key = receiver_->Open(base::AsBytes(sealed_key_), keys::HashSpec(FromProto(spec_)));
  return key.ok() ? base::ToHex(key->bytes()) : "";
}

grpc::Status FakeAgent::Enter(const std::string& method) {
  ++calls_[method];
  changed_.notify_all();
  return failures_[method];
}

void FakeAgent::WaitUntilReleased(std::unique_lock<std::mutex>& lock, const std::string& method) {
  changed_.wait(lock, [&] { return held_ != method; });
}

v1::AgentMigration* FakeAgent::Find(const std::string& id) {
  for (v1::AgentMigration& migration : *status_.mutable_migrations()) {
    if (migration.id() == id) return &migration;
  }
  return nullptr;
}

v1::AgentVm& FakeAgent::Vm(const std::string& name) {
  for (v1::AgentVm& vm : *status_.mutable_vms()) {
    if (vm.name() == name) return vm;
  }
  v1::AgentVm& vm = *status_.add_vms();
  vm.set_name(name);
  vm.set_state(v1::VM_STATE_STOPPED);
  return vm;
}

bool FakeAgent::IsOnItsWay(const std::string& vm) {
  return std::ranges::any_of(status_.migrations(), [&](const v1::AgentMigration& migration) {
    return migration.vm() == vm && !HasEndedHere(migration.progress().phase());
  });
}

void FakeAgent::Remove(const std::string& vm) {
  auto& vms = *status_.mutable_vms();
  vms.erase(std::remove_if(vms.begin(), vms.end(),
                           [&](const v1::AgentVm& held) { return held.name() == vm; }),
            vms.end());
}

grpc::Status FakeAgent::GetStatus(grpc::ServerContext*, const v1::GetStatusRequest*,
                                  v1::AgentStatus* response) {
  std::unique_lock lock(mutex_);
  *response = status_;
  grpc::Status status = Enter("GetStatus");
  WaitUntilReleased(lock, "GetStatus");
  return status;
}

grpc::Status FakeAgent::CheckVm(grpc::ServerContext*, const v1::CheckVmRequest*,
                                v1::CheckVmResponse*) {
  const std::lock_guard lock(mutex_);
  return Enter("CheckVm");
}

grpc::Status FakeAgent::PutVm(grpc::ServerContext*, const v1::PutVmRequest* request,
                              v1::AgentVm* response) {
  std::unique_lock lock(mutex_);
  if (const grpc::Status failure = Enter("PutVm"); !failure.ok()) return failure;
  WaitUntilReleased(lock, "PutVm");
  put_ = *request;
  const auto definition = hypervisor::ParseVmDefinition(request->definition_yaml());
  SEALIFT_CHECK(definition.ok());
  definitions_[definition->name] = request->definition_yaml();
  v1::AgentVm& vm = Vm(definition->name);
  vm.set_uuid(definition->uuid);
  vm.set_epoch(request->epoch());
  vm.set_encryption(request->encryption());
  vm.set_policy_version(request->policy_version());
  *response = vm;
  return grpc::Status::OK;
}

grpc::Status FakeAgent::GetVm(grpc::ServerContext*, const v1::AgentVmRequest* request,
                              v1::AgentVmRecord* response) {
  const std::lock_guard lock(mutex_);
  if (const grpc::Status failure = Enter("GetVm"); !failure.ok()) return failure;
  const auto definition = definitions_.find(request->name());
  if (definition == definitions_.end()) return Unknown("this VM");
  response->set_definition_yaml(definition->second);
  response->set_epoch(Vm(request->name()).epoch());
  response->set_encryption(Vm(request->name()).encryption());
  response->set_policy_version(Vm(request->name()).policy_version());
  return grpc::Status::OK;
}

grpc::Status FakeAgent::StartVm(grpc::ServerContext*, const v1::AgentVmRequest* request,
                                v1::AgentVm* response) {
  const std::lock_guard lock(mutex_);
  if (const grpc::Status failure = Enter("StartVm"); !failure.ok()) return failure;
  Vm(request->name()).set_state(v1::VM_STATE_RUNNING);
  *response = Vm(request->name());
  return grpc::Status::OK;
}

grpc::Status FakeAgent::StopVm(grpc::ServerContext*, const v1::AgentStopVmRequest* request,
                               v1::AgentVm* response) {
  const std::lock_guard lock(mutex_);
  if (const grpc::Status failure = Enter("StopVm"); !failure.ok()) return failure;
  if (IsOnItsWay(request->name())) {
    return {grpc::StatusCode::FAILED_PRECONDITION, "the VM is being migrated"};
  }
  Vm(request->name()).set_state(v1::VM_STATE_STOPPED);
  *response = Vm(request->name());
  return grpc::Status::OK;
}

grpc::Status FakeAgent::ForgetVm(grpc::ServerContext*, const v1::AgentVmRequest* request,
                                 v1::ForgetVmResponse*) {
  const std::lock_guard lock(mutex_);
  if (const grpc::Status failure = Enter("ForgetVm"); !failure.ok()) return failure;
  Remove(request->name());
  return grpc::Status::OK;
}

grpc::Status FakeAgent::Console(
    grpc::ServerContext*,
    grpc::ServerReaderWriter<v1::AgentConsoleOutput, v1::AgentConsoleInput>* stream) {
  v1::AgentConsoleInput input;
  while (stream->Read(&input)) {
    v1::AgentConsoleOutput output;
    output.set_data(input.name() + "<" + input.data() + ">");
    if (!stream->Write(output)) break;
  }
  return {grpc::StatusCode::ABORTED, "the guest hung up"};
}

grpc::Status FakeAgent::Prepare(const v1::MigrationSpec& spec, v1::AgentMigrationRole role,
                                std::string& public_key) {
  spec_ = spec;
  auto receiver = keys::HpkeReceiver::Generate();
  SEALIFT_CHECK(receiver.ok());
  receiver_ = *std::move(receiver);
  public_key = base::AsText(receiver_->PublicKey());
  v1::AgentMigration& migration = *status_.add_migrations();
  migration.set_id(spec.id());
  migration.set_vm(spec.vm());
  migration.set_role(role);
  migration.set_aead_backend("openssl");
  migration.mutable_progress()->set_phase(v1::MIGRATION_PHASE_PREPARING);
  ++version_;
  return grpc::Status::OK;
}

grpc::Status FakeAgent::PrepareDestination(grpc::ServerContext* context,
                                           const v1::PrepareDestinationRequest* request,
                                           v1::PrepareDestinationResponse* response) {
  std::unique_lock lock(mutex_);
  if (const grpc::Status failure = Enter("PrepareDestination"); !failure.ok()) return failure;
  WaitUntilReleased(lock, "PrepareDestination");
  if (context->IsCancelled()) return grpc::Status::CANCELLED;
  epoch_ = request->epoch();
  response->add_data_addresses(request->listen_address() + ":49152");
  return Prepare(request->spec(), v1::AGENT_MIGRATION_ROLE_DESTINATION,
                 *response->mutable_mover_public_key());
}

grpc::Status FakeAgent::PrepareSource(grpc::ServerContext*, const v1::PrepareSourceRequest* request,
                                      v1::PrepareSourceResponse* response) {
  const std::lock_guard lock(mutex_);
  if (const grpc::Status failure = Enter("PrepareSource"); !failure.ok()) return failure;
  prepare_source_ = *request;
  epoch_ = request->epoch();
  return Prepare(request->spec(), v1::AGENT_MIGRATION_ROLE_SOURCE,
                 *response->mutable_mover_public_key());
}

grpc::Status FakeAgent::StartMigration(grpc::ServerContext*,
                                       const v1::StartAgentMigrationRequest* request,
                                       v1::StartAgentMigrationResponse*) {
  const std::lock_guard lock(mutex_);
  if (const grpc::Status failure = Enter("StartMigration"); !failure.ok()) return failure;
  v1::AgentMigration* migration = Find(request->id());
  if (migration == nullptr) return Unknown("this migration");
  SEALIFT_CHECK(request->data_addresses_size() ==
                (migration->role() == v1::AGENT_MIGRATION_ROLE_SOURCE ? 1 : 0));
  sealed_key_ = request->sealed_key();
  migration->set_started(true);
  receipt_ = request->receipt();
  migration->mutable_progress()->set_phase(v1::MIGRATION_PHASE_COPYING);
  ++version_;
  changed_.notify_all();
  return grpc::Status::OK;
}

grpc::Status FakeAgent::WatchMigration(grpc::ServerContext* context,
                                       const v1::AgentMigrationRequest* request,
                                       grpc::ServerWriter<v1::AgentMigration>* writer) {
  std::unique_lock lock(mutex_);
  if (const grpc::Status failure = Enter("WatchMigration"); !failure.ok()) return failure;
  for (;;) {
    const v1::AgentMigration* migration = Find(request->id());
    if (migration == nullptr) return Unknown("this migration");
    const v1::AgentMigration view = *migration;
    const std::uint64_t seen = version_;
    lock.unlock();
    if (!writer->Write(view) || HasEndedHere(view.progress().phase())) return grpc::Status::OK;
    lock.lock();
    while (seen == version_ && serving_ == Serving::kYes) {
      changed_.wait_for(lock, std::chrono::milliseconds(50));
      if (context->IsCancelled()) return grpc::Status::CANCELLED;
    }
    if (serving_ == Serving::kNo) return {grpc::StatusCode::UNAVAILABLE, "the agent ends"};
  }
}

grpc::Status FakeAgent::CancelMigration(grpc::ServerContext*,
                                        const v1::AgentMigrationRequest* request,
                                        v1::AgentMigration* response) {
  const std::lock_guard lock(mutex_);
  if (const grpc::Status failure = Enter("CancelMigration"); !failure.ok()) return failure;
  v1::AgentMigration* migration = Find(request->id());
  if (migration == nullptr) return Unknown("this migration");
  v1::MigrationProgress& progress = *migration->mutable_progress();
  if (progress.phase() == v1::MIGRATION_PHASE_COMMITTED ||
      (progress.phase() == v1::MIGRATION_PHASE_SWITCHING &&
       migration->role() == v1::AGENT_MIGRATION_ROLE_DESTINATION)) {
    return {grpc::StatusCode::FAILED_PRECONDITION, "only the source decides now"};
  }
  if (HasEndedHere(progress.phase())) {
    *response = *migration;
    return grpc::Status::OK;
  }
  progress.set_phase(v1::MIGRATION_PHASE_CANCELLED);
  progress.set_detail("cancelled by the controller");
  *response = *migration;
  ++version_;
  changed_.notify_all();
  return grpc::Status::OK;
}

grpc::Status FakeAgent::TellDecision(grpc::ServerContext*, const v1::TellDecisionRequest* request,
                                     v1::AgentMigration* response) {
  const std::lock_guard lock(mutex_);
  if (const grpc::Status failure = Enter("TellDecision"); !failure.ok()) return failure;
  v1::AgentMigration* migration = Find(request->id());
  if (migration == nullptr) return Unknown("this migration");
  if (migration->role() != v1::AGENT_MIGRATION_ROLE_DESTINATION) {
    return {grpc::StatusCode::FAILED_PRECONDITION, "the source decides itself"};
  }
  v1::MigrationProgress& progress = *migration->mutable_progress();
  const bool commit = request->decision() == v1::DECISION_COMMIT;
  if (commit && progress.phase() < v1::MIGRATION_PHASE_SWITCHING) {
    return {grpc::StatusCode::FAILED_PRECONDITION, "a commit before everything is received"};
  }
  if (!HasEndedHere(progress.phase())) {
    progress.set_phase(commit ? v1::MIGRATION_PHASE_COMPLETED : v1::MIGRATION_PHASE_FAILED);
  }
  *response = *migration;
  return grpc::Status::OK;
}

grpc::Status FakeAgent::ForgetMigration(grpc::ServerContext*,
                                        const v1::ForgetMigrationRequest* request,
                                        v1::ForgetMigrationResponse*) {
  const std::lock_guard lock(mutex_);
  if (const grpc::Status failure = Enter("ForgetMigration"); !failure.ok()) return failure;
  const v1::AgentMigration* migration = Find(request->id());
  if (migration == nullptr) return Unknown("this migration");
  const bool given_away = migration->role() == v1::AGENT_MIGRATION_ROLE_SOURCE &&
                          migration->progress().phase() == v1::MIGRATION_PHASE_COMMITTED &&
                          request->completed();
  if (!given_away && !HasEndedHere(migration->progress().phase())) {
    return {grpc::StatusCode::FAILED_PRECONDITION, "it has not ended here"};
  }
  if (given_away) Remove(migration->vm());
  status_.mutable_migrations()->DeleteSubrange(static_cast<int>(migration - &status_.migrations(0)),
                                               1);
  return grpc::Status::OK;
}

grpc::Status FakeAgent::MakeCertificateRequest(grpc::ServerContext*,
                                               const v1::MakeCertificateRequestRequest*,
                                               v1::MakeCertificateRequestResponse* response) {
  const std::lock_guard lock(mutex_);
  // What a request asks for is ignored: the controller names the host.
  const auto key = pki::GeneratePrivateKey();
  const auto request = pki::MakeRequest(*key, {"elsewhere", pki::Role::kOperator, "mallory"});
  response->set_certificate_request_pem(*request);
  return Enter("MakeCertificateRequest");
}

grpc::Status FakeAgent::InstallCertificate(grpc::ServerContext*,
                                           const v1::InstallCertificateRequest* request,
                                           v1::InstallCertificateResponse*) {
  const std::lock_guard lock(mutex_);
  chain_ = request->certificate_chain_pem();
  const auto info = pki::ReadCertificate(chain_);
  status_.set_certificate_not_after_ms(base::UnixMillis(info->not_after));
  return Enter("InstallCertificate");
}

}  // namespace sealift::controller
