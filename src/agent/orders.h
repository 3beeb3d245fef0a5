// What a controller orders, in our own types, and what an agent refuses of it whatever it knows. No
// side effects.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "base/bytes.h"
#include "base/socket.h"
#include "hypervisor/vm_definition.h"
#include "keys/migration_spec.h"
#include "migration/source_engine.h"
#include "policy/encryption.h"

namespace sealift::agent {

// How long a guest may take to shut down.
inline constexpr std::chrono::seconds kDefaultStopTimeout{60};
inline constexpr std::chrono::seconds kLongestStopTimeout = std::chrono::hours(1);

struct StopOrder {
  std::string vm;
  bool force = false;
  std::chrono::seconds timeout = kDefaultStopTimeout;
};

// MigrationOrder is for both sides of a migration.
struct MigrationOrder {
  keys::MigrationSpec spec;
  policy::EncryptionMode mode = policy::kDefaultMode;  // of the VM, as the controller holds it
  std::uint64_t policy_version = 0;                    // destination: of `mode`
  std::uint64_t epoch = 0;  // source: of the VM here; destination: once it runs here
  // Source.
  migration::NoConvergence on_no_convergence = migration::NoConvergence::kThrottle;
  std::vector<base::HostPort> destinations{};  // where the destination listens, if told so early
};

struct DestinationOrder {
  MigrationOrder migration;
  hypervisor::VmDefinition definition;
  std::string listen_address;  // unless our own file names one
};

// StartOrder hands over the key.
struct StartOrder {
  std::string migration;  // 32 hexadecimal digits
  base::Bytes sealed_key;
  // Source.
  std::vector<base::HostPort> destinations;  // where the destination listens
  std::string receipt;                       // what it is given with the commit
};

// CheckAddressee refuses an order that is meant for another host than `self`, in the role in which
// its spec names `meant_for`, and one for more streams than a mover has.
[[nodiscard]] absl::Status CheckAddressee(const MigrationOrder& order, const std::string& meant_for,
                                          const std::string& self);

// CheckProtection refuses to move a VM in the clear whose mode does not allow it, whoever wants it.
[[nodiscard]] absl::Status CheckProtection(const MigrationOrder& order,
                                           policy::EncryptionMode mode);

// CheckMode refuses a weaker mode than the one stored here: at the destination it would become the
// VM's.
[[nodiscard]] absl::Status CheckMode(const MigrationOrder& order, policy::EncryptionMode stored);

}  // namespace sealift::agent
