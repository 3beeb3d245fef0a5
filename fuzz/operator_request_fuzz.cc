// What a user, or a host that wants to join, may send to the controller, as far as it is judged
// without the store. What is accepted keeps the promises of those who go on with it.
//
// The input: one byte that names the message, then its bytes.
#include <cstddef>
#include <cstdint>
#include <string>

#include "base/check.h"
#include "base/label.h"
#include "base/socket.h"
#include "controller/requests.h"
#include "hypervisor/vm_definition.h"
#include "pki/identity.h"

namespace {

using namespace sealift;
using namespace sealift::controller;

void RefusedAsInvalid(const absl::Status& status) {
  SEALIFT_CHECK(absl::IsInvalidArgument(status));
}

void Receive(const v1::StartMigrationRequest& request) {
  const absl::Status status = CheckRequest(Read(request));
  if (!status.ok()) return RefusedAsInvalid(status);
  SEALIFT_CHECK(v1::Engine_IsValid(request.engine()) && request.request_id().size() <= 128);
}

void Receive(const v1::GetMigrationRequest& request) {
  const absl::StatusOr<std::string> id = WireId(request.id());
  SEALIFT_CHECK(id.ok() ? id->size() == 16 : absl::IsInvalidArgument(id.status()));
}

// A change of a VM whose mode must not fall below opportunistic.
void ApplyTo(const v1::VmChange& change, const std::string& definition) {
  store::VmRow row;
  row.name = "web1";
  row.definition = definition;
  row.encryption = "required";
  const std::vector<policy::Floor> floors{
      {"the installation", policy::EncryptionMode::kOpportunistic}};
  const absl::StatusOr<store::VmRow> after = Changed(change, floors, row);
  if (!after.ok()) {
    return SEALIFT_CHECK(absl::IsInvalidArgument(after.status()) ||
                         absl::IsFailedPrecondition(after.status()));
  }
  const auto mode = policy::ParseMode(after->encryption);
  SEALIFT_CHECK(mode && *mode >= policy::EncryptionMode::kOpportunistic);
  const auto changed = hypervisor::ParseVmDefinition(after->definition);
  SEALIFT_CHECK(changed.ok() && changed->labels.size() <= base::kMaxLabels);
  SEALIFT_CHECK(!changed->encrypted || *mode == policy::EncryptionMode::kRequired);
}

void Receive(const v1::SetVmsRequest& request) {
  const absl::Status status = CheckRequest(request);
  if (!status.ok()) return RefusedAsInvalid(status);
  SEALIFT_CHECK(request.changes().empty() == request.has_change());
  for (const char* definition :
       {"name: web1\nmemory: 64MiB\n", "name: web1\nmemory: 64MiB\nencrypted: true\n"}) {
    for (const v1::VmChange& change : request.changes()) ApplyTo(change, definition);
    if (request.has_change()) ApplyTo(request.change(), definition);
  }
}

void Receive(const v1::StopVmRequest& request) {
  const auto timeout = TimeoutOf(request);
  if (!timeout.ok()) return RefusedAsInvalid(timeout.status());
  SEALIFT_CHECK(timeout->count() > 0 && *timeout <= std::chrono::hours(1));
}

void Receive(const v1::AddHostRequest& request) {
  (void)pki::CheckName("host", request.name());
  const auto lifetime = LifetimeOf(request);
  SEALIFT_CHECK(lifetime.ok() ? lifetime->count() > 0 : absl::IsInvalidArgument(lifetime.status()));
  const auto address = AddressOf(request);
  if (!address.ok()) return RefusedAsInvalid(address.status());
  SEALIFT_CHECK(base::ParseHostPort(*address, 0).ok());
}

void Receive(const v1::AddUserRequest& request) {
  const auto row = Read(request);
  if (!row.ok()) return RefusedAsInvalid(row.status());
  SEALIFT_CHECK(pki::CheckName("user", row->name).ok());
  SEALIFT_CHECK(policy::ParseUserRole(row->role).has_value());
  SEALIFT_CHECK(policy::ParseRights(row->rights).ok());
}

void Receive(const v1::SetPolicyRequest& request) {
  const auto row = Changed(request, {request.group(), "required", ""});
  if (!row.ok()) return RefusedAsInvalid(row.status());
  SEALIFT_CHECK(row->floor.empty() || policy::ParseMode(row->floor).has_value());
  SEALIFT_CHECK(request.has_floor() || row->floor == "required");
}

void Receive(const v1::CreateVmRequest& request) {
  const auto definition = hypervisor::ParseVmDefinition(request.definition_yaml());
  if (definition.ok()) SEALIFT_CHECK(!definition->name.empty() && definition->memory_bytes > 0);
}

template <typename Request>
void Parse(const std::string& bytes) {
  Request request;
  if (request.ParseFromString(bytes)) Receive(request);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr void (*kMessages[])(const std::string&) = {
      Parse<v1::StartMigrationRequest>, Parse<v1::GetMigrationRequest>, Parse<v1::SetVmsRequest>,
      Parse<v1::StopVmRequest>,         Parse<v1::AddHostRequest>,      Parse<v1::AddUserRequest>,
      Parse<v1::SetPolicyRequest>,      Parse<v1::CreateVmRequest>};
  if (size == 0 || data[0] >= std::size(kMessages)) return 0;
  kMessages[data[0]](std::string(reinterpret_cast<const char*>(data) + 1, size - 1));
  return 0;
}
