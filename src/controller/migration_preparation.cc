#include "controller/migration_preparation.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <future>

#include "base/bytes.h"
#include "base/socket.h"
#include "base/status.h"
#include "controller/convert.h"
#include "controller/requests.h"
#include "keys/hpke.h"
#include "keys/key_schedule.h"
#include "pki/identity.h"
#include "rpc/protocol.h"

namespace sealift::controller {
namespace {

// Longer than other calls: the destination starts a QEMU that allocates the guest's memory.
constexpr std::chrono::seconds kPrepareDeadline{30};

absl::StatusOr<keys::Engine> StoredEngine(const store::MigrationRow& migration) {
  switch (ParseEngine(migration.engine)) {
    case v1::ENGINE_STREAM:
      return keys::Engine::kStream;
    case v1::ENGINE_DIRECT:
      return keys::Engine::kDirect;
    default:
      return absl::InternalError(
          fmt::format("migration {} names the engine '{}', which this version does not know",
                      migration.id, migration.engine));
  }
}

// Sets the two keys of `start`.
absl::Status SealFreshKey(keys::RandomSource& random, const keys::MigrationSpec& spec,
                          const std::string& source_key, const std::string& destination_key,
                          MigrationStart& start) {
  SEALIFT_ASSIGN_OR_RETURN(const keys::MigrationKey key, keys::MigrationKey::Generate(random));
  const keys::SpecHash info = keys::HashSpec(spec);
  SEALIFT_ASSIGN_OR_RETURN(const base::Bytes for_source,
                           keys::HpkeSeal(base::AsBytes(source_key), info, key.bytes));
  SEALIFT_ASSIGN_OR_RETURN(const base::Bytes for_destination,
                           keys::HpkeSeal(base::AsBytes(destination_key), info, key.bytes));
  start.key_for_source = base::AsText(for_source);
  start.key_for_destination = base::AsText(for_destination);
  return absl::OkStatus();
}

v1::PrepareDestinationRequest DestinationRequest(const v1::MigrationSpec& spec,
                                                 const store::VmRow& vm,
                                                 const std::string& listen_address) {
  v1::PrepareDestinationRequest request;
  *request.mutable_spec() = spec;
  request.set_definition_yaml(vm.definition);
  request.set_epoch(vm.epoch + 1);
  request.set_listen_address(listen_address);
  request.set_policy_version(vm.policy_version);
  return request;
}

v1::PrepareSourceRequest SourceRequest(const v1::MigrationSpec& spec, const store::VmRow& vm,
                                       const std::string& on_no_convergence) {
  v1::PrepareSourceRequest request;
  *request.mutable_spec() = spec;
  request.set_epoch(vm.epoch);
  request.set_on_no_convergence(ParseNoConvergence(on_no_convergence));
  return request;
}

bool PreparesEarly(const HostView& source) {
  return source.status && source.status->capabilities().prepares_early();
}

}  // namespace

absl::StatusOr<keys::MigrationSpec> SpecOf(const store::MigrationRow& migration,
                                           const std::string& trust_domain) {
  keys::MigrationSpec spec;
  SEALIFT_ASSIGN_OR_RETURN(const std::string id, WireId(migration.id));
  std::ranges::copy(base::AsBytes(id), spec.id.begin());
  spec.vm = migration.vm;
  spec.source = pki::Identity{trust_domain, pki::Role::kHost, migration.source}.ToUri();
  spec.destination = pki::Identity{trust_domain, pki::Role::kHost, migration.destination}.ToUri();
  spec.protection = migration.encrypted ? keys::Protection::kSealed : keys::Protection::kPlain;
  SEALIFT_ASSIGN_OR_RETURN(spec.engine, StoredEngine(migration));
  spec.streams = static_cast<std::uint16_t>(migration.streams);
  return spec;
}

absl::StatusOr<MigrationStart> PrepareMigration(AgentDirectory& agents, keys::RandomSource& random,
                                                const store::MigrationRow& migration,
                                                const store::VmRow& vm,
                                                const std::string& destination_address,
                                                const std::string& trust_domain) {
  SEALIFT_ASSIGN_OR_RETURN(const keys::MigrationSpec spec, SpecOf(migration, trust_domain));
  SEALIFT_RETURN_IF_ERROR(keys::ValidateSpec(spec));
  SEALIFT_ASSIGN_OR_RETURN(const policy::EncryptionMode mode, StoredMode(migration.mode));
  SEALIFT_ASSIGN_OR_RETURN(const base::HostPort address,
                           base::ParseHostPort(destination_address, rpc::kAgentPort));
  SEALIFT_ASSIGN_OR_RETURN(const auto destination, agents.Connection(migration.destination));
  SEALIFT_ASSIGN_OR_RETURN(const auto source, agents.Connection(migration.source));

  const v1::MigrationSpec told = ToProto(spec, mode);
  const std::shared_future at_destination =
      std::async(std::launch::async, [&] {
        return destination->Call(&AgentConnection::Stub::PrepareDestination,
                                 DestinationRequest(told, vm, address.host), kPrepareDeadline);
      }).share();
  v1::PrepareSourceRequest to_source = SourceRequest(told, vm, migration.on_no_convergence);
  if (!PreparesEarly(agents.View(migration.source))) {
    SEALIFT_RETURN_IF_ERROR(at_destination.get().status());
    *to_source.mutable_data_addresses() = at_destination.get()->data_addresses();
  }
  const auto at_source =
      source->Call(&AgentConnection::Stub::PrepareSource, to_source, kPrepareDeadline);
  SEALIFT_RETURN_IF_ERROR(at_destination.get().status());
  SEALIFT_RETURN_IF_ERROR(at_source.status());

  MigrationStart start;
  const v1::PrepareDestinationResponse& offer = *at_destination.get();
  start.data_addresses.assign(offer.data_addresses().begin(), offer.data_addresses().end());
  SEALIFT_RETURN_IF_ERROR(
      SealFreshKey(random, spec, at_source->mover_public_key(), offer.mover_public_key(), start));
  return start;
}

}  // namespace sealift::controller
