// The VMs of this host: their records, their processes, and who may touch them right now.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/inventory.h"
#include "agent/state_probe.h"
#include "agent/turns.h"
#include "base/unique_fd.h"
#include "hypervisor/hypervisor.h"

namespace sealift::agent {

// VmStatus as reported to the controller.
enum class VmStatus {
  kStopped,
  kRunning,
  kPaused,
  kCrashed,
  kMigrating,
  kUnknown,  // it may have a process, which cannot be found out about
};

// VmView is a look at one VM.
struct VmView {
  std::string name;
  std::string uuid;
  std::uint64_t epoch = 0;
  policy::EncryptionMode mode = policy::kDefaultMode;
  std::uint64_t policy_version = 0;
  VmStatus status = VmStatus::kStopped;
  std::string reason;
  bool direct = false;        // it runs with memory that the direct engine can move
  std::string direct_reason;  // why not; empty when it does not run
  // It asks to be started and was running when the host went down. Not ours to decide: its owner
  // may be another host by now.
  bool autostart_due = false;
};

// VmKeeper is thread-safe. Calls on a VM that is being migrated are refused with
// FAILED_PRECONDITION naming the migration. Storage that hangs holds up the VM it belongs to, and
// no other: what changes one VM has its turn, and no lock is held meanwhile.
class VmKeeper {
 public:
  // `hypervisor` and `inventory` must outlive it.
  VmKeeper(hypervisor::Hypervisor& hypervisor, const Inventory& inventory, std::string boot_id);
  VmKeeper(const VmKeeper&) = delete;
  VmKeeper& operator=(const VmKeeper&) = delete;
  ~VmKeeper();

  // Recover loads the inventory and adopts what runs. A VM that ran and whose process is gone is
  // crashed, also when it went down with the host. One of which that is not certain is unknown, and
  // left alone until the next agent.
  [[nodiscard]] absl::Status Recover();

  // Put stores a VM or replaces its definition and mode. ABORTED for an epoch, or a version of the
  // mode, below the one held. A VM that is being migrated keeps its epoch, by which a restarted
  // agent knows that it is still the one of the migration.
  [[nodiscard]] absl::StatusOr<VmView> Put(VmRecord record);
  // Record gives what is stored of a VM.
  [[nodiscard]] absl::StatusOr<VmRecord> Record(const std::string& name);
  // Start takes as long as the VM's storage does. Put and Forget are refused meanwhile.
  [[nodiscard]] absl::StatusOr<VmView> Start(const std::string& name);
  // PowerDown presses the power button and waits for the guest. DEADLINE_EXCEEDED when it does not
  // react. Of what has stopped it is on the disk that it has, as after ForceOff.
  [[nodiscard]] absl::StatusOr<VmView> PowerDown(const std::string& name,
                                                 std::chrono::seconds timeout);
  // ForceOff ends the process.
  [[nodiscard]] absl::StatusOr<VmView> ForceOff(const std::string& name);
  [[nodiscard]] absl::Status Forget(const std::string& name);
  [[nodiscard]] absl::StatusOr<VmView> Get(const std::string& name);
  // LetGoOn lets every guest go on that stands still and is lent to nobody: nobody stops one here
  // for good, so it was its storage, which was full, or locked when the guest arrived. To be called
  // again and again.
  void LetGoOn();
  // List takes little more than kAnswerLimit, however many processes do not answer: such a VM is as
  // it was last seen, with a reason that says so.
  [[nodiscard]] std::vector<VmView> List();
  [[nodiscard]] absl::StatusOr<base::UniqueFd> OpenConsole(const std::string& name);

  // -- For migrations.

  // Loan of a VM to a migration: its record and its process.
  struct Loan {
    VmRecord record;
    std::shared_ptr<hypervisor::Vm> vm;
  };
  // Lend gives a running VM to one migration. FAILED_PRECONDITION when it does not run, is lent
  // already or is just being changed.
  [[nodiscard]] absl::StatusOr<Loan> Lend(const std::string& name, const std::string& migration);
  // Hold is Lend after a restart: also of a VM that does not run. NOT_FOUND when it has no process,
  // or is not here any more, and another error when that is not certain.
  [[nodiscard]] absl::StatusOr<std::shared_ptr<hypervisor::Vm>> Hold(const std::string& name,
                                                                     const std::string& migration);
  // Return takes it back: it stays here.
  void Return(const std::string& name);
  // Release removes a lent VM, which lives elsewhere now. Harmless when it is gone.
  [[nodiscard]] absl::Status Release(const std::string& name);
  // MakeRoom is for a VM that is to arrive under an epoch: a copy from an earlier one, which nobody
  // runs or moves, goes. ALREADY_EXISTS when there is another one, FAILED_PRECONDITION when it is
  // not known whether it runs.
  [[nodiscard]] absl::Status MakeRoom(const std::string& name, std::uint64_t epoch);
  // Own takes in a VM that has arrived, under its new epoch; without a process it counts as
  // crashed.
  [[nodiscard]] absl::Status Own(VmRecord record, const std::shared_ptr<hypervisor::Vm>& vm);
  [[nodiscard]] bool Has(const std::string& name) const;
  // Holds is Has under that epoch: it is not a later, or an earlier, stay of the VM.
  [[nodiscard]] bool Holds(const std::string& name, std::uint64_t epoch) const;

 private:
  struct Entry {
    VmRecord record;
    std::shared_ptr<hypervisor::Vm> vm;    // the last process, if any
    std::shared_ptr<StateProbe> probe;     // of vm
    std::optional<hypervisor::Exit> exit;  // how it ended
    absl::Status shared_memory;            // of vm: why it has none
    std::string reason;                    // why it does not run
    absl::Status adoption;                 // not OK: whether it has a process is not known
    std::string migration;                 // lent to
    [[nodiscard]] bool HasProcess() const { return vm != nullptr && !exit; }
  };

  // Listener stands between the processes, which outlive the keeper and tell of their end in
  // threads of their own, and the keeper.
  struct Listener {
    std::shared_mutex mutex;     // shared: several processes may end at once
    VmKeeper* keeper = nullptr;  // null once it is gone; guarded by mutex
  };

  [[nodiscard]] absl::Status LetGoOn(const std::string& name);
  [[nodiscard]] absl::StatusOr<Entry*> Find(const std::string& name);
  // FindCertain is Find where it is known whether the VM has a process, FindFree also not lent.
  [[nodiscard]] absl::StatusOr<Entry*> FindCertain(const std::string& name);
  [[nodiscard]] absl::StatusOr<Entry*> FindFree(const std::string& name);
  [[nodiscard]] absl::StatusOr<std::shared_ptr<hypervisor::Vm>> ProcessOf(const std::string& name);
  // Boot writes the record first: a process must not be there before it.
  [[nodiscard]] absl::StatusOr<std::shared_ptr<hypervisor::Vm>> Boot(const VmRecord& record);
  [[nodiscard]] absl::StatusOr<VmRecord> RecordToStart(const std::string& name);
  [[nodiscard]] absl::Status CheckReplaces(const VmRecord& record) const;
  [[nodiscard]] absl::Status WaitForExit(const std::string& name, std::chrono::seconds timeout);
  void Recover(VmRecord record);
  [[nodiscard]] bool AutostartIsDue(const Entry& entry) const;
  // SetEntry puts a VM that runs in the place of what is known of it.
  void SetEntry(VmRecord record, const std::shared_ptr<hypervisor::Vm>& vm);
  [[nodiscard]] absl::Status Remove(const std::string& name);
  [[nodiscard]] Entry* FindProcess(const std::string& name, const hypervisor::Vm* vm);
  // WriteOff writes down that a process was seen to end: a VM that is not known to have stopped
  // counts as one that runs.
  [[nodiscard]] absl::Status WriteOff(const std::string& name, const hypervisor::Vm* vm);
  void OnExit(const std::string& name, const hypervisor::Vm* vm, hypervisor::Exit how);
  // Asks a process that nobody else has to be asked about.
  static void Ask(const Entry& entry);
  [[nodiscard]] static VmStatus StatusWithoutProcess(const Entry& entry);
  // Look describes an entry whose process was asked.
  [[nodiscard]] VmView Look(const Entry& entry) const;

  hypervisor::Hypervisor& hypervisor_;
  const Inventory& inventory_;
  const std::string boot_id_;
  const std::shared_ptr<Listener> listener_;
  Turns turns_;
  mutable std::mutex mutex_;  // locked after a turn was taken
  std::condition_variable exited_;
  // Guarded by mutex_:
  std::map<std::string, Entry> entries_;
};

// NotAdopted is FAILED_PRECONDITION for what failed other than by NOT_FOUND.
[[nodiscard]] absl::Status NotAdopted(const absl::Status& adoption);

}  // namespace sealift::agent
