#include "controller/planner.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/status.h"
#include "hypervisor/hypervisor.h"

namespace sealift::controller {
namespace {

using hypervisor::Accelerator;

// Of the movers of an agent that does not say.
constexpr std::uint32_t kFirstProtocol = 1;

absl::Status Refuse(std::string text) { return absl::FailedPreconditionError(text); }

std::string LowerStateName(v1::VmState state) {
  switch (state) {
    case v1::VM_STATE_STOPPED:
      return "stopped";
    case v1::VM_STATE_PAUSED:
      return "paused";
    case v1::VM_STATE_CRASHED:
      return "crashed";
    case v1::VM_STATE_MIGRATING:
    case v1::VM_STATE_INCOMING:
      return "in the middle of a move";
    default:
      return "in an unknown state";
  }
}

template <typename List>
bool Contains(const List& list, const std::string& wanted) {
  return std::find(list.begin(), list.end(), wanted) != list.end();
}

template <typename List>
std::string Join(const List& list) {
  return fmt::format("{}", fmt::join(list.begin(), list.end(), ", "));
}

// The accelerator a VM gets on a host: its definition's, or the host's for "auto".
std::string AcceleratorOn(const MigrationQuestion& q, const HostFacts& host) {
  if (q.vm.accelerator == Accelerator::kAuto) return host.capabilities.accelerator();
  return std::string(hypervisor::AcceleratorName(q.vm.accelerator));
}

absl::Status CheckStreams(const MigrationQuestion& q) {
  if (q.streams <= kMaxStreams) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("{} data streams are too many: give at most {}", q.streams, kMaxStreams));
}

absl::Status CheckHostsDiffer(const MigrationQuestion& q) {
  if (q.source.name != q.destination.name) return absl::OkStatus();
  return Refuse(fmt::format("VM {} is on host {} already: name another host with --to", q.vm.name,
                            q.source.name));
}

absl::Status CheckNoneUnderWay(const MigrationQuestion& q) {
  if (!q.migration_under_way) return absl::OkStatus();
  return Refuse(
      fmt::format("VM {} is being migrated already by migration {}: wait for it (sealift migration "
                  "watch {}) or cancel it",
                  q.vm.name, *q.migration_under_way, *q.migration_under_way));
}

absl::Status CheckSourceReady(const MigrationQuestion& q) {
  if (q.source.reach == HostReach::kReady) return absl::OkStatus();
  return Refuse(fmt::format(
      "host {}, which owns VM {}, does not answer ({}): start sealift-agentd there and try again",
      q.source.name, q.vm.name, q.source.reason));
}

absl::Status CheckRunning(const MigrationQuestion& q) {
  if (q.state == v1::VM_STATE_RUNNING) return absl::OkStatus();
  return Refuse(
      fmt::format("VM {} on host {} is {}: only a running VM can be migrated, start it with "
                  "sealift vm start {}",
                  q.vm.name, q.source.name, LowerStateName(q.state), q.vm.name));
}

absl::Status CheckDestinationReady(const MigrationQuestion& q) {
  const HostFacts& to = q.destination;
  if (to.reach == HostReach::kReady) return absl::OkStatus();
  if (to.reach == HostReach::kNotJoined) {
    return Refuse(
        fmt::format("host {} has not joined, so VM {} cannot move there: run its join command on "
                    "it (sealift host add {} --renew-token prints a new one)",
                    to.name, q.vm.name, to.name));
  }
  return Refuse(
      fmt::format("host {} does not answer ({}), so VM {} cannot move there: start sealift-agentd "
                  "there and try again",
                  to.name, to.reason, q.vm.name));
}

absl::Status CheckNotDraining(const MigrationQuestion& q) {
  if (!q.destination.draining) return absl::OkStatus();
  return Refuse(fmt::format(
      "host {} is being drained, so VM {} cannot move there: choose another host, or open it again "
      "with sealift host undrain {}",
      q.destination.name, q.vm.name, q.destination.name));
}

std::uint32_t ProtocolOf(const HostFacts& host) {
  return std::max(host.capabilities.protocol_version(), kFirstProtocol);
}

absl::Status CheckProtocol(const MigrationQuestion& q) {
  const std::uint32_t here = ProtocolOf(q.source);
  const std::uint32_t there = ProtocolOf(q.destination);
  if (here == there) return absl::OkStatus();
  return Refuse(fmt::format(
      "VM {} cannot move from host {} to host {}: their movers speak versions {} and {} of the "
      "protocol, upgrade sealift on host {}",
      q.vm.name, q.source.name, q.destination.name, here, there,
      here < there ? q.source.name : q.destination.name));
}

absl::Status CheckAccelerator(const MigrationQuestion& q) {
  const std::string here = AcceleratorOn(q, q.source);
  const std::string there = AcceleratorOn(q, q.destination);
  if (here != there) {
    return Refuse(
        fmt::format("VM {} runs with {} on host {}, but host {} offers {} ({}): a guest cannot "
                    "change its accelerator while it runs, choose a host with {}",
                    q.vm.name, here, q.source.name, q.destination.name, there,
                    q.destination.capabilities.accelerator_reason(), here));
  }
  if (there == "kvm" && q.destination.capabilities.accelerator() != "kvm") {
    return Refuse(fmt::format(
        "VM {} needs kvm, but host {} has none ({}): enable virtualisation there or choose another "
        "host",
        q.vm.name, q.destination.name, q.destination.capabilities.accelerator_reason()));
  }
  return absl::OkStatus();
}

absl::Status CheckMachine(const MigrationQuestion& q) {
  const auto& offered = q.destination.capabilities.machine_types();
  if (Contains(offered, q.vm.machine)) return absl::OkStatus();
  return Refuse(
      fmt::format("VM {} has machine type {}, which QEMU {} on host {} does not have: install a "
                  "newer QEMU there (it offers {})",
                  q.vm.name, q.vm.machine, q.destination.capabilities.qemu_version(),
                  q.destination.name, Join(offered)));
}

absl::Status CheckHostCpu(const MigrationQuestion& q) {
  const std::string& here = q.source.capabilities.host_cpu_digest();
  if (!here.empty() && here == q.destination.capabilities.host_cpu_digest())
    return absl::OkStatus();
  return Refuse(fmt::format(
      "VM {} has CPU model '{}', which is host {}'s own CPU, and host {} has another one ({}): "
      "give the VM a named CPU model that both have, or choose a host with the same CPU",
      q.vm.name, q.vm.cpu_model, q.source.name, q.destination.name,
      q.destination.capabilities.cpu_model()));
}

absl::Status CheckCpu(const MigrationQuestion& q) {
  if (q.vm.cpu_model == "host" || q.vm.cpu_model == "max") return CheckHostCpu(q);
  const auto& offered = q.destination.capabilities.usable_cpu_models();
  if (Contains(offered, q.vm.cpu_model)) return absl::OkStatus();
  return Refuse(fmt::format(
      "VM {} has CPU model {}, which host {} ({}) cannot provide: choose another host, or give the "
      "VM an older CPU model",
      q.vm.name, q.vm.cpu_model, q.destination.name, q.destination.capabilities.cpu_model()));
}

absl::Status CheckMemory(const MigrationQuestion& q) {
  // Reserved pages are not part of what is available; the destination's agent counts them.
  if (hypervisor::HugePageBytes(q.vm.huge_pages) != 0) return absl::OkStatus();
  const std::uint64_t available = q.destination.capabilities.memory_available_bytes();
  if (available >= q.vm.memory_bytes) return absl::OkStatus();
  constexpr std::uint64_t kMiB = 1U << 20;
  return Refuse(fmt::format(
      "VM {} needs {} of memory, but host {} has {}MiB available: free memory there or choose "
      "another host",
      q.vm.name, hypervisor::FormatSize(q.vm.memory_bytes), q.destination.name, available / kMiB));
}

// The engine wanted, and who wants it.
struct EngineWish {
  v1::Engine engine = v1::ENGINE_AUTO;
  std::string_view by = "asked for";
};

EngineWish WishOf(const MigrationQuestion& q) {
  if (q.engine != v1::ENGINE_UNSPECIFIED) return {q.engine};
  constexpr std::string_view kByVm = "wanted by the VM's definition";
  switch (q.vm.engine) {
    case hypervisor::Engine::kDirect:
      return {v1::ENGINE_DIRECT, kByVm};
    case hypervisor::Engine::kStream:
      return {v1::ENGINE_STREAM, kByVm};
    case hypervisor::Engine::kAuto:
      break;
  }
  return {};
}

// As the next two: why what was asked for does not go with the direct engine.
std::string StreamsAgainstDirect(const MigrationQuestion& q) {
  if (q.streams == 0 || q.streams >= kMinDirectStreams) return "";
  return fmt::format("it needs at least {} data streams, and --streams asks for {}",
                     kMinDirectStreams, q.streams);
}

bool KnowsDirect(const HostFacts& host) {
  return host.capabilities.direct_engine() || !host.capabilities.direct_reason().empty();
}

// Why the two hosts cannot use the direct engine; empty when they can.
std::string HostsAgainstDirect(const MigrationQuestion& q) {
  for (const HostFacts* host : {&q.source, &q.destination}) {
    if (host->capabilities.direct_engine()) continue;
    return fmt::format("host {}: {}", host->name,
                       KnowsDirect(*host) ? host->capabilities.direct_reason()
                                          : "its agent does not know the direct engine");
  }
  return "";
}

std::string VmAgainstDirect(const MigrationQuestion& q) {
  if (const std::uint64_t page = hypervisor::HugePageBytes(q.vm.huge_pages); page != 0) {
    return fmt::format("VM {} has huge pages of {}, which are written and sent as a whole",
                       q.vm.name, hypervisor::FormatSize(page));
  }
  if (q.direct) return "";
  return q.direct_reason.empty()
             ? fmt::format("host {} does not say what VM {}'s memory is made of", q.source.name,
                           q.vm.name)
             : q.direct_reason;
}

absl::Status RefuseDirect(const MigrationQuestion& q, const EngineWish& wish,
                          const std::string& why) {
  return Refuse(fmt::format(
      "VM {} cannot move to host {} with the engine direct, which is {}: {}; or let the engine be "
      "chosen with --engine auto",
      q.vm.name, q.destination.name, wish.by, why));
}

absl::Status CheckHostsForEngine(const MigrationQuestion& q) {
  const EngineWish wish = WishOf(q);
  const std::string why = HostsAgainstDirect(q);
  if (wish.engine != v1::ENGINE_DIRECT || why.empty()) return absl::OkStatus();
  return RefuseDirect(q, wish, why);
}

// What there is to know about an emulated guest that QEMU itself copies; or empty.
std::string CaveatOfStream(const MigrationQuestion& q) {
  const std::string& version = q.source.capabilities.qemu_version();
  const bool emulated = AcceleratorOn(q, q.source) == "tcg";
  if (!emulated || !hypervisor::EmulationForgetsWrites(version)) return "";
  return fmt::format(
      "; the emulation of QEMU {} can forget what the guest writes while it is copied (that of "
      "QEMU 9 does not, nor does kvm)",
      version);
}

absl::Status ChooseEngine(const MigrationQuestion& q, MigrationPlan& plan) {
  const EngineWish wish = WishOf(q);
  std::string why = StreamsAgainstDirect(q);
  if (why.empty()) why = HostsAgainstDirect(q);
  if (why.empty()) why = VmAgainstDirect(q);
  if (wish.engine == v1::ENGINE_DIRECT && !why.empty()) return RefuseDirect(q, wish, why);
  if (wish.engine == v1::ENGINE_STREAM) {
    plan.engine_reason = fmt::format("{}{}", wish.by, CaveatOfStream(q));
  } else if (!why.empty()) {
    plan.engine_reason = why + CaveatOfStream(q);
  } else {
    plan.engine = v1::ENGINE_DIRECT;
    plan.engine_reason =
        wish.engine == v1::ENGINE_DIRECT ? wish.by : "both hosts and the VM's memory allow it";
    plan.streams = kDefaultDirectStreams;
  }
  if (!KnowsDirect(q.source) || !KnowsDirect(q.destination)) plan.streams = kStreamsOfEarlierAgents;
  if (q.streams != 0) plan.streams = q.streams;
  return absl::OkStatus();
}

// What is asked of the two hosts, whatever the VM is doing.
absl::Status CheckHosts(const MigrationQuestion& question) {
  for (const auto check : {CheckDestinationReady, CheckNotDraining, CheckProtocol, CheckAccelerator,
                           CheckMachine, CheckCpu, CheckMemory, CheckHostsForEngine}) {
    SEALIFT_RETURN_IF_ERROR(check(question));
  }
  return absl::OkStatus();
}

policy::EncryptionDecision Decide(const MigrationQuestion& question) {
  policy::EncryptionDecision decision = policy::DecideEncryption(
      question.mode.mode, CapabilityOf(question.source.name, question.source.capabilities),
      CapabilityOf(question.destination.name, question.destination.capabilities));
  if (!question.mode.reason.empty()) decision.reason += "; the mode is " + question.mode.reason;
  return decision;
}

}  // namespace

absl::StatusOr<MigrationPlan> PlanMigration(const MigrationQuestion& question) {
  for (const auto check :
       {CheckStreams, CheckNoneUnderWay, CheckHostsDiffer, CheckSourceReady, CheckRunning}) {
    SEALIFT_RETURN_IF_ERROR(check(question));
  }
  SEALIFT_RETURN_IF_ERROR(CheckHosts(question));
  MigrationPlan plan;
  plan.encryption = Decide(question);
  if (plan.encryption.outcome == policy::Outcome::kRefused) {
    return Refuse(fmt::format(
        "VM {} may not move to host {}: {}; repair that host, or change the VM's mode with sealift "
        "vm set {} --encryption",
        question.vm.name, question.destination.name, plan.encryption.reason, question.vm.name));
  }
  SEALIFT_RETURN_IF_ERROR(ChooseEngine(question, plan));
  return plan;
}

v1::MoveForecast ForecastMove(const MigrationQuestion& question) {
  v1::MoveForecast forecast;
  forecast.set_host(question.destination.name);
  absl::Status status = CheckSourceReady(question);
  if (status.ok()) status = CheckHosts(question);
  if (!status.ok()) {
    forecast.set_outcome(v1::MOVE_OUTCOME_REFUSED);
    forecast.set_reason(base::MessageOf(status));
    return forecast;
  }
  const policy::EncryptionDecision decision = Decide(question);
  forecast.set_outcome(decision.outcome == policy::Outcome::kEncrypted ? v1::MOVE_OUTCOME_ENCRYPTED
                       : decision.outcome == policy::Outcome::kPlain   ? v1::MOVE_OUTCOME_PLAIN
                                                                       : v1::MOVE_OUTCOME_REFUSED);
  forecast.set_reason(decision.reason);
  return forecast;
}

policy::EncryptionCapability CapabilityOf(const std::string& host,
                                          const v1::HostCapabilities& capabilities) {
  return {host, !capabilities.aead_backend().empty(), capabilities.aead_reason()};
}

absl::Status NoSuchVm(std::string_view name) {
  return absl::NotFoundError(
      fmt::format("there is no VM named '{}': sealift vm list shows those there are", name));
}

absl::Status NoSuchHost(std::string_view name) {
  return absl::NotFoundError(
      fmt::format("there is no host named '{}': sealift host list shows those there are", name));
}

}  // namespace sealift::controller
