#include "agent/requests.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/status.h"

namespace sealift::agent {
namespace {

constexpr int kMaxAddresses = 16;
constexpr std::size_t kMaxAddress = 256;
constexpr std::size_t kMaxSealedKey = 1024;
constexpr std::size_t kMaxReceipt = 64;

absl::Status Wrong(std::string_view field, std::string_view why) {
  return absl::InvalidArgumentError(fmt::format("{}: {}", field, why));
}

absl::StatusOr<policy::EncryptionMode> ModeOf(v1::EncryptionMode mode, std::string_view field) {
  switch (mode) {
    case v1::ENCRYPTION_MODE_DISABLED:
      return policy::EncryptionMode::kDisabled;
    case v1::ENCRYPTION_MODE_OPPORTUNISTIC:
      return policy::EncryptionMode::kOpportunistic;
    case v1::ENCRYPTION_MODE_REQUIRED:
      return policy::EncryptionMode::kRequired;
    default:
      return Wrong(field, "not a mode this agent knows");
  }
}

absl::StatusOr<migration::NoConvergence> FromProto(v1::NoConvergence what) {
  switch (what) {
    case v1::NO_CONVERGENCE_UNSPECIFIED:
    case v1::NO_CONVERGENCE_THROTTLE:
      return migration::NoConvergence::kThrottle;
    case v1::NO_CONVERGENCE_FAIL:
      return migration::NoConvergence::kFail;
    default:
      return Wrong("on_no_convergence", "not one this agent knows");
  }
}

using Texts = google::protobuf::RepeatedPtrField<std::string>;

absl::StatusOr<std::vector<base::HostPort>> AddressesOf(const Texts& texts) {
  if (texts.size() > kMaxAddresses) return Wrong("data_addresses", "too many");
  std::vector<base::HostPort> addresses;
  for (const std::string& text : texts) {
    if (text.size() > kMaxAddress) return Wrong("data_addresses", "too long");
    SEALIFT_ASSIGN_OR_RETURN(base::HostPort address, base::ParseHostPort(text, 0));
    if (address.port == 0) return Wrong("data_addresses", "without a port");
    addresses.push_back(std::move(address));
  }
  return addresses;
}

}  // namespace

absl::StatusOr<hypervisor::VmDefinition> FromProto(const v1::CheckVmRequest& request) {
  return hypervisor::ParseVmDefinition(request.definition_yaml());
}

absl::StatusOr<VmRecord> FromProto(const v1::PutVmRequest& request) {
  VmRecord record;
  SEALIFT_ASSIGN_OR_RETURN(record.definition,
                           hypervisor::ParseVmDefinition(request.definition_yaml()));
  SEALIFT_ASSIGN_OR_RETURN(record.mode, ModeOf(request.encryption(), "encryption"));
  record.epoch = request.epoch();
  record.policy_version = request.policy_version();
  return record;
}

absl::StatusOr<StopOrder> FromProto(const v1::AgentStopVmRequest& request) {
  StopOrder order{request.name(), request.force(), kDefaultStopTimeout};
  if (request.timeout_s() != 0) order.timeout = std::chrono::seconds(request.timeout_s());
  if (order.timeout <= kLongestStopTimeout) return order;
  return Wrong("timeout_s", fmt::format("at most {}", kLongestStopTimeout.count()));
}

absl::StatusOr<MigrationOrder> FromProto(const v1::MigrationSpec& spec) {
  MigrationOrder order;
  if (spec.id().size() != order.spec.id.size()) return Wrong("spec.id", "must have 16 bytes");
  std::ranges::copy(base::AsBytes(spec.id()), order.spec.id.begin());
  if (spec.engine() != v1::ENGINE_STREAM && spec.engine() != v1::ENGINE_DIRECT) {
    return Wrong("spec.engine", "not an engine this agent knows");
  }
  if (spec.streams() > 0xFFFF) return Wrong("spec.streams", "too many");
  order.spec.vm = spec.vm();
  order.spec.source = spec.source();
  order.spec.destination = spec.destination();
  order.spec.protection = spec.plain() ? keys::Protection::kPlain : keys::Protection::kSealed;
  order.spec.engine =
      spec.engine() == v1::ENGINE_STREAM ? keys::Engine::kStream : keys::Engine::kDirect;
  order.spec.streams = static_cast<std::uint16_t>(spec.streams());
  SEALIFT_RETURN_IF_ERROR(keys::ValidateSpec(order.spec));
  SEALIFT_ASSIGN_OR_RETURN(order.mode, ModeOf(spec.mode(), "spec.mode"));
  return order;
}

absl::StatusOr<DestinationOrder> FromProto(const v1::PrepareDestinationRequest& request) {
  DestinationOrder order;
  SEALIFT_ASSIGN_OR_RETURN(order.migration, FromProto(request.spec()));
  order.migration.epoch = request.epoch();
  order.migration.policy_version = request.policy_version();
  SEALIFT_ASSIGN_OR_RETURN(order.definition,
                           hypervisor::ParseVmDefinition(request.definition_yaml()));
  if (order.definition.name != order.migration.spec.vm) {
    return Wrong("spec.vm", "is not the VM of the definition");
  }
  if (request.listen_address().size() > kMaxAddress) return Wrong("listen_address", "too long");
  order.listen_address = request.listen_address();
  return order;
}

absl::StatusOr<MigrationOrder> FromProto(const v1::PrepareSourceRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(MigrationOrder order, FromProto(request.spec()));
  order.epoch = request.epoch();
  SEALIFT_ASSIGN_OR_RETURN(order.on_no_convergence, FromProto(request.on_no_convergence()));
  SEALIFT_ASSIGN_OR_RETURN(order.destinations, AddressesOf(request.data_addresses()));
  return order;
}

absl::StatusOr<StartOrder> FromProto(const v1::StartAgentMigrationRequest& request) {
  StartOrder order;
  SEALIFT_ASSIGN_OR_RETURN(order.migration, MigrationIdText(request.id()));
  if (request.sealed_key().size() > kMaxSealedKey) return Wrong("sealed_key", "too long");
  const base::ByteSpan sealed = base::AsBytes(request.sealed_key());
  order.sealed_key.assign(sealed.begin(), sealed.end());
  SEALIFT_ASSIGN_OR_RETURN(order.destinations, AddressesOf(request.data_addresses()));
  if (request.receipt().size() > kMaxReceipt) return Wrong("receipt", "too long");
  order.receipt = request.receipt();
  return order;
}

absl::StatusOr<migration::Decision> FromProto(v1::Decision decision) {
  switch (decision) {
    case v1::DECISION_COMMIT:
      return migration::Decision::kCommit;
    case v1::DECISION_ABORT:
      return migration::Decision::kAbort;
    default:
      return Wrong("decision", "neither commit nor abort");
  }
}

absl::StatusOr<std::string> MigrationIdText(const std::string& id) {
  if (id.size() != keys::MigrationId{}.size()) return Wrong("id", "must have 16 bytes");
  return base::ToHex(base::AsBytes(id));
}

}  // namespace sealift::agent
