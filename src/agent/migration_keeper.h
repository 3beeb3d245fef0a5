// The migrations of this host, in both roles, from the controller's first call until it says to
// forget them.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/live_migration.h"
#include "agent/orders.h"

namespace sealift::agent {

// A migration prepared but not started by then is undone: its controller is gone.
inline constexpr std::chrono::seconds kStartLimit{60};

struct MigrationSettings {
  MoverOptions mover;
  std::string self;               // our spiffe:// identity
  std::string migration_address;  // empty: what the controller says
  std::uint16_t first_port = 0;
  std::uint16_t last_port = 0;
  // How long a VM's next migration to here waits for the end of one that has just failed.
  std::chrono::milliseconds earlier_limit{5000};
};

// DestinationOffer is the answer to a prepared destination.
struct DestinationOffer {
  base::Bytes public_key;
  std::vector<base::HostPort> addresses;
};

// What the controller knows of the guest when it has a migration forgotten.
enum class GuestMoved { kUnknown, kYes };

// MigrationKeeper is thread-safe.
class MigrationKeeper {
 public:
  MigrationKeeper(MigrationSettings settings, const LiveMigrationParts& parts);

  // Recover takes up what an earlier agent left, after VmKeeper::Recover.
  [[nodiscard]] absl::Status Recover();

  // An order is refused, before anything is touched, unless it names this host in this role, a
  // migration that this host does not know yet, and a protection that the VM's mode allows: at the
  // source the mode that was stored with the VM, whatever the order says.
  [[nodiscard]] absl::StatusOr<DestinationOffer> PrepareDestination(const DestinationOrder& order);
  // Returns the mover's public key.
  [[nodiscard]] absl::StatusOr<base::Bytes> PrepareSource(const MigrationOrder& order);

  [[nodiscard]] absl::StatusOr<std::shared_ptr<LiveMigration>> Find(const std::string& id) const;
  [[nodiscard]] std::vector<MigrationView> List() const;
  // Tell hands the source's decision to a destination. A commit is refused before it has received
  // everything: no source commits earlier.
  [[nodiscard]] absl::Status Tell(const std::string& id, migration::Decision decision);
  // Forget drops the record of a migration that has ended. A committed source ends by it, and only
  // if the guest is known to run at the destination.
  [[nodiscard]] absl::Status Forget(const std::string& id, GuestMoved moved);

 private:
  using MigrationPtr = std::shared_ptr<LiveMigration>;

  // Holds the id of a migration that is being prepared, so that a repeated order finds it taken
  // before anything of the first one is touched.
  class Claim;

  // Reserve keeps memory for a VM that is to come, beside that of all others on their way to here,
  // until its migration has ended. FAILED_PRECONDITION when it does not fit.
  [[nodiscard]] absl::Status Reserve(const std::string& id,
                                     const hypervisor::VmDefinition& definition);
  // Waits until no earlier migration of the VM is left that is to run it here.
  [[nodiscard]] absl::Status WaitForEarlier(const std::string& vm) const;
  // Forgets what has ended of a VM that is to move again: a restart must not take up how it came
  // here while it leaves.
  [[nodiscard]] absl::Status ForgetEnded(const std::string& vm);
  // Drops the record of a migration in a final phase.
  [[nodiscard]] absl::Status Erase(LiveMigration& migration);
  [[nodiscard]] MigrationPtr Make(const MigrationOrder& order, MigrationRole role) const;
  [[nodiscard]] absl::Status Add(MigrationPtr migration);
  [[nodiscard]] std::vector<MigrationPtr> Migrations() const;
  // The part of PrepareSource that has the VM; on an error the caller gives it back.
  [[nodiscard]] absl::StatusOr<base::Bytes> PrepareLoan(const MigrationOrder& order,
                                                        const VmKeeper::Loan& loan,
                                                        const MigrationPtr& migration);
  [[nodiscard]] absl::Status CheckLoan(const MigrationOrder& order,
                                       const VmKeeper::Loan& loan) const;
  void UndoStale();

  const MigrationSettings settings_;
  const LiveMigrationParts parts_;

  mutable std::mutex mutex_;
  std::map<std::string, MigrationPtr> migrations_;  // guarded by mutex_
  // Ids being prepared, with the memory reserved for them, in bytes; guarded by mutex_.
  std::map<std::string, std::uint64_t> claimed_;
  std::jthread housekeeper_;
};

}  // namespace sealift::agent
