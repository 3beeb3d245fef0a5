#include "qemu/probe.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/process.h"
#include "base/status.h"
#include "hypervisor/definition_syntax.h"
#include "qemu/direct_support.h"
#include "qemu/file_access.h"
#include "qemu/migration_json.h"
#include "qemu/qemu_command.h"
#include "qemu/qmp_client.h"

namespace sealift::qemu {
namespace {

using hypervisor::Accelerator;
using hypervisor::HostCapabilities;
using nlohmann::json;

constexpr std::size_t kFirmwareBytes = 65536;  // the smallest that QEMU takes
constexpr int kDebugExitValue = 0x10;
// isa-debug-exit makes QEMU end with (value << 1) | 1, which no other way out does.
constexpr int kDebugExitCode = (kDebugExitValue << 1) | 1;

// A process that is over when this object is.
class ShortLived {
 public:
  explicit ShortLived(base::Process process) : process_(std::move(process)) {}
  ShortLived(ShortLived&&) = default;
  ~ShortLived() {
    if (process_.pidfd() < 0) return;  // moved from
    // It dies of SIGKILL unless the kernel holds it, and then waiting longer does not help.
    (void)process_.Send(SIGKILL);
    (void)process_.WaitGone(std::chrono::seconds(1));
    process_.Reap();
  }
  [[nodiscard]] const base::Process& process() const { return process_; }

 private:
  base::Process process_;
};

absl::StatusOr<base::UniqueFd> MemoryFile(const char* name, std::string_view content) {
  base::UniqueFd fd(memfd_create(name, MFD_CLOEXEC));
  if (!fd.valid()) return base::ErrnoStatus("memfd_create", errno);
  const ssize_t written = write(fd.get(), content.data(), content.size());
  if (written != static_cast<ssize_t>(content.size())) return base::ErrnoStatus("write", errno);
  return fd;
}

absl::StatusOr<ShortLived> Run(const ProbeOptions& options, std::vector<std::string> arguments,
                               std::vector<int> inherited_fds, int log_fd) {
  for (const std::string& argument : SandboxArguments()) arguments.push_back(argument);
  const base::SpawnRequest request{options.qemu_binary, std::move(arguments), options.user,
                                   std::move(inherited_fds), log_fd};
  SEALIFT_ASSIGN_OR_RETURN(
      base::Process process,
      base::Process::Spawn(request, [](const base::ProcessId&) { return absl::OkStatus(); }));
  return ShortLived(std::move(process));
}

std::string AcceleratorText(Accelerator accelerator) {
  return std::string(hypervisor::AcceleratorName(accelerator));
}

// What a QEMU without a machine says about itself.
struct QemuFacts {
  std::string version;
  json machines;
  json cpu_definitions;
  json cpu_expansion;
  bool ignore_shared = false;
};

absl::StatusOr<QemuFacts> AskQemu(QmpClient& qmp, Accelerator accelerator) {
  QemuFacts facts{qmp.version(), {}, {}, {}};
  SEALIFT_ASSIGN_OR_RETURN(const json capabilities, qmp.Execute("query-migrate-capabilities"));
  facts.ignore_shared = HasIgnoreShared(capabilities);
  SEALIFT_ASSIGN_OR_RETURN(facts.machines, qmp.Execute("query-machines"));
  SEALIFT_ASSIGN_OR_RETURN(facts.cpu_definitions, qmp.Execute("query-cpu-definitions"));
  const char* model = accelerator == Accelerator::kKvm ? "host" : "max";
  SEALIFT_ASSIGN_OR_RETURN(
      facts.cpu_expansion,
      qmp.Execute("query-cpu-model-expansion", {{"type", "full"}, {"model", {{"name", model}}}}));
  return facts;
}

absl::StatusOr<QemuFacts> InterviewQemu(const ProbeOptions& options, Accelerator accelerator) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return base::ErrnoStatus("socketpair", errno);
  }
  base::UniqueFd ours(ends[0]);
  base::UniqueFd theirs(ends[1]);
  SEALIFT_ASSIGN_OR_RETURN(const base::UniqueFd log, MemoryFile("sealift-probe-log", ""));
  const int fd = theirs.get();
  SEALIFT_ASSIGN_OR_RETURN(
      const ShortLived qemu,
      Run(options,
          {"-nodefaults", "-no-user-config", "-machine", "none", "-accel",
           AcceleratorText(accelerator), "-display", "none", "-chardev",
           fmt::format("socket,id=qmp,fd={}", fd), "-mon", "chardev=qmp,mode=control"},
          {fd}, log.get()));
  theirs.reset();
  absl::StatusOr<std::unique_ptr<QmpClient>> qmp = QmpClient::Take(std::move(ours), {});
  if (!qmp.ok()) return base::Annotate(qmp.status(), base::LastLines(log.get()));
  return AskQemu(**qmp, accelerator);
}

std::vector<std::string> VersionedMachines(const json& machines) {
  std::vector<std::string> names;
  for (const json& machine : machines) {
    std::string name = machine.at("name").get<std::string>();
    if (hypervisor::CheckMachine(name).ok()) names.push_back(std::move(name));
  }
  std::ranges::sort(names);
  return names;
}

std::vector<std::string> UsableCpuModels(const json& definitions) {
  std::vector<std::string> names;
  for (const json& definition : definitions) {
    std::string name = definition.at("name").get<std::string>();
    // "base" has no features at all and is for tools only.
    if (name != "base" && definition.value("unavailable-features", json::array()).empty()) {
      names.push_back(std::move(name));
    }
  }
  std::ranges::sort(names);
  return names;
}

absl::Status FillFromQemu(const QemuFacts& facts, HostCapabilities& host) {
  host.qemu_version = facts.version;
  try {
    host.machine_types = VersionedMachines(facts.machines);
    host.usable_cpu_models = UsableCpuModels(facts.cpu_definitions);
  } catch (const json::exception& error) {
    return absl::InternalError(fmt::format("QEMU's answer is not understood: {}", error.what()));
  }
  host.host_cpu_digest =
      CpuModelDigest(AcceleratorText(host.accelerator), facts.cpu_expansion.dump());
  host.direct_reason =
      DirectReason({host.kernel_version, host.kernel_features, facts.version, facts.ignore_shared});
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<HostCapabilities> ProbeHost(const ProbeOptions& options) {
  const CpuFacts cpu = ReadCpuFacts();
  const MemoryFacts memory = ReadMemoryFacts();
  AcceleratorChoice choice = ChooseAccelerator(options, cpu, "/dev/kvm");
  HostCapabilities host;
  host.cpu_model_name = cpu.model_name;
  host.cpu_flags = cpu.flags;
  host.cpus = static_cast<unsigned>(sysconf(_SC_NPROCESSORS_ONLN));
  host.memory_bytes = memory.total_bytes;
  host.memory_available_bytes = memory.available_bytes;
  host.accelerator = choice.accelerator;
  host.accelerator_reason = std::move(choice.reason);
  host.kernel_version = KernelVersion();
  host.kernel_features = KernelFeatures();
  host.memory_advice = ReadMemoryAdvice();
  absl::StatusOr<QemuFacts> facts = InterviewQemu(options, host.accelerator);
  if (!facts.ok()) {
    return base::Annotate(facts.status(),
                          fmt::format("ask {} what it can run", options.qemu_binary));
  }
  SEALIFT_RETURN_IF_ERROR(FillFromQemu(*facts, host));
  return host;
}

AcceleratorChoice ChooseAccelerator(const ProbeOptions& options, const CpuFacts& cpu,
                                    const std::string& kvm_device) {
  const auto tcg = [](std::string reason) {
    return AcceleratorChoice{Accelerator::kTcg, std::move(reason)};
  };
  if (!cpu.Has("vmx") && !cpu.Has("svm")) return tcg("the CPU has neither vmx nor svm");
  if (const absl::Status access =
          CheckAccess(options.user, "KVM device", kvm_device, Access::kReadWrite);
      !access.ok()) {
    return tcg(base::MessageOf(access));
  }
  const absl::Status guest =
      RunProbeGuest(options, Accelerator::kKvm, ProbeFirmware(), kProbeGuestTimeout);
  if (!guest.ok()) return tcg("KVM does not work here: " + base::MessageOf(guest));
  return {Accelerator::kKvm, fmt::format("{} runs a guest", kvm_device)};
}

absl::Status RunProbeGuest(const ProbeOptions& options, Accelerator accelerator,
                           const std::string& firmware, base::Duration timeout) {
  SEALIFT_ASSIGN_OR_RETURN(const base::UniqueFd log, MemoryFile("sealift-probe-log", ""));
  SEALIFT_ASSIGN_OR_RETURN(const base::UniqueFd image,
                           MemoryFile("sealift-probe-firmware", firmware));
  SEALIFT_ASSIGN_OR_RETURN(const ShortLived qemu,
                           Run(options,
                               {"-nodefaults", "-no-user-config", "-machine", "q35", "-accel",
                                AcceleratorText(accelerator), "-m", "2M", "-display", "none",
                                "-bios", fmt::format("/proc/self/fd/{}", image.get()), "-device",
                                "isa-debug-exit,iobase=0xf4,iosize=1"},
                               {image.get()}, log.get()));
  if (!qemu.process().WaitGone(timeout)) {
    return absl::DeadlineExceededError("a test guest executes no instruction");
  }
  const int code = qemu.process().Reap().value_or(0);
  if (code == kDebugExitCode) return absl::OkStatus();
  return absl::InternalError(
      fmt::format("a test guest ended with code {}: {}", code, base::LastLines(log.get())));
}

std::string ProbeFirmware() {
  // x86 starts in 16-bit mode 16 bytes below the end of the firmware.
  constexpr unsigned char kCode[] = {
      0xba, 0xf4,
      0x00,                   // mov $0xf4, %dx       the debug exit port
      0xb0, kDebugExitValue,  // mov $value, %al
      0xee,                   // out %al, (%dx)
      0xf4,                   // hlt                  not reached
      0xeb, 0xfd,             // jmp to the hlt
  };
  std::string firmware(kFirmwareBytes, '\0');
  std::ranges::copy(kCode, firmware.end() - 16);
  return firmware;
}

std::string CpuModelDigest(std::string_view accelerator, std::string_view expansion) {
  // FNV-1a with 64 bits: stable, and no adversary chooses a CPU model.
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : fmt::format("{}\n{}", accelerator, expansion)) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  return fmt::format("{:016x}", hash);
}

}  // namespace sealift::qemu
