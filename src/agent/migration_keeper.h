// The migrations of this host, in both roles, from the controller's first call until it says to
// forget them.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
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
  std::string self;                              // our spiffe:// identity
  std::vector<std::string> migration_addresses;  // empty: what the controller says
  std::uint16_t first_port = 0;
  std::uint16_t last_port = 0;
  // How long a VM's next migration waits for the end of the one to here before it.
  std::chrono::milliseconds earlier_limit{5000};
  // How long a call to forget a migration waits for its end.
  std::chrono::milliseconds forget_limit{2000};
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
  MigrationKeeper(MigrationSettings settings, LiveMigrationParts parts);

  // Recover takes up what an earlier agent left, after VmKeeper::Recover, and ends the processes
  // that no record names: their VMs may run elsewhere.
  [[nodiscard]] absl::Status Recover();

  // An order is refused, before anything is touched, unless it names this host in this role, a
  // migration that this host does not know yet, and a protection that the VM's mode allows: at the
  // source the mode that was stored with the VM, whatever the order says.
  [[nodiscard]] absl::StatusOr<DestinationOffer> PrepareDestination(const DestinationOrder& whole);
  // Returns the mover's public key.
  [[nodiscard]] absl::StatusOr<base::Bytes> PrepareSource(const MigrationOrder& order);

  [[nodiscard]] absl::StatusOr<std::shared_ptr<LiveMigration>> Find(const std::string& id) const;
  [[nodiscard]] std::vector<MigrationView> List() const;
  // Tell hands the source's decision to a destination. A commit is refused before it has received
  // everything: no source commits earlier.
  [[nodiscard]] absl::Status Tell(const std::string& id, migration::Decision decision) const;
  // Forget drops the record of a migration that has ended. A committed source ends by it, and only
  // if the guest is known to run at the destination. FAILED_PRECONDITION when it does not end soon.
  [[nodiscard]] absl::Status Forget(const std::string& id, GuestMoved moved);
  // Leave cancels what can be cancelled and waits for the ends of all, for `limit` at most. It is
  // for an agent that ends: no guest is to stand still for one that nobody may start again.
  void Leave(base::Duration limit);

 private:
  using MigrationPtr = std::shared_ptr<LiveMigration>;

  // Holds the id of a migration that is being prepared, so that a repeated order finds it taken
  // before anything of the first one is touched.
  class Claim;

  // Waits until no earlier migration of the VM to here is under way.
  [[nodiscard]] absl::Status WaitForEarlier(const std::string& vm) const;
  // Forgets what has ended of a VM that is to move again: a restart must not take up how it came
  // here while it leaves.
  [[nodiscard]] absl::Status ForgetEnded(const std::string& vm);
  void EndStray(const hypervisor::VmDefinition& definition) const;
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
  // Listens on each of our migration addresses, but for those that the host does not have right
  // now.
  [[nodiscard]] absl::StatusOr<std::vector<NetworkListener>> Listen(
      const std::string& default_address) const;
  void UndoStale();

  const MigrationSettings settings_;
  const LiveMigrationParts parts_;

  mutable std::mutex mutex_;
  std::map<std::string, MigrationPtr> migrations_;  // guarded by mutex_
  std::set<std::string> claimed_;                   // ids being prepared; guarded by mutex_
  std::vector<std::jthread> ending_strays_;         // set by Recover
  std::jthread housekeeper_;
};

}  // namespace sealift::agent
