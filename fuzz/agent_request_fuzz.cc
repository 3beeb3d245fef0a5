// What somebody with a controller's certificate may send to an agent. It is refused as
// INVALID_ARGUMENT, or an order comes out of it that holds together: then what is checked of an
// order before anything is touched runs as well.
//
// The input: one byte that names the message, then its bytes.
#include <cstddef>
#include <cstdint>
#include <string>

#include "agent/requests.h"
#include "base/check.h"

namespace {

using namespace sealift;
using namespace sealift::agent;

constexpr char kSelf[] = "spiffe://sealift/host/a";

void CheckMigration(const MigrationOrder& order) {
  SEALIFT_CHECK(keys::ValidateSpec(order.spec).ok());
  SEALIFT_CHECK(!keys::CanonicalEncoding(order.spec).empty());
  for (const std::string& role : {order.spec.source, order.spec.destination}) {
    SEALIFT_CHECK(!CheckAddressee(order, role, kSelf).ok() || role == kSelf);
  }
  // Whatever was sent, a VM that must be encrypted does not move in the clear.
  const auto required = policy::EncryptionMode::kRequired;
  SEALIFT_CHECK(!CheckProtection(order, required).ok() ||
                order.spec.protection == keys::Protection::kSealed);
  SEALIFT_CHECK(!CheckMode(order, required).ok() || order.mode == required);
}

void Check(const hypervisor::VmDefinition& definition) {
  SEALIFT_CHECK(hypervisor::ParseVmDefinition(hypervisor::FormatVmDefinition(definition)).ok());
}
void Check(const VmRecord& record) { Check(record.definition); }
void Check(const StopOrder& order) {
  SEALIFT_CHECK(order.timeout.count() > 0 && order.timeout <= kLongestStopTimeout);
}
void Check(const MigrationOrder& order) { CheckMigration(order); }
void Check(const DestinationOrder& order) {
  CheckMigration(order.migration);
  SEALIFT_CHECK(order.definition.name == order.migration.spec.vm);
}
void Check(const StartOrder& order) {
  SEALIFT_CHECK(order.migration.size() == 32);
  for (const base::HostPort& address : order.destinations) {
    SEALIFT_CHECK(!address.host.empty() && address.port != 0);
  }
}

template <typename Request>
void Receive(const std::string& bytes) {
  Request request;
  if (!request.ParseFromString(bytes)) return;
  const auto order = FromProto(request);
  if (!order.ok()) return SEALIFT_CHECK(absl::IsInvalidArgument(order.status()));
  Check(*order);
}

void ReceiveDecision(const std::string& bytes) {
  v1::TellDecisionRequest request;
  if (!request.ParseFromString(bytes)) return;
  (void)MigrationIdText(request.id());
  const bool known =
      request.decision() == v1::DECISION_COMMIT || request.decision() == v1::DECISION_ABORT;
  SEALIFT_CHECK(FromProto(request.decision()).ok() == known);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr void (*kMessages[])(const std::string&) = {Receive<v1::CheckVmRequest>,
                                                       Receive<v1::PutVmRequest>,
                                                       Receive<v1::AgentStopVmRequest>,
                                                       Receive<v1::PrepareDestinationRequest>,
                                                       Receive<v1::PrepareSourceRequest>,
                                                       Receive<v1::StartAgentMigrationRequest>,
                                                       ReceiveDecision};
  if (size == 0 || data[0] >= std::size(kMessages)) return 0;
  kMessages[data[0]](std::string(reinterpret_cast<const char*>(data) + 1, size - 1));
  return 0;
}
