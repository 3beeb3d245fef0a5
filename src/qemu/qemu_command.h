// The argument vector of a QEMU process. Everything that must be equal on both hosts of a migration
// (devices and their addresses) depends on the definition only.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "hypervisor/hypervisor.h"
#include "hypervisor/vm_definition.h"

namespace sealift::qemu {

enum class DiskDriver { kFile, kHostDevice };  // a file, a block device

// HostCache says whether disk data goes through the host's page cache. A migration over a shared
// disk needs kBypassed (O_DIRECT): the other host must see what was written. kUsed is for file
// systems without O_DIRECT, which no two hosts share, and for the time in which writes to guest
// memory are tracked (disk_cache.h).
enum class HostCache { kBypassed, kUsed };

struct DiskBackend {
  DiskDriver driver = DiskDriver::kFile;
  HostCache cache = HostCache::kBypassed;
};

// CommandInput is what a command line is made from. Descriptors are numbers that the new process
// inherits.
struct CommandInput {
  const hypervisor::VmDefinition& definition;
  hypervisor::StartMode mode = hypervisor::StartMode::kBoot;
  hypervisor::Accelerator accelerator = hypervisor::Accelerator::kTcg;  // decided: not kAuto
  int qmp_fd = -1;                                                      // listening socket
  int console_fd = -1;                                                  // listening socket
  std::string console_log{};
  int memory_fd = -1;                // the memory file of a VM with shared memory
  std::vector<DiskBackend> disks{};  // one for each disk of the definition
  std::vector<int> tap_fds{};        // one for each NIC of the definition; -1 for a user NIC
};

// QemuArguments gives the arguments without the program's name. The VM always starts stopped (-S):
// the caller says `cont` once it hears events.
[[nodiscard]] std::vector<std::string> QemuArguments(const CommandInput& input);

// The name of the block node of a disk's file, below that of the image format. It says with which
// cache the file was started, whatever it has now.
[[nodiscard]] std::string DiskFileNodeName(std::size_t position, HostCache started_with);
// DiskFileNode describes that node as blockdev-reopen wants it, which is in full.
[[nodiscard]] nlohmann::json DiskFileNode(const hypervisor::Disk& disk, const DiskBackend& backend,
                                          const std::string& node_name);

// SandboxArguments confine QEMU by seccomp; used for probes too.
[[nodiscard]] std::vector<std::string> SandboxArguments();

}  // namespace sealift::qemu
