// One QEMU process, driven over QMP.
#pragma once

#include <chrono>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/process.h"
#include "base/system_user.h"
#include "hypervisor/hypervisor.h"
#include "qemu/disk_cache.h"
#include "qemu/qmp_client.h"
#include "qemu/run_folder.h"
#include "qemu/vm_monitor.h"

namespace sealift::qemu {

class QemuVm final : public hypervisor::Vm {
 public:
  // Connect takes over a running process, which runs as `user`. It succeeds also when QMP is
  // silent: every call tries to connect again, State() says so until then, and Quit() still ends
  // the process.
  [[nodiscard]] static std::shared_ptr<QemuVm> Connect(RunFolder folder,
                                                       hypervisor::VmDefinition definition,
                                                       base::SystemUser user,
                                                       base::Process process);

  // CheckConnected says whether QEMU answers, else why not, with the end of its log.
  [[nodiscard]] absl::Status CheckConnected();

  // Repair ends tracking that an agent which is no more has begun. What goes wrong is logged: the
  // guest runs on, only through the host's page cache.
  void Repair();

  [[nodiscard]] const hypervisor::VmDefinition& definition() const override { return definition_; }
  [[nodiscard]] int pid() const override { return process_->id().pid; }
  [[nodiscard]] absl::StatusOr<hypervisor::RunState> State() override;
  [[nodiscard]] absl::Status Continue() override;
  [[nodiscard]] absl::Status PowerDown() override;
  [[nodiscard]] absl::Status Quit() override;
  [[nodiscard]] absl::Status Settle() override;
  // OpenConsole: QEMU serves one connection at a time, a second one stays silent until the first is
  // closed.
  [[nodiscard]] absl::StatusOr<base::UniqueFd> OpenConsole() override;
  void OnExit(std::function<void(hypervisor::Exit)> callback) override;

  [[nodiscard]] absl::StatusOr<std::vector<hypervisor::MemoryBlock>> SharedMemory() override;
  [[nodiscard]] absl::StatusOr<hypervisor::WriteTracking> BeginTracking() override;
  [[nodiscard]] absl::Status EndTracking() override;
  [[nodiscard]] std::function<absl::Status()> DiskWriteBack() override;
  [[nodiscard]] absl::Status Suspend() override;
  [[nodiscard]] absl::Status Resume() override;

  [[nodiscard]] absl::Status StartOutgoing(
      const std::string& path, const hypervisor::MigrationParameters& parameters) override;
  [[nodiscard]] absl::StatusOr<hypervisor::OutgoingProgress> Outgoing() override;
  [[nodiscard]] absl::StatusOr<hypervisor::MigrationState> WaitOutgoing(
      hypervisor::MigrationState state, base::Duration timeout, std::stop_token stop) override;
  [[nodiscard]] absl::Status SetDowntimeLimit(std::chrono::milliseconds limit) override;
  [[nodiscard]] absl::Status ContinueSwitchover(base::Duration timeout) override;
  [[nodiscard]] absl::Status CancelOutgoing() override;
  [[nodiscard]] absl::Status StartIncoming(
      const std::string& path, const hypervisor::MigrationParameters& parameters) override;
  [[nodiscard]] absl::Status WaitIncoming(base::Duration timeout) override;

 private:
  QemuVm(RunFolder folder, hypervisor::VmDefinition definition, base::SystemUser user,
         base::Process process);
  // Qmp is the connection to QEMU, made anew within `timeout` when there is none.
  absl::StatusOr<std::shared_ptr<QmpClient>> Qmp(base::Duration timeout = kQmpTimeout);
  absl::StatusOr<std::shared_ptr<QmpClient>> ConnectQmp(base::Duration timeout);
  // Execute is QMP with the VM's name in front of an error, and the end of the log if the process
  // has ended.
  absl::StatusOr<nlohmann::json> Execute(std::string_view command,
                                         nlohmann::json arguments = nullptr,
                                         base::Duration timeout = kQmpTimeout);
  absl::Status Run(std::string_view command, nlohmann::json arguments = nullptr,
                   base::Duration timeout = kQmpTimeout);
  absl::Status RecallMigration(QmpClient& client, base::Duration timeout);
  absl::Status SetUpMigration(const hypervisor::MigrationParameters& parameters);
  absl::Status AwaitRunning();
  // JudgeSilence is `silence` until it has lasted too long, and final then.
  absl::Status JudgeSilence(const absl::Status& silence);
  bool AskToQuit();
  QmpCall Caller(base::Duration timeout = kQmpTimeout);
  absl::Status Ended() const;

  const RunFolder folder_;
  const hypervisor::VmDefinition definition_;
  const base::SystemUser user_;
  const std::shared_ptr<const base::Process> process_;
  VmMonitor monitor_;
  // Of the thread that waits for a guest: since when QEMU does not answer.
  std::optional<std::chrono::steady_clock::time_point> silent_since_;
  std::mutex qmp_mutex_;
  std::shared_ptr<QmpClient> qmp_;  // guarded by qmp_mutex_; after monitor_, which its reader calls
};

}  // namespace sealift::qemu
