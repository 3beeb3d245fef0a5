// What sealift needs from a hypervisor. src/qemu is the one implementation; libvirt may become
// another.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/unique_fd.h"
#include "hypervisor/vm_definition.h"

namespace sealift::hypervisor {

// HostCapabilities is what this host can run, probed once when the agent starts.
struct HostCapabilities {
  std::string cpu_model_name;  // "Intel(R) Xeon(R) …" from /proc/cpuinfo
  std::vector<std::string>
      cpu_flags;      // those that matter here: aes, vaes, vpclmulqdq, avx512f, vmx, svm
  unsigned cpus = 0;  // online logical CPUs
  std::uint64_t memory_bytes = 0;  // MemTotal
  std::uint64_t memory_available_bytes =
      0;  // MemAvailable when probed; AvailableMemory() is current
  Accelerator accelerator = Accelerator::kTcg;  // what `accel: auto` means here
  std::string accelerator_reason;               // why: "/dev/kvm: the CPU has neither vmx nor svm"
  std::string qemu_version;                     // "7.2.22"
  std::vector<std::string> machine_types;       // versioned ones
  std::vector<std::string> usable_cpu_models;   // that this host can run with nothing missing
  std::string host_cpu_digest;  // equal on two hosts whose `host`/`max` CPU models are the same
  std::string kernel_version;
  std::vector<std::string>
      kernel_features;        // of: memfd_secret, userfaultfd-wp-async, pagemap-scan, io_uring
  std::string direct_reason;  // empty: this host can use the direct engine; else why not
  std::string memory_advice;  // a host setting that costs speed, and the remedy; or empty
};

// EmulationForgetsWrites says that the emulation (kTcg) of that version of QEMU may miss what a
// guest writes while QEMU itself copies it, the more often the more rounds it takes:
// docs/decisions/0004. Of a version that it cannot read it does not say so.
[[nodiscard]] bool EmulationForgetsWrites(const std::string& qemu_version);
// ForgetsWrites is the same of a VM on a host.
[[nodiscard]] bool ForgetsWrites(const HostCapabilities& host, const VmDefinition& vm);

// RunState of a VM's process. kGone: there is no process (any more).
enum class RunState {
  kRunning,    // the guest executes
  kPaused,     // stopped, can go on: by us, or a destination that has received everything
  kIncoming,   // waits for or receives an incoming migration
  kMigrated,   // source after `completed`: must not run again
  kSwitching,  // source stopped by pre-switchover: goes on only through migrate-continue or cancel
  kIoError,    // stopped by itself: its storage takes no more, being full for one; can go on
  kShutdown,   // the guest has powered off
  kCrashed,    // guest panic or internal error; the process is still there
  kGone,
};
[[nodiscard]] std::string_view RunStateName(RunState state);

// MigrationState mirrors QEMU's MigrationStatus (qapi/migration.json).
enum class MigrationState {
  kNone,
  kSetup,
  kActive,
  kPreSwitchover,
  kDevice,
  kCompleted,
  kFailed,
  kCancelling,
  kCancelled,
};
[[nodiscard]] std::string_view MigrationStateName(MigrationState state);

// OutgoingProgress is one look at an outgoing migration (query-migrate).
struct OutgoingProgress {
  MigrationState state = MigrationState::kNone;
  std::string error;  // kFailed: what the hypervisor said, if anything
  std::uint64_t ram_total_bytes = 0;
  std::uint64_t ram_transferred_bytes = 0;
  std::uint64_t ram_remaining_bytes = 0;
  std::uint64_t dirty_bytes_per_second = 0;
  std::uint64_t iterations = 0;  // dirty-sync-count
};

// MigrationParameters of one migration, the same on both sides.
struct MigrationParameters {
  unsigned multifd_channels = 0;  // besides the main channel; more can cost the VM: decision 0005
  std::chrono::milliseconds downtime_limit{300};
  bool ignore_shared = false;  // x-ignore-shared: guest RAM in memory files is moved by others
  bool auto_converge = false;  // QEMU slows down a guest that writes faster than it can be moved
};

// MemoryBlock is one piece of guest RAM, in a memory file that this program can map too.
struct MemoryBlock {
  std::string id;             // its name, the same on both hosts
  std::uint64_t size = 0;     // bytes; the file begins with it
  base::UniqueFd file;        // the memory file, for reading and writing
  std::uint64_t address = 0;  // where the VM's process has mapped it
};

// WriteTracking of guest RAM. It exists for as long as a copy of its userfaultfd is open anywhere.
struct WriteTracking {
  base::UniqueFd userfaultfd;  // registered for write-protection, async, over every MemoryBlock
  base::UniqueFd pagemap;      // of the VM's process, for PAGEMAP_SCAN
};

// Exit says how a VM's process ended.
enum class Exit {
  kGuestShutdown,  // the guest powered itself off (also after an ACPI request)
  kStopped,        // we told it to quit
  kCrashed,        // anything else: it was killed, it aborted, the guest panicked
};

// Vm is one VM process on this host, started or adopted. All calls have a bounded time (a silent
// process is DEADLINE_EXCEEDED) and may come from any thread. Destroying it never ends the process.
class Vm {
 public:
  virtual ~Vm() = default;

  [[nodiscard]] virtual const VmDefinition& definition() const = 0;
  [[nodiscard]] virtual int pid() const = 0;
  [[nodiscard]] virtual absl::StatusOr<RunState> State() = 0;

  // Continue lets the guest run (`cont`).
  [[nodiscard]] virtual absl::Status Continue() = 0;
  // PowerDown presses the ACPI power button; the guest decides.
  [[nodiscard]] virtual absl::Status PowerDown() = 0;
  // Quit ends the process: QMP quit, then SIGTERM, then SIGKILL, and waits until it is gone.
  [[nodiscard]] virtual absl::Status Quit() = 0;
  // Settle is for a guest that has arrived and runs: it sends gratuitous ARP/RARP from each of its
  // NICs (`announce-self`) and takes back what the migration has set in the hypervisor, for whoever
  // moves the guest next may not know of it.
  [[nodiscard]] virtual absl::Status Settle() = 0;
  // OpenConsole connects to the serial console: a connected stream socket.
  [[nodiscard]] virtual absl::StatusOr<base::UniqueFd> OpenConsole() = 0;

  // OnExit has `callback` run once, on a thread of the VM's own, when the process has ended. It
  // replaces an earlier one.
  virtual void OnExit(std::function<void(Exit)> callback) = 0;

  // -- Guest memory, for a migration that copies it itself.

  // SharedMemory lists all guest RAM. FAILED_PRECONDITION says why it cannot be mapped here: the VM
  // has private memory. The descriptors are the caller's.
  [[nodiscard]] virtual absl::StatusOr<std::vector<MemoryBlock>> SharedMemory() = 0;
  // BeginTracking makes every later write to guest RAM visible to PAGEMAP_SCAN, also those of disk
  // reads: from here to EndTracking() disks go through the host's page cache. It write-protects
  // nothing by itself. After an error everything is as before. The descriptors are the caller's.
  [[nodiscard]] virtual absl::StatusOr<WriteTracking> BeginTracking() = 0;
  // EndTracking gives the disks back their cache mode; the caller closes the descriptors. Harmless
  // without BeginTracking().
  [[nodiscard]] virtual absl::Status EndTracking() = 0;
  // DiskWriteBack gives a function that writes back what the host's page cache holds of the disks,
  // which the hypervisor does while the guest stands still. It takes as long as the storage does,
  // and outlives the VM.
  [[nodiscard]] virtual std::function<absl::Status()> DiskWriteBack() = 0;
  // Suspend stops every thread of the VM's process at once, without a word to the guest or the
  // hypervisor; Resume lets them go on. For short stops that slow a guest down: a suspended process
  // answers no other call. Each is harmless when repeated.
  [[nodiscard]] virtual absl::Status Suspend() = 0;
  [[nodiscard]] virtual absl::Status Resume() = 0;

  // -- Outgoing migration. The safe set of facts: return-path, pause-before-switchover,
  // late-block-activate, multifd.

  // StartOutgoing connects to the unix socket at `path` (once, then once for each multifd channel)
  // and returns at once.
  [[nodiscard]] virtual absl::Status StartOutgoing(const std::string& path,
                                                   const MigrationParameters& parameters) = 0;
  [[nodiscard]] virtual absl::StatusOr<OutgoingProgress> Outgoing() = 0;
  // WaitOutgoing blocks until the state is no longer `state`, `timeout` has passed, or `stop` is
  // requested, and returns the state then.
  [[nodiscard]] virtual absl::StatusOr<MigrationState> WaitOutgoing(MigrationState state,
                                                                    base::Duration timeout,
                                                                    std::stop_token stop) = 0;
  // SetDowntimeLimit changes the downtime limit of an outgoing migration under way.
  [[nodiscard]] virtual absl::Status SetDowntimeLimit(std::chrono::milliseconds limit) = 0;
  // ContinueSwitchover lets a source in kPreSwitchover go on (`migrate-continue`). A process that
  // is silent for `timeout` may do so all the same.
  [[nodiscard]] virtual absl::Status ContinueSwitchover(base::Duration timeout) = 0;
  // CancelOutgoing cancels and waits until the guest runs again here. Harmless without a migration;
  // after kCompleted it is FAILED_PRECONDITION and changes nothing.
  [[nodiscard]] virtual absl::Status CancelOutgoing() = 0;

  // -- Incoming migration (the process was started with StartMode::kIncoming, the guest stays
  // paused after it).

  // StartIncoming listens on the unix socket `path`. Connect first for the main channel, then for
  // each multifd channel.
  [[nodiscard]] virtual absl::Status StartIncoming(const std::string& path,
                                                   const MigrationParameters& parameters) = 0;
  // WaitIncoming blocks until everything was received (OK) or `timeout` has passed
  // (DEADLINE_EXCEEDED), and 1 s more while the process does not answer. Any other error is final:
  // the process has failed, has ended, or has not answered for 15 s. For one thread.
  [[nodiscard]] virtual absl::Status WaitIncoming(base::Duration timeout) = 0;
};

// CheckMemory says whether a VM fits into what is available. FAILED_PRECONDITION with the numbers.
// Reserved huge pages are a matter of CheckDefinition.
[[nodiscard]] absl::Status CheckMemory(const VmDefinition& definition,
                                       std::uint64_t available_bytes);

enum class StartMode {
  kBoot,      // starts and runs the guest
  kIncoming,  // starts stopped (-S -incoming defer)
};

// Hypervisor starts and finds VMs of this host. Thread-safe.
class Hypervisor {
 public:
  virtual ~Hypervisor() = default;

  [[nodiscard]] virtual const HostCapabilities& capabilities() const = 0;
  // AvailableMemoryBytes is what no guest of this host has been promised: the memory that is free,
  // less what those that run, or are to come, have not touched yet. Reserved huge pages are apart.
  [[nodiscard]] virtual std::uint64_t AvailableMemoryBytes() const = 0;

  // CheckDefinition says what this host lacks for a VM, before anything is touched: machine type,
  // CPU model, disk missing or not accessible to the QEMU user, bridge missing, kernel missing,
  // accelerator, huge pages. FAILED_PRECONDITION naming thing and remedy.
  [[nodiscard]] virtual absl::Status CheckDefinition(const VmDefinition& definition) const = 0;

  // Start runs a new process that outlives us. Its runtime files are in a folder named by the VM.
  // It is refused as by CheckMemory, also where another start has just been promised the memory,
  // and unless it is certain that the VM has no process yet.
  [[nodiscard]] virtual absl::StatusOr<std::shared_ptr<Vm>> Start(const VmDefinition& definition,
                                                                  StartMode mode) = 0;
  // Adopt finds the process of a VM that an earlier agent started; NOT_FOUND when there is none,
  // and every other error leaves open whether there is. What that agent left undone is finished: a
  // suspended process is resumed, and tracking is ended.
  [[nodiscard]] virtual absl::StatusOr<std::shared_ptr<Vm>> Adopt(
      const VmDefinition& definition) = 0;

  // Discard removes what a process of the VM that ended by itself has left: its runtime folder.
  // FAILED_PRECONDITION while it runs, or may. Harmless when there is nothing.
  [[nodiscard]] virtual absl::Status Discard(const VmDefinition& definition) = 0;

  // Processes lists what every VM process of this host was started with, whoever started it. One
  // that cannot be found out about is in the log.
  [[nodiscard]] virtual std::vector<VmDefinition> Processes() const = 0;

  // MigrationSocketPath is a path in the VM's runtime folder where both this program and the VM's
  // process may listen and connect. `direction` is "in" or "out".
  [[nodiscard]] virtual std::string MigrationSocketPath(const VmDefinition& definition,
                                                        std::string_view direction) const = 0;
};

}  // namespace sealift::hypervisor
