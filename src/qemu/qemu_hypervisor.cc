#include "qemu/qemu_hypervisor.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <system_error>
#include <utility>

#include "base/check.h"
#include "base/file.h"
#include "base/log.h"
#include "base/socket.h"
#include "base/status.h"
#include "qemu/file_access.h"
#include "qemu/guest_memory.h"
#include "qemu/host_facts.h"
#include "qemu/probe.h"
#include "qemu/qemu_vm.h"
#include "qemu/tap.h"

namespace sealift::qemu {
namespace {

using hypervisor::Accelerator;
using hypervisor::Disk;
using hypervisor::MemoryBacking;
using hypervisor::Nic;
using hypervisor::NicType;
using hypervisor::StartMode;
using hypervisor::Vm;
using hypervisor::VmDefinition;

bool Contains(const std::vector<std::string>& names, const std::string& name) {
  return std::ranges::find(names, name) != names.end();
}

absl::StatusOr<std::vector<DiskBackend>> ProbeDisks(const base::SystemUser& user,
                                                    const std::vector<Disk>& disks) {
  std::vector<DiskBackend> backends;
  for (const Disk& disk : disks) {
    SEALIFT_ASSIGN_OR_RETURN(const DiskBackend backend, ProbeDisk(user, disk));
    backends.push_back(backend);
  }
  return backends;
}

// One descriptor for each NIC, invalid for a user NIC.
absl::StatusOr<std::vector<base::UniqueFd>> OpenTaps(const VmDefinition& definition) {
  std::vector<base::UniqueFd> taps;
  for (std::size_t i = 0; i < definition.nics.size(); ++i) {
    taps.emplace_back();
    const Nic& nic = definition.nics[i];
    if (nic.type != NicType::kBridge) continue;
    SEALIFT_ASSIGN_OR_RETURN(taps.back(),
                             OpenTap(nic.bridge, hypervisor::EffectiveMac(definition, i)));
  }
  return taps;
}

// Invalid for a VM with private memory.
absl::StatusOr<base::UniqueFd> OpenMemory(const VmDefinition& definition,
                                          const base::SystemUser& user) {
  if (definition.backing == MemoryBacking::kPrivate) return base::UniqueFd();
  return MakeGuestMemory(definition, user);
}

std::vector<int> Numbers(const std::vector<base::UniqueFd>& fds) {
  std::vector<int> numbers;
  for (const base::UniqueFd& fd : fds) numbers.push_back(fd.get());
  return numbers;
}

// Reserved huge pages are no part of what the kernel calls available.
std::uint64_t PageableBytes(const VmDefinition& definition) {
  return hypervisor::HugePageBytes(definition.huge_pages) != 0 ? 0 : definition.memory_bytes;
}

absl::Status CheckBinary(const std::string& path) {
  if (access(path.c_str(), X_OK) == 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("{} cannot be run: install QEMU, on Debian 'apt install qemu-system-x86'", path));
}

}  // namespace

class QemuHypervisor::Launching {
 public:
  Launching(QemuHypervisor& hypervisor, const VmDefinition& vm)
      : hypervisor_(hypervisor), vm_(vm.name) {
    const std::lock_guard lock(hypervisor_.mutex_);
    first_ = hypervisor_.launching_.emplace(vm_, PageableBytes(vm)).second;
  }
  Launching(const Launching&) = delete;
  Launching& operator=(const Launching&) = delete;
  ~Launching() {
    if (!first_) return;
    const std::lock_guard lock(hypervisor_.mutex_);
    hypervisor_.launching_.erase(vm_);
  }

  [[nodiscard]] absl::Status status() const {
    if (first_) return absl::OkStatus();
    return absl::AlreadyExistsError(fmt::format("VM {} is just being started on this host", vm_));
  }

 private:
  QemuHypervisor& hypervisor_;
  const std::string vm_;
  bool first_ = false;
};

absl::StatusOr<std::unique_ptr<QemuHypervisor>> QemuHypervisor::Create(QemuOptions options) {
  SEALIFT_RETURN_IF_ERROR(CheckBinary(options.qemu_binary));
  SEALIFT_ASSIGN_OR_RETURN(base::SystemUser user, base::LookUpUser(options.user));
  SEALIFT_RETURN_IF_ERROR(base::MakeDirectories(options.run_dir));
  SEALIFT_ASSIGN_OR_RETURN(hypervisor::HostCapabilities capabilities,
                           ProbeHost({options.qemu_binary, user}));
  return std::unique_ptr<QemuHypervisor>(
      new QemuHypervisor(std::move(options), std::move(user), std::move(capabilities)));
}

std::uint64_t QemuHypervisor::AvailableMemoryBytes() const { return AvailableTo(""); }

// What the kernel calls available has been promised to guests that have not touched it yet.
std::uint64_t QemuHypervisor::AvailableTo(const std::string& vm) const {
  std::map<std::string, std::uint64_t> promised;
  {
    const std::lock_guard lock(mutex_);
    promised = launching_;
  }
  for (const absl::StatusOr<RunningProcess>& running : Running()) {
    if (!running.ok()) continue;  // nobody knows what it was promised
    const std::uint64_t all = PageableBytes(running->definition);
    promised.emplace(running->definition.name,
                     all - std::min(all, ResidentGuestMemory(running->process)));
  }
  promised.erase(vm);
  std::uint64_t available = ReadMemoryFacts().available_bytes;
  for (const auto& [name, bytes] : promised) available -= std::min(available, bytes);
  return available;
}

std::vector<absl::StatusOr<RunningProcess>> QemuHypervisor::Running() const {
  std::vector<absl::StatusOr<RunningProcess>> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(options_.run_dir, error)) {
    absl::StatusOr<RunningProcess> running =
        RunFolder(options_.run_dir, entry.path().filename().string()).FindProcess();
    if (!absl::IsNotFound(running.status())) found.push_back(std::move(running));
  }
  if (error) spdlog::error("list {}: {}", options_.run_dir, error.message());
  return found;
}

RunFolder QemuHypervisor::FolderOf(const VmDefinition& definition) const {
  return {options_.run_dir, definition.name};
}

Accelerator QemuHypervisor::AcceleratorOf(const VmDefinition& definition) const {
  return definition.accelerator == Accelerator::kAuto ? capabilities_.accelerator
                                                      : definition.accelerator;
}

std::string QemuHypervisor::MigrationSocketPath(const VmDefinition& definition,
                                                std::string_view direction) const {
  SEALIFT_CHECK(direction == "in" || direction == "out");
  const RunFolder folder = FolderOf(definition);
  return direction == "in" ? folder.Incoming() : folder.Outgoing();
}

absl::Status QemuHypervisor::CheckDefinition(const VmDefinition& definition) const {
  if (definition.uuid.empty()) {
    return absl::InvalidArgumentError(fmt::format("VM {} has no uuid", definition.name));
  }
  SEALIFT_RETURN_IF_ERROR(FolderOf(definition).CheckLength());
  SEALIFT_RETURN_IF_ERROR(CheckCpuAndMachine(definition));
  SEALIFT_RETURN_IF_ERROR(CheckHugePages(definition));
  return CheckFiles(definition);
}

absl::Status QemuHypervisor::CheckCpuAndMachine(const VmDefinition& definition) const {
  if (definition.accelerator == Accelerator::kKvm &&
      capabilities_.accelerator != Accelerator::kKvm) {
    return absl::FailedPreconditionError(
        fmt::format("KVM is not available on this host ({}): use 'accel: auto' or 'accel: tcg'",
                    capabilities_.accelerator_reason));
  }
  if (!Contains(capabilities_.machine_types, definition.machine)) {
    return absl::FailedPreconditionError(fmt::format("QEMU {} on this host has no machine type {}",
                                                     capabilities_.qemu_version,
                                                     definition.machine));
  }
  if (!Contains(capabilities_.usable_cpu_models, definition.cpu_model)) {
    return absl::FailedPreconditionError(fmt::format(
        "this host cannot run CPU model {} with {}: choose one that 'sealift host show' lists",
        definition.cpu_model, hypervisor::AcceleratorName(AcceleratorOf(definition))));
  }
  return absl::OkStatus();
}

absl::Status QemuHypervisor::CheckFiles(const VmDefinition& definition) const {
  const std::pair<const char*, const std::string&> files[] = {
      {"firmware", definition.firmware},
      {"kernel", definition.kernel},
      {"initrd", definition.initrd},
  };
  for (const auto& [what, path] : files) {
    if (!path.empty()) SEALIFT_RETURN_IF_ERROR(CheckAccess(user_, what, path, Access::kRead));
  }
  SEALIFT_RETURN_IF_ERROR(ProbeDisks(user_, definition.disks).status());
  for (const Nic& nic : definition.nics) {
    if (nic.type == NicType::kBridge) SEALIFT_RETURN_IF_ERROR(CheckBridge(nic.bridge));
  }
  return absl::OkStatus();
}

absl::StatusOr<base::Process> QemuHypervisor::Launch(const VmDefinition& definition, StartMode mode,
                                                     const RunFolder& folder) const {
  SEALIFT_RETURN_IF_ERROR(folder.Create(user_));
  SEALIFT_RETURN_IF_ERROR(
      CheckAccess(user_, "console log", folder.ConsoleLog(), Access::kReadWrite));
  SEALIFT_ASSIGN_OR_RETURN(const base::UniqueFd log, folder.OpenLog());
  SEALIFT_ASSIGN_OR_RETURN(const base::UniqueFd qmp,
                           base::ListenUnix(folder.Qmp(), SOCK_STREAM, 0600));
  SEALIFT_ASSIGN_OR_RETURN(const base::UniqueFd console,
                           base::ListenUnix(folder.Console(), SOCK_STREAM, 0600));
  SEALIFT_ASSIGN_OR_RETURN(const base::UniqueFd memory, OpenMemory(definition, user_));
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<base::UniqueFd> taps, OpenTaps(definition));
  CommandInput input{.definition = definition,
                     .mode = mode,
                     .accelerator = AcceleratorOf(definition),
                     .qmp_fd = qmp.get(),
                     .console_fd = console.get(),
                     .console_log = folder.ConsoleLog(),
                     .memory_fd = memory.get(),
                     .disks = {},
                     .tap_fds = Numbers(taps)};
  SEALIFT_ASSIGN_OR_RETURN(input.disks, ProbeDisks(user_, definition.disks));
  base::SpawnRequest request{.binary = options_.qemu_binary,
                             .arguments = QemuArguments(input),
                             .user = user_,
                             .inherited_fds = {qmp.get(), console.get()},
                             .log_fd = log.get(),
                             .huge_pages = definition.huge_pages != hypervisor::HugePages::kOff};
  if (memory.valid()) request.inherited_fds.push_back(memory.get());
  for (const int tap : input.tap_fds) {
    if (tap >= 0) request.inherited_fds.push_back(tap);
  }
  spdlog::debug("VM {}: {} {}", definition.name, request.binary, fmt::join(request.arguments, " "));
  return base::Process::Spawn(request, [&](const base::ProcessId& id) {
    return folder.WriteRecord({id, definition});
  });
}

absl::StatusOr<std::shared_ptr<Vm>> QemuHypervisor::Start(const VmDefinition& definition,
                                                          StartMode mode) {
  SEALIFT_RETURN_IF_ERROR(CheckDefinition(definition));
  const RunFolder folder = FolderOf(definition);
  const Launching launching(*this, definition);
  SEALIFT_RETURN_IF_ERROR(launching.status());
  const absl::StatusOr<RunningProcess> old = folder.FindProcess();
  if (old.ok()) {
    return absl::AlreadyExistsError(fmt::format("VM {} already runs on this host as process {}",
                                                definition.name, old->process.id().pid));
  }
  if (!absl::IsNotFound(old.status())) return old.status();
  SEALIFT_RETURN_IF_ERROR(hypervisor::CheckMemory(definition, AvailableTo(definition.name)));
  absl::StatusOr<base::Process> process = Launch(definition, mode, folder);
  if (!process.ok()) {
    return base::Annotate(process.status(), fmt::format("start VM {}", definition.name));
  }
  const std::shared_ptr<QemuVm> vm =
      QemuVm::Connect(folder, definition, user_, *std::move(process));
  absl::Status ready = vm->CheckConnected();
  if (ready.ok() && mode == StartMode::kBoot) ready = vm->Continue();
  if (ready.ok()) return vm;
  // Nobody but us knows this process yet: it must not stay.
  if (const absl::Status quit = vm->Quit(); !quit.ok()) {
    spdlog::error("{}", base::MessageOf(quit));
  }
  return ready;
}

std::vector<VmDefinition> QemuHypervisor::Processes() const {
  std::vector<VmDefinition> found;
  for (absl::StatusOr<RunningProcess>& running : Running()) {
    if (running.ok()) {
      found.push_back(std::move(running->definition));
    } else {
      spdlog::error("{}", base::MessageOf(running.status()));
    }
  }
  return found;
}

absl::StatusOr<std::shared_ptr<Vm>> QemuHypervisor::Adopt(const VmDefinition& definition) {
  const RunFolder folder = FolderOf(definition);
  SEALIFT_ASSIGN_OR_RETURN(RunningProcess running, folder.FindProcess());
  if (running.definition.uuid != definition.uuid) {
    return absl::FailedPreconditionError(fmt::format(
        "process {} on this host runs another VM named {}, with uuid {} instead of {}: "
        "end it first",
        running.process.id().pid, definition.name, running.definition.uuid, definition.uuid));
  }
  // It may be suspended, and would not answer.
  SEALIFT_RETURN_IF_ERROR(running.process.Send(SIGCONT));
  // Whoever listened there went with the earlier agent.
  unlink(MigrationSocketPath(definition, "out").c_str());
  std::shared_ptr<QemuVm> vm =
      QemuVm::Connect(folder, std::move(running.definition), user_, std::move(running.process));
  vm->Repair();
  return vm;
}

absl::Status QemuHypervisor::Discard(const VmDefinition& definition) {
  const RunFolder folder = FolderOf(definition);
  const absl::StatusOr<RunningProcess> running = folder.FindProcess();
  if (running.ok()) {
    return absl::FailedPreconditionError(
        fmt::format("VM {} still runs as process {}", definition.name, running->process.id().pid));
  }
  if (!absl::IsNotFound(running.status())) return running.status();
  return folder.Remove();
}

}  // namespace sealift::qemu
