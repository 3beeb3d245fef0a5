// A hypervisor without processes, for tests of whoever drives one. A test scripts what happens to a
// VM; the code under test waits on the same condition variable as with the real one. Everything
// here is thread-safe.
#pragma once

#include <condition_variable>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "hypervisor/hypervisor.h"

namespace sealift::hypervisor {

// Pace says who moves a fake migration on.
enum class Pace {
  kByItself,  // outgoing: active, pre-switchover at once, after ContinueSwitchover completed;
              // incoming: received at once
  kByTest,    // only SetOutgoing() and FinishIncoming() do
};

class FakeVm : public Vm {
 public:
  // `state` is kRunning after a boot, kIncoming for a destination.
  FakeVm(VmDefinition definition, RunState state, Pace pace, int pid);
  // Joins the thread that ran an exit callback.
  ~FakeVm() override;

  // -- What a test does to the VM.

  void SetPace(Pace pace);
  void SetState(RunState state);
  // SetOutgoing moves the outgoing migration to `state` and the run state along with it as QEMU
  // does: stopped in kPreSwitchover and kDevice, kMigrated after kCompleted, running after kFailed
  // and kCancelled.
  void SetOutgoing(MigrationState state, std::string error = "");
  // SetProgress sets the numbers that Outgoing() reports; its state and error are left alone.
  void SetProgress(const OutgoingProgress& progress);
  // FinishIncoming ends the incoming migration: OK leaves the VM paused, an error is what
  // WaitIncoming() returns.
  void FinishIncoming(absl::Status result);
  // SetTracking makes BeginTracking() succeed, with descriptors that carry nothing. Until then it
  // is UNIMPLEMENTED.
  void SetTracking(bool possible);
  // FailCall makes every later call of that name ("Continue", "StartOutgoing", …) return `status`,
  // until it is set to OK.
  void FailCall(const std::string& call, absl::Status status);
  // SetSilent makes State() wait until it is set to false again, 10 s at most, as a process does
  // whose main thread hangs.
  void SetSilent(bool silent);
  // Die ends the process: state kGone, waits return UNAVAILABLE, and the exit callback runs.
  void Die(Exit exit);

  // -- What a test looks at.

  // Calls lists the calls that changed or tried to change something, in order: "StartOutgoing
  // /x/out.sock", "Continue".
  [[nodiscard]] std::vector<std::string> Calls() const;
  // WaitForCall blocks until a call of that name (its first word) was made `count` times; false
  // after `timeout`.
  [[nodiscard]] bool WaitForCall(const std::string& call, base::Duration timeout,
                                 int count = 1) const;
  [[nodiscard]] MigrationParameters parameters() const;
  [[nodiscard]] bool suspended() const;

  // -- Vm

  [[nodiscard]] const VmDefinition& definition() const override { return definition_; }
  [[nodiscard]] int pid() const override { return pid_; }
  [[nodiscard]] absl::StatusOr<RunState> State() override;
  [[nodiscard]] absl::Status Continue() override;
  [[nodiscard]] absl::Status PowerDown() override;
  [[nodiscard]] absl::Status Quit() override;
  [[nodiscard]] absl::Status Settle() override;
  // OpenConsole gives one end of a socket pair that carries nothing.
  [[nodiscard]] absl::StatusOr<base::UniqueFd> OpenConsole() override;
  void OnExit(std::function<void(Exit)> callback) override;
  // SharedMemory gives a real memory file as large as the definition says, the same at every call.
  [[nodiscard]] absl::StatusOr<std::vector<MemoryBlock>> SharedMemory() override;
  [[nodiscard]] absl::StatusOr<WriteTracking> BeginTracking() override;
  [[nodiscard]] absl::Status EndTracking() override;
  [[nodiscard]] std::function<absl::Status()> DiskWriteBack() override;
  [[nodiscard]] absl::Status Suspend() override;
  [[nodiscard]] absl::Status Resume() override;
  [[nodiscard]] absl::Status StartOutgoing(const std::string& path,
                                           const MigrationParameters& parameters) override;
  [[nodiscard]] absl::StatusOr<OutgoingProgress> Outgoing() override;
  [[nodiscard]] absl::StatusOr<MigrationState> WaitOutgoing(MigrationState state,
                                                            base::Duration timeout,
                                                            std::stop_token stop) override;
  [[nodiscard]] absl::Status SetDowntimeLimit(std::chrono::milliseconds limit) override;
  [[nodiscard]] absl::Status ContinueSwitchover(base::Duration timeout) override;
  [[nodiscard]] absl::Status CancelOutgoing() override;
  [[nodiscard]] absl::Status StartIncoming(const std::string& path,
                                           const MigrationParameters& parameters) override;
  [[nodiscard]] absl::Status WaitIncoming(base::Duration timeout) override;

 private:
  // Record notes a call and returns the failure scripted for it, or that the process is gone. Needs
  // mutex_ held.
  absl::Status Record(const std::string& call, const std::string& detail = "");
  void MoveOutgoing(MigrationState state, std::string error);  // needs mutex_ held
  void End(Exit exit);                                         // needs mutex_ held
  void NotifyExit();                                           // needs mutex_ held

  const VmDefinition definition_;
  const int pid_;
  mutable std::mutex mutex_;
  mutable std::condition_variable_any changed_;
  Pace pace_;
  RunState state_;
  OutgoingProgress outgoing_;
  std::optional<absl::Status> incoming_result_;
  MigrationParameters parameters_;
  std::map<std::string, absl::Status> failures_;
  std::vector<std::string> calls_;
  base::UniqueFd console_;
  base::UniqueFd memory_;  // made at the first use
  bool can_track_ = false;
  bool suspended_ = false;
  bool silent_ = false;
  std::optional<Exit> exit_;
  std::function<void(Exit)> on_exit_;
  std::vector<std::thread> exit_threads_;
};

class FakeHypervisor final : public Hypervisor {
 public:
  // `folder` is where MigrationSocketPath() puts sockets; it is not touched.
  explicit FakeHypervisor(std::string folder);

  // -- What a test does.

  void SetCapabilities(HostCapabilities capabilities);  // before it is shared with other threads
  void SetAvailableMemory(std::uint64_t bytes);         // for each VM that is started from now on
  void SetPace(Pace pace);                              // of VMs started from now on
  void FailCheck(absl::Status status);  // what CheckDefinition() returns from now on
  void FailStart(absl::Status status);  // what Start() returns from now on
  void FailAdopt(absl::Status status);  // what Adopt() returns from now on
  // HangStart makes Start() of that VM wait, as one whose storage hangs, until it is told of
  // another name.
  void HangStart(const std::string& name);
  [[nodiscard]] bool WaitForHangingStart(base::Duration timeout) const;
  // MeetInAdopt makes each Adopt() wait until it has been called `count` times, 10 s at most.
  void MeetInAdopt(int count);
  // Find gives the newest process of that name, also after it ended; null when there never was one.
  [[nodiscard]] std::shared_ptr<FakeVm> Find(const std::string& name) const;

  // Discarded says whether what a process of that name has left was discarded.
  [[nodiscard]] bool Discarded(const std::string& name) const;

  // -- Hypervisor

  [[nodiscard]] const HostCapabilities& capabilities() const override { return capabilities_; }
  [[nodiscard]] std::uint64_t AvailableMemoryBytes() const override;
  [[nodiscard]] absl::Status CheckDefinition(const VmDefinition& definition) const override;
  // Start refuses with ALREADY_EXISTS while a VM of that name lives.
  [[nodiscard]] absl::StatusOr<std::shared_ptr<Vm>> Start(const VmDefinition& definition,
                                                          StartMode mode) override;
  [[nodiscard]] absl::StatusOr<std::shared_ptr<Vm>> Adopt(const VmDefinition& definition) override;
  [[nodiscard]] absl::Status Discard(const VmDefinition& definition) override;
  [[nodiscard]] std::vector<VmDefinition> Processes() const override;
  [[nodiscard]] std::string MigrationSocketPath(const VmDefinition& definition,
                                                std::string_view direction) const override;

 private:
  const std::string folder_;
  HostCapabilities capabilities_;
  mutable std::mutex mutex_;
  std::uint64_t available_memory_ = 8ULL << 30;
  Pace pace_ = Pace::kByItself;
  absl::Status check_;
  absl::Status start_;
  absl::Status adopt_;
  int awaited_adoptions_ = 0;
  std::string hanging_name_;
  bool hangs_ = false;
  mutable std::condition_variable changed_;
  int next_pid_ = 1'000'000;
  std::map<std::string, std::shared_ptr<FakeVm>> vms_;
  std::set<std::string> discarded_;
};

}  // namespace sealift::hypervisor
