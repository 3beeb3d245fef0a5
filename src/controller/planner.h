// Pre-checks of a migration: pure decisions over what the controller knows, made before anything is
// touched.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hypervisor/vm_definition.h"
#include "policy/encryption.h"
#include "sealift/v1/controller.pb.h"

namespace sealift::controller {

// QEMU's main channel, which carries all of the guest unless there are more (decision 0005).
inline constexpr std::uint32_t kDefaultStreams = 1;
// An agent from before the direct engine takes no fewer: one of them is a channel of multifd.
inline constexpr std::uint32_t kStreamsOfEarlierAgents = 2;
// The direct engine: QEMU's channel, and at least one that carries pages.
inline constexpr std::uint32_t kMinDirectStreams = 2;
inline constexpr std::uint32_t kDefaultDirectStreams = 3;
// Chosen by us: more connections than this do not move a guest faster.
inline constexpr std::uint32_t kMaxStreams = 32;

// HostReach says whether a host can be talked to.
enum class HostReach { kNotJoined, kUnreachable, kReady };

// HostFacts is what is known of one host: the last report of its agent, or why there is none.
struct HostFacts {
  std::string name;
  HostReach reach = HostReach::kNotJoined;
  std::string reason;  // why it is unreachable
  v1::HostCapabilities capabilities;
  bool draining = false;
};

// MigrationQuestion is everything the decision depends on.
struct MigrationQuestion {
  hypervisor::VmDefinition vm;
  policy::EffectiveMode mode;  // under the floors of both hosts
  v1::VmState state = v1::VM_STATE_UNKNOWN;
  bool direct = false;        // the direct engine can move the VM's memory, as its agent says
  std::string direct_reason;  // why not
  v1::Engine engine = v1::ENGINE_UNSPECIFIED;      // asked for; unspecified: as the definition says
  std::optional<std::string> migration_under_way;  // its id
  HostFacts source;
  HostFacts destination;
  std::uint32_t streams = 0;  // 0: the default of the engine
};

// MigrationPlan is how the VM will move.
struct MigrationPlan {
  policy::EncryptionDecision encryption;  // kEncrypted or kPlain
  v1::Engine engine = v1::ENGINE_STREAM;
  std::string engine_reason;
  std::uint32_t streams = kDefaultStreams;
};

// PlanMigration returns the plan, or the first reason against it: FAILED_PRECONDITION with a text
// that names VM, host, cause and remedy (INVALID_ARGUMENT for a stream count out of range).
[[nodiscard]] absl::StatusOr<MigrationPlan> PlanMigration(const MigrationQuestion& question);

// ForecastMove says how a move would go now if the VM ran, with memory for the engine it wants, and
// nothing else were under way.
[[nodiscard]] v1::MoveForecast ForecastMove(const MigrationQuestion& question);

// CapabilityOf reads the encryption capability off an agent's report.
[[nodiscard]] policy::EncryptionCapability CapabilityOf(const std::string& host,
                                                        const v1::HostCapabilities& capabilities);

// NoSuchVm and NoSuchHost are the NOT_FOUND of a name that is not in the store.
[[nodiscard]] absl::Status NoSuchVm(std::string_view name);
[[nodiscard]] absl::Status NoSuchHost(std::string_view name);

}  // namespace sealift::controller
