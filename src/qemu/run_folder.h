// The runtime folder of one VM: sockets, logs, and the record by which its process is found again.
// It lives on a file system that is empty after a reboot (/run).
//
//   NAME/            root, group of the QEMU user, 0710: QEMU can pass through but change nothing
//     process.json   who runs, and the definition it was started with
//     qmp.sock       QMP and serial console; opened by us, passed to QEMU
//     console.sock
//     qemu.log       what QEMU printed
//     console.log    what the guest printed on its serial console
//     out.sock       outgoing migration: we listen
//     in/m.sock      incoming migration: QEMU listens; the folder in/ is QEMU's own
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/process.h"
#include "base/system_user.h"
#include "base/unique_fd.h"
#include "hypervisor/vm_definition.h"

namespace sealift::qemu {

// ProcessRecord says which process runs a VM. The definition is the one it was started with.
struct ProcessRecord {
  base::ProcessId process;
  hypervisor::VmDefinition definition;
};

// RunningProcess is the process of a record.
struct RunningProcess {
  base::Process process;
  hypervisor::VmDefinition definition;
};

class RunFolder {
 public:
  // `run_dir` is the folder of all VMs.
  RunFolder(const std::string& run_dir, const std::string& vm_name)
      : path_(run_dir + "/" + vm_name) {}

  // CheckLength wants every socket path to fit into a socket address (107 bytes).
  [[nodiscard]] absl::Status CheckLength() const;
  // Create makes the folder anew, empty; what an earlier process left is removed.
  [[nodiscard]] absl::Status Create(const base::SystemUser& user) const;
  // Remove deletes it with all that is in it.
  [[nodiscard]] absl::Status Remove() const;

  [[nodiscard]] absl::Status WriteRecord(const ProcessRecord& record) const;
  // FindProcess gives the process that runs the VM; NOT_FOUND when there is none: no record, or one
  // of a process that has ended. Every other error leaves open whether it runs; it names the record
  // and the remedy.
  [[nodiscard]] absl::StatusOr<RunningProcess> FindProcess() const;

  // OpenLog makes qemu.log for writing and reading back.
  [[nodiscard]] absl::StatusOr<base::UniqueFd> OpenLog() const;

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] std::string Qmp() const { return path_ + "/qmp.sock"; }
  [[nodiscard]] std::string Console() const { return path_ + "/console.sock"; }
  [[nodiscard]] std::string Log() const { return path_ + "/qemu.log"; }
  [[nodiscard]] std::string ConsoleLog() const { return path_ + "/console.log"; }
  [[nodiscard]] std::string Outgoing() const { return path_ + "/out.sock"; }
  [[nodiscard]] std::string Incoming() const { return path_ + "/in/m.sock"; }

 private:
  [[nodiscard]] std::string Record() const { return path_ + "/process.json"; }

  std::string path_;
};

// TrimLog empties a file that QEMU appends to once it is larger than `limit` bytes: a guest can
// print for ever.
void TrimLog(const std::string& path, std::size_t limit);

}  // namespace sealift::qemu
