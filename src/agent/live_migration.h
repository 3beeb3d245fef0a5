// One migration on this host, in one role: its mover, its process, its ledger, and the thread that
// runs its state machine.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/migration_record.h"
#include "agent/mover_process.h"
#include "agent/orders.h"
#include "agent/vm_keeper.h"
#include "base/clock.h"
#include "keys/migration_spec.h"
#include "migration/board.h"
#include "migration/destination.h"
#include "migration/source.h"

namespace sealift::agent {

// MigrationView is a look at one migration.
struct MigrationView {
  std::string id;
  std::string vm;
  MigrationRole role = MigrationRole::kSource;
  std::string aead_backend;
  migration::Snapshot snapshot;
  bool started = false;
};

// StepHook is called before and after each durable step of a migration, on whatever thread takes
// it.
enum class StepEdge { kBefore, kAfter };
using StepHook = std::function<void(StepEdge, migration::LedgerStep)>;

// LiveMigrationParts are shared by all migrations of an agent.
struct LiveMigrationParts {
  hypervisor::Hypervisor& hypervisor;
  VmKeeper& vms;
  const MigrationLog& log;
  const base::Clock& clock;
  StepHook on_step = {};  // none: nobody is told
};

// LiveMigration is thread-safe, except that it is prepared before anybody else sees it.
//
//   Prepare… ─▶ Start ─▶ (state machine on its own thread) ─▶ final phase
//       └─ Cancel, or nobody starts it ─▶ Undo ─▶ cancelled
class LiveMigration {
 public:
  LiveMigration(MigrationRecord record, keys::MigrationSpec spec,
                migration::NoConvergence on_no_convergence, const LiveMigrationParts& parts);
  LiveMigration(const LiveMigration&) = delete;
  LiveMigration& operator=(const LiveMigration&) = delete;
  ~LiveMigration();

  // PrepareSource takes the loan and a mover, and where the destination listens if that is known.
  // As the next, it returns the mover's public key.
  [[nodiscard]] absl::StatusOr<base::Bytes> PrepareSource(const VmKeeper::Loan& loan,
                                                          std::unique_ptr<MoverProcess> mover,
                                                          std::vector<base::HostPort> destinations);
  // PrepareDestination writes the record, then starts the process that waits for the guest. After
  // an error it is undone, or, when that process does not end, on its way to a final phase.
  [[nodiscard]] absl::StatusOr<base::Bytes> PrepareDestination(
      const hypervisor::VmDefinition& definition, std::unique_ptr<MoverProcess> mover,
      std::vector<NetworkListener> network_listeners);
  // Start hands the sealed key to the mover and lets the state machine go. Once. A source is given
  // the addresses where the destination listens, unless it had them before, a destination none.
  [[nodiscard]] absl::Status Start(StartOrder order);
  // Cancel undoes what is only prepared, else asks the state machine. It does not wait for it.
  [[nodiscard]] absl::Status Cancel();
  // UndoIfStale undoes a migration that nobody has started for `limit`.
  void UndoIfStale(base::Duration limit);
  // Recover takes up what an earlier agent wrote down: undone before the commit, finished after it.
  void Recover();
  // Tell hands over a decision; WaitForEnd says whether a final phase is reached within `limit`,
  // and Join waits for the thread, which ends soon after that.
  void Tell(migration::Decision decision) { board_->Tell(decision); }
  [[nodiscard]] bool WaitForEnd(base::Duration limit) const;
  void Join();

  [[nodiscard]] MigrationView View() const;
  [[nodiscard]] const std::shared_ptr<migration::Board>& board() const { return board_; }
  [[nodiscard]] const std::string& id() const { return record_.id; }
  [[nodiscard]] const std::string& vm() const { return record_.vm; }
  [[nodiscard]] MigrationRole role() const { return record_.role; }

 private:
  class LedgerFile;

  [[nodiscard]] absl::StatusOr<base::Bytes> WaitOffer();
  // Where the guest's process and the mover meet: the mover's at the source, else the process's.
  [[nodiscard]] std::string SocketPath() const;
  // The part of PrepareDestination that Undo undoes.
  [[nodiscard]] absl::StatusOr<base::Bytes> StartIncoming(
      const hypervisor::VmDefinition& definition);
  [[nodiscard]] absl::Status StartSource(StartOrder order);
  [[nodiscard]] absl::Status StartDestination(base::Bytes sealed_key);
  void Undo(const std::string& why);
  // False when the process does not end: then the state machine has it.
  [[nodiscard]] bool UndoIncoming();
  void RunSource(migration::SourcePhase phase);
  void RunDestination(migration::DestinationPhase phase);
  void RecoverSource();
  void RecoverDestination();
  void RecoverOwned();
  // Find takes the process that was looked for, or leaves vm_ empty where there certainly is none.
  [[nodiscard]] absl::Status Find(absl::StatusOr<std::shared_ptr<hypervisor::Vm>> vm);
  [[nodiscard]] absl::Status AdoptIncoming();
  void Discard();
  void AwaitDecisionWithoutProcess();
  void PostPhase(migration::PhaseName phase, const std::string& detail);
  [[nodiscard]] bool Ended() const;
  [[nodiscard]] absl::Status WriteStep(migration::LedgerStep step);
  [[nodiscard]] absl::Status StoreStep(migration::LedgerStep step);
  [[nodiscard]] absl::Status Own();
  [[nodiscard]] migration::MoverLink& Link();

  // Its id, vm and role never change; its step belongs to whoever drives: first the caller, then
  // the thread.
  MigrationRecord record_;
  const keys::MigrationSpec spec_;
  const migration::NoConvergence on_no_convergence_;
  const LiveMigrationParts parts_;
  const std::shared_ptr<migration::Board> board_;
  const base::Duration prepared_at_;
  std::string aead_backend_;

  std::mutex start_mutex_;             // between Start, Cancel, UndoIfStale and Join
  std::atomic<bool> started_ = false;  // changed under start_mutex_

  // Of the caller until Start, of the thread afterwards.
  std::unique_ptr<MoverProcess> mover_;
  std::shared_ptr<hypervisor::Vm> vm_;
  std::vector<NetworkListener> network_listeners_;  // destination
  std::vector<base::HostPort> destinations_;        // source
  std::string receipt_;                             // source: for the destination

  std::thread thread_;  // guarded by start_mutex_
};

}  // namespace sealift::agent
