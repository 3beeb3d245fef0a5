// What users and joining hosts ask for, as far as it can be judged without looking anything up: no
// side effects. Errors are INVALID_ARGUMENT unless said otherwise, with the remedy.
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "policy/encryption.h"
#include "policy/rights.h"
#include "sealift/v1/controller.pb.h"
#include "store/store.h"

namespace sealift::controller {

// MigrationRequest is what a user asked for.
struct MigrationRequest {
  std::string vm;
  std::string to;
  std::uint32_t streams = 0;  // 0: the default
  v1::Engine engine = v1::ENGINE_UNSPECIFIED;
  v1::NoConvergence on_no_convergence = v1::NO_CONVERGENCE_UNSPECIFIED;
  std::string request_id;    // empty: none
  std::string requested_by;  // identity
  policy::Rights rights;     // of whoever asks
};

// Read gives the request of a call; who asks is left open.
[[nodiscard]] MigrationRequest Read(const v1::StartMigrationRequest& request);
[[nodiscard]] absl::Status CheckRequest(const MigrationRequest& request);
// WireId gives the 16 bytes of an id that a user writes as 32 hexadecimal digits.
[[nodiscard]] absl::StatusOr<std::string> WireId(const std::string& id);

// CheckRequest: a call names its VMs in one of three ways, and says what to change.
[[nodiscard]] absl::Status CheckRequest(const v1::SetVmsRequest& request);
// Changed is what a VM's row would be with a change under floors. FAILED_PRECONDITION where that is
// not allowed.
[[nodiscard]] absl::StatusOr<store::VmRow> Changed(const v1::VmChange& change,
                                                   const std::vector<policy::Floor>& floors,
                                                   store::VmRow row);

// How long to wait for a guest that is to shut down.
[[nodiscard]] absl::StatusOr<std::chrono::seconds> TimeoutOf(const v1::StopVmRequest& request);

// How long a join token is good; where the agent of a host listens, as host:port.
[[nodiscard]] absl::StatusOr<std::chrono::seconds> LifetimeOf(const v1::AddHostRequest& request);
[[nodiscard]] absl::StatusOr<std::string> AddressOf(const v1::AddHostRequest& request);

// The row of a user to be made; its time is left open.
[[nodiscard]] absl::StatusOr<store::UserRow> Read(const v1::AddUserRequest& request);

// Changed is what a group's row would be.
[[nodiscard]] absl::StatusOr<store::PolicyRow> Changed(const v1::SetPolicyRequest& request,
                                                       store::PolicyRow before);

}  // namespace sealift::controller
