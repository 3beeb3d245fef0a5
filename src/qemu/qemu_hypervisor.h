// QEMU system emulation as the hypervisor of this host.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/system_user.h"
#include "hypervisor/hypervisor.h"
#include "qemu/qemu_command.h"
#include "qemu/run_folder.h"

namespace sealift::qemu {

struct QemuOptions {
  std::string run_dir =
      "/run/sealift/vms";  // on a file system that a reboot empties; made when missing
  std::string qemu_binary = "/usr/bin/qemu-system-x86_64";
  std::string user = "sealift-qemu";  // who QEMU runs as; may be our own
};

class QemuHypervisor final : public hypervisor::Hypervisor {
 public:
  // Create probes the host (ProbeHost). FAILED_PRECONDITION with the remedy when QEMU or its user
  // is missing.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<QemuHypervisor>> Create(QemuOptions options);

  [[nodiscard]] const hypervisor::HostCapabilities& capabilities() const override {
    return capabilities_;
  }
  [[nodiscard]] std::uint64_t AvailableMemoryBytes() const override;
  [[nodiscard]] absl::Status CheckDefinition(
      const hypervisor::VmDefinition& definition) const override;
  // Start is ALREADY_EXISTS when the VM has a process here, or is just getting one, and
  // FAILED_PRECONDITION where its run folder cannot say whether it has. It takes as long as the
  // VM's storage does, and holds up the start of no other VM.
  [[nodiscard]] absl::StatusOr<std::shared_ptr<hypervisor::Vm>> Start(
      const hypervisor::VmDefinition& definition, hypervisor::StartMode mode) override;
  // Adopt returns a VM whose definition is the one that it was started with. FAILED_PRECONDITION
  // when the process of that name belongs to another VM (uuid).
  [[nodiscard]] absl::StatusOr<std::shared_ptr<hypervisor::Vm>> Adopt(
      const hypervisor::VmDefinition& definition) override;
  [[nodiscard]] absl::Status Discard(const hypervisor::VmDefinition& definition) override;
  [[nodiscard]] std::vector<hypervisor::VmDefinition> Processes() const override;
  [[nodiscard]] std::string MigrationSocketPath(const hypervisor::VmDefinition& definition,
                                                std::string_view direction) const override;

 private:
  // Launching keeps two starts of one VM from meeting in its folder, and memory for it until there
  // is a process.
  class Launching;

  QemuHypervisor(QemuOptions options, base::SystemUser user,
                 hypervisor::HostCapabilities capabilities)
      : options_(std::move(options)),
        user_(std::move(user)),
        capabilities_(std::move(capabilities)) {}

  // What is left for a VM: the same as AvailableMemoryBytes(), but that its own start takes
  // nothing.
  [[nodiscard]] std::uint64_t AvailableTo(const std::string& vm) const;
  // Running looks into every run folder: the processes that live, and why one cannot be found.
  [[nodiscard]] std::vector<absl::StatusOr<RunningProcess>> Running() const;
  [[nodiscard]] RunFolder FolderOf(const hypervisor::VmDefinition& definition) const;
  [[nodiscard]] hypervisor::Accelerator AcceleratorOf(
      const hypervisor::VmDefinition& definition) const;
  [[nodiscard]] absl::Status CheckCpuAndMachine(const hypervisor::VmDefinition& definition) const;
  [[nodiscard]] absl::Status CheckFiles(const hypervisor::VmDefinition& definition) const;
  [[nodiscard]] absl::StatusOr<base::Process> Launch(const hypervisor::VmDefinition& definition,
                                                     hypervisor::StartMode mode,
                                                     const RunFolder& folder) const;

  const QemuOptions options_;
  const base::SystemUser user_;
  const hypervisor::HostCapabilities capabilities_;
  mutable std::mutex mutex_;
  std::map<std::string, std::uint64_t> launching_;  // VMs and their memory; guarded by mutex_
};

}  // namespace sealift::qemu
