#include "agent/live_migration.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "migration/steps.h"

namespace sealift::agent {

using hypervisor::StartMode;
using migration::LedgerStep;
using migration::PhaseName;
using migration::Snapshot;

namespace {

constexpr std::chrono::seconds kChannelLimit{5};
constexpr char kRestarted[] = "the agent was restarted during the migration";

// Stands in for a mover that a restart has left behind.
class GoneMover final : public migration::MoverLink {
 public:
  absl::Status WaitEstablished(base::Duration /*timeout*/) override { return Health(); }
  absl::Status SendToPeer(const migration::PeerMessage& /*message*/) override { return Health(); }
  absl::StatusOr<migration::PeerMessage> ReceiveFromPeer(base::Duration /*timeout*/) override {
    return Health();
  }
  absl::Status Health() override { return absl::UnavailableError(kRestarted); }
  std::uint64_t wire_bytes() override { return 0; }
  [[nodiscard]] std::chrono::seconds reconnect_limit() const override { return {}; }
  absl::Status BeginCopy(const std::vector<hypervisor::MemoryBlock>& /*memory*/,
                         const hypervisor::WriteTracking& /*tracking*/,
                         std::chrono::milliseconds /*downtime_limit*/) override {
    return Health();
  }
  absl::Status FinishCopy() override { return Health(); }
  migration::CopyProgress WaitCopy(const migration::CopyProgress& seen, base::Duration /*timeout*/,
                                   std::stop_token /*stop*/) override {
    return seen;
  }
  void Kill() override {}
};

void KillMover(const base::ProcessId& id) {
  const absl::StatusOr<base::Process> process = base::Process::Open(id);
  if (!process.ok()) return;
  static_cast<void>(process->Send(SIGKILL));
  static_cast<void>(process->WaitGone(std::chrono::seconds(2)));
}

hypervisor::MigrationParameters ParametersOf(const keys::MigrationSpec& spec) {
  hypervisor::MigrationParameters parameters;
  // Stream 1 carries QEMU's main channel, each further channel is one of multifd.
  parameters.multifd_channels = std::max<unsigned>(mover::QemuChannels(spec), 1) - 1;
  parameters.ignore_shared = spec.engine == keys::Engine::kDirect;
  return parameters;
}

// The pages that the process wrote by itself when it started must not stay: what the source does
// not send is zero.
absl::Status MakeEmpty(const std::vector<hypervisor::MemoryBlock>& memory) {
  for (const hypervisor::MemoryBlock& block : memory) {
    if (fallocate(block.file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                  static_cast<off_t>(block.size)) != 0) {
      return base::ErrnoStatus("empty the memory that is to receive the guest", errno);
    }
  }
  return absl::OkStatus();
}

}  // namespace

// Writes the steps of one migration, and changes the inventory with them.
class LiveMigration::LedgerFile final : public migration::Ledger {
 public:
  explicit LedgerFile(LiveMigration& migration) : migration_(migration) {}
  absl::Status Write(LedgerStep step) override { return migration_.WriteStep(step); }

 private:
  LiveMigration& migration_;
};

LiveMigration::LiveMigration(MigrationRecord record, keys::MigrationSpec spec,
                             migration::NoConvergence on_no_convergence,
                             const LiveMigrationParts& parts)
    : record_(std::move(record)),
      spec_(std::move(spec)),
      on_no_convergence_(on_no_convergence),
      parts_(parts),
      board_(std::make_shared<migration::Board>(parts.clock)),
      prepared_at_(parts.clock.SinceBoot()) {}

LiveMigration::~LiveMigration() { Join(); }

void LiveMigration::Join() {
  const std::lock_guard lock(start_mutex_);
  if (thread_.joinable()) thread_.join();
}

MigrationView LiveMigration::View() const {
  return {record_.id, record_.vm, record_.role, aead_backend_, board_->Look(), started_};
}

bool LiveMigration::Ended() const { return migration::IsFinal(board_->Look().phase); }

bool LiveMigration::WaitForEnd(base::Duration limit) const {
  const base::Duration deadline = parts_.clock.SinceBoot() + limit;
  std::uint64_t seen = 0;
  while (!Ended()) {
    const base::Duration left = deadline - parts_.clock.SinceBoot();
    if (left <= base::Duration::zero()) return false;
    seen = board_->WaitForChange(seen, left);
  }
  return true;
}

void LiveMigration::PostPhase(PhaseName phase, const std::string& detail) {
  board_->Post([&](Snapshot& snapshot) {
    snapshot.phase = phase;
    snapshot.detail = detail;
  });
}

// ---- Preparing and starting

absl::StatusOr<base::Bytes> LiveMigration::PrepareSource(const VmKeeper::Loan& loan,
                                                         std::unique_ptr<MoverProcess> mover,
                                                         std::vector<base::HostPort> destinations) {
  mover_ = std::move(mover);
  destinations_ = std::move(destinations);
  vm_ = loan.vm;
  record_.mover = mover_->id();
  record_.definition_yaml = hypervisor::FormatVmDefinition(loan.record.definition);
  return WaitOffer();
}

absl::StatusOr<base::Bytes> LiveMigration::PrepareDestination(
    const hypervisor::VmDefinition& definition, std::unique_ptr<MoverProcess> mover,
    std::vector<NetworkListener> network_listeners) {
  mover_ = std::move(mover);
  network_listeners_ = std::move(network_listeners);
  record_.mover = mover_->id();
  record_.definition_yaml = hypervisor::FormatVmDefinition(definition);
  absl::StatusOr<base::Bytes> public_key = StartIncoming(definition);
  if (!public_key.ok()) Undo(base::MessageOf(public_key.status()));
  return public_key;
}

absl::StatusOr<base::Bytes> LiveMigration::StartIncoming(
    const hypervisor::VmDefinition& definition) {
  // Before the process: a restart must find what to end.
  SEALIFT_RETURN_IF_ERROR(WriteStep(LedgerStep::kReceiving));
  SEALIFT_ASSIGN_OR_RETURN(vm_, parts_.hypervisor.Start(definition, StartMode::kIncoming));
  SEALIFT_RETURN_IF_ERROR(vm_->StartIncoming(SocketPath(), ParametersOf(spec_)));
  return WaitOffer();
}

std::string LiveMigration::SocketPath() const {
  const bool source = record_.role == MigrationRole::kSource;
  return parts_.hypervisor.MigrationSocketPath(vm_->definition(), source ? "out" : "in");
}

absl::StatusOr<base::Bytes> LiveMigration::WaitOffer() {
  SEALIFT_ASSIGN_OR_RETURN(mover::Offer offer, mover_->WaitOffer());
  aead_backend_ = std::move(offer.aead_backend);
  return std::move(offer.public_key);
}

absl::Status LiveMigration::Start(StartOrder order) {
  const std::lock_guard lock(start_mutex_);
  if (started_ || Ended()) {
    return absl::FailedPreconditionError(
        fmt::format("migration {} was started or undone already", record_.id));
  }
  const bool source = record_.role == MigrationRole::kSource;
  if (order.destinations.empty()) order.destinations = std::move(destinations_);
  if (source == order.destinations.empty()) {
    return absl::InvalidArgumentError("data_addresses: needed at the source, and only there");
  }
  SEALIFT_RETURN_IF_ERROR(source ? StartSource(std::move(order))
                                 : StartDestination(std::move(order.sealed_key)));
  started_ = true;
  thread_ = std::thread([this, source] {
    if (source) {
      RunSource(migration::Preparing{});
    } else {
      RunDestination(migration::Preparing{});
    }
  });
  return absl::OkStatus();
}

absl::Status LiveMigration::StartSource(StartOrder order) {
  receipt_ = std::move(order.receipt);
  // QEMU's user connects; the folder around the socket is closed to all others.
  SEALIFT_ASSIGN_OR_RETURN(const base::UniqueFd listener,
                           base::ListenUnix(SocketPath(), SOCK_STREAM, 0666));
  return mover_->StartSource(spec_, std::move(order.sealed_key), listener,
                             std::move(order.destinations));
}

absl::Status LiveMigration::StartDestination(base::Bytes sealed_key) {
  // QEMU 7.2 takes the first connection it accepts as its main channel: strictly one after the
  // other.
  std::vector<base::UniqueFd> channels;
  for (unsigned i = 0; i < mover::QemuChannels(spec_); ++i) {
    SEALIFT_ASSIGN_OR_RETURN(base::UniqueFd channel,
                             base::ConnectUnix(SocketPath(), SOCK_STREAM, kChannelLimit));
    channels.push_back(std::move(channel));
  }
  std::vector<hypervisor::MemoryBlock> memory;
  if (spec_.engine == keys::Engine::kDirect) {
    SEALIFT_ASSIGN_OR_RETURN(memory, vm_->SharedMemory());
    SEALIFT_RETURN_IF_ERROR(MakeEmpty(memory));
  }
  absl::Status started =
      mover_->StartDestination(spec_, std::move(sealed_key), network_listeners_, channels, memory);
  network_listeners_.clear();
  return started;
}

// ---- Undoing what was not started

absl::Status LiveMigration::Cancel() {
  const std::lock_guard lock(start_mutex_);
  if (Ended()) return absl::OkStatus();
  if (!started_) {
    Undo("cancelled on request");
    return absl::OkStatus();
  }
  if (record_.role == MigrationRole::kDestination &&
      board_->Look().phase == PhaseName::kSwitching) {
    return absl::FailedPreconditionError(fmt::format(
        "migration {}: everything is received, only the source decides now", record_.id));
  }
  return board_->RequestCancel();
}

void LiveMigration::UndoIfStale(base::Duration limit) {
  const std::lock_guard lock(start_mutex_);
  if (started_ || Ended() || parts_.clock.SinceBoot() - prepared_at_ <= limit) return;
  spdlog::warn("migration {}: prepared, but never started", record_.id);
  Undo("never started by the controller");
}

void LiveMigration::Undo(const std::string& why) {
  mover_.reset();
  network_listeners_.clear();
  if (record_.role == MigrationRole::kSource) {
    unlink(SocketPath().c_str());
    parts_.vms.Return(record_.vm);
  } else if (!UndoIncoming()) {
    return;
  }
  vm_.reset();
  PostPhase(PhaseName::kCancelled, why);
}

bool LiveMigration::UndoIncoming() {
  const absl::Status quit = vm_ != nullptr ? vm_->Quit() : absl::OkStatus();
  if (!quit.ok()) spdlog::error("migration {}: {}", record_.id, base::MessageOf(quit));
  if (!quit.ok() && !migration::IsGone(*vm_)) {
    // The record stays for as long as the process does, and the state machine, without a mover,
    // tries until that is gone.
    started_ = true;
    static_cast<void>(board_->RequestCancel());
    thread_ = std::thread([this] { RunDestination(migration::Receiving{}); });
    return false;
  }
  const absl::Status removed = parts_.log.Remove(record_.id);
  if (!removed.ok()) spdlog::error("migration {}: {}", record_.id, base::MessageOf(removed));
  return true;
}

// ---- Running

migration::MoverLink& LiveMigration::Link() {
  static GoneMover gone;  // without state
  return mover_ != nullptr ? static_cast<migration::MoverLink&>(*mover_) : gone;
}

absl::Status LiveMigration::WriteStep(LedgerStep step) {
  if (parts_.on_step) parts_.on_step(StepEdge::kBefore, step);
  absl::Status stored = StoreStep(step);
  if (parts_.on_step) parts_.on_step(StepEdge::kAfter, step);
  return stored;
}

absl::Status LiveMigration::StoreStep(LedgerStep step) {
  // Inventory first: a restart in between finds the VM and this step again, and both may be
  // repeated.
  if (step == LedgerStep::kReleased) SEALIFT_RETURN_IF_ERROR(parts_.vms.Release(record_.vm));
  if (step == LedgerStep::kOwned) SEALIFT_RETURN_IF_ERROR(Own());
  if (step == LedgerStep::kResumed) parts_.vms.Return(record_.vm);
  MigrationRecord next = record_;
  next.step = step;
  next.receipt = board_->Look().receipt;
  SEALIFT_RETURN_IF_ERROR(parts_.log.Put(next));
  record_.step = step;
  record_.receipt = std::move(next.receipt);
  return absl::OkStatus();
}

absl::Status LiveMigration::Own() {
  VmRecord vm;
  SEALIFT_ASSIGN_OR_RETURN(vm.definition, hypervisor::ParseVmDefinition(record_.definition_yaml));
  vm.epoch = record_.epoch;
  vm.mode = policy::ParseMode(record_.encryption).value_or(policy::EncryptionMode::kRequired);
  vm.policy_version = record_.policy_version;
  return parts_.vms.Own(std::move(vm), vm_);
}

void LiveMigration::RunSource(migration::SourcePhase phase) {
  LedgerFile ledger(*this);
  const std::string path = SocketPath();
  const migration::SourceOptions options{
      .channel_path = path,
      .parameters = ParametersOf(spec_),
      .engine = spec_.engine == keys::Engine::kDirect ? migration::EngineName::kDirect
                                                      : migration::EngineName::kStream,
      .on_no_convergence = on_no_convergence_,
      .few_rounds = hypervisor::ForgetsWrites(parts_.hypervisor.capabilities(), vm_->definition()),
      .receipt = receipt_};
  migration::SourceMigration machine(options, *vm_, Link(), ledger, *board_, parts_.clock);
  static_cast<void>(machine.Run(std::move(phase)));
  unlink(path.c_str());
  mover_.reset();
  vm_.reset();
}

void LiveMigration::RunDestination(migration::DestinationPhase phase) {
  LedgerFile ledger(*this);
  migration::DestinationMigration machine(*vm_, Link(), ledger, *board_, parts_.clock);
  static_cast<void>(machine.Run(std::move(phase)));
  mover_.reset();
  vm_.reset();
}

// ---- After a restart

void LiveMigration::Recover() {
  const std::lock_guard lock(start_mutex_);
  started_ = true;
  board_->Post([this](Snapshot& snapshot) { snapshot.receipt = record_.receipt; });
  KillMover(record_.mover);
  if (record_.role == MigrationRole::kSource) {
    RecoverSource();
  } else {
    RecoverDestination();
  }
}

void LiveMigration::RecoverSource() {
  if (record_.step == LedgerStep::kReleased) return PostPhase(PhaseName::kCompleted, "");
  if (record_.step == LedgerStep::kResumed) return PostPhase(PhaseName::kFailed, kRestarted);
  const bool committed = record_.step == LedgerStep::kCommitted;
  if (parts_.vms.Has(record_.vm) && !parts_.vms.Holds(record_.vm, record_.epoch)) {
    // The guest has come back since, and is none of this record's.
    return PostPhase(committed ? PhaseName::kCompleted : PhaseName::kFailed, kRestarted);
  }
  const PhaseName phase = committed ? PhaseName::kCommitted : PhaseName::kCopying;
  const absl::Status found = Find(parts_.vms.Hold(record_.vm, record_.id));
  if (!found.ok()) return PostPhase(phase, base::MessageOf(found));
  if (vm_ == nullptr && !committed) {
    parts_.vms.Return(record_.vm);
    return PostPhase(PhaseName::kFailed, kRestarted);
  }
  PostPhase(phase, kRestarted);
  thread_ = std::thread([this, committed] {
    if (vm_ == nullptr) return AwaitDecisionWithoutProcess();
    if (committed) return RunSource(migration::Committed{parts_.clock.SinceBoot()});
    RunSource(migration::Copying{});  // without a mover it rolls itself back
  });
}

void LiveMigration::RecoverDestination() {
  if (record_.step == LedgerStep::kDropped) return PostPhase(PhaseName::kFailed, kRestarted);
  // The inventory is written first: what is in it was decided, whatever the ledger says.
  if (record_.step == LedgerStep::kOwned || parts_.vms.Holds(record_.vm, record_.epoch)) {
    return RecoverOwned();
  }
  const bool ready = record_.step == LedgerStep::kReady;
  const PhaseName phase = ready ? PhaseName::kSwitching : PhaseName::kCopying;
  PostPhase(phase, kRestarted);
  // Adopting takes a while where QEMU is silent.
  thread_ = std::thread([this, ready, phase] {
    const absl::Status found = AdoptIncoming();
    if (!found.ok()) return PostPhase(phase, base::MessageOf(found));
    if (vm_ == nullptr && !ready) {
      Discard();
      return PostPhase(PhaseName::kFailed, kRestarted);
    }
    if (vm_ == nullptr) return AwaitDecisionWithoutProcess();
    if (ready) return RunDestination(migration::Ready{});
    RunDestination(migration::Receiving{});
  });
}

// Where an error leaves open whether there is a process, nothing may be concluded from its not
// being found: the migration stays as it is, and the next agent goes on from its record.
absl::Status LiveMigration::Find(absl::StatusOr<std::shared_ptr<hypervisor::Vm>> vm) {
  if (absl::IsNotFound(vm.status())) return absl::OkStatus();
  if (!vm.ok()) return vm.status();
  vm_ = *std::move(vm);
  return absl::OkStatus();
}

absl::Status LiveMigration::AdoptIncoming() {
  const absl::StatusOr<hypervisor::VmDefinition> definition =
      hypervisor::ParseVmDefinition(record_.definition_yaml);
  const absl::Status found =
      definition.ok() ? Find(parts_.hypervisor.Adopt(*definition)) : definition.status();
  return found.ok() ? found : NotAdopted(found);
}

// The process that sent or received the guest has ended by itself: nobody else tidies up after it.
void LiveMigration::Discard() {
  const absl::StatusOr<hypervisor::VmDefinition> definition =
      hypervisor::ParseVmDefinition(record_.definition_yaml);
  const absl::Status discarded =
      definition.ok() ? parts_.hypervisor.Discard(*definition) : definition.status();
  if (!discarded.ok()) {
    spdlog::error("migration {}: {}", record_.id, base::MessageOf(discarded));
  }
}

// The guest is ours, and perhaps was not let go on yet: the last phase is taken again.
void LiveMigration::RecoverOwned() {
  const absl::Status found = Find(parts_.vms.Hold(record_.vm, record_.id));
  if (!found.ok()) return PostPhase(PhaseName::kSwitching, base::MessageOf(found));
  if (vm_ == nullptr) {
    parts_.vms.Return(record_.vm);
    return PostPhase(PhaseName::kCompleted, "its process is gone");
  }
  PostPhase(PhaseName::kSwitching, kRestarted);
  board_->Tell(migration::Decision::kCommit);
  thread_ = std::thread([this] { RunDestination(migration::Ready{}); });
}

// The decision is made or will be, but the process here has gone with the restart: the record
// follows, and a guest that is ours is shown as crashed.
void LiveMigration::AwaitDecisionWithoutProcess() {
  const bool source = record_.role == MigrationRole::kSource;
  board_->Post([&](Snapshot& snapshot) {
    snapshot.phase = source ? PhaseName::kCommitted : PhaseName::kSwitching;
    snapshot.detail = "its process is gone; waiting to hear of the decision";
  });
  std::optional<migration::Decision> told;
  while (!told) told = board_->WaitForDecision(migration::kLookEvery);
  const bool ours = !source && *told == migration::Decision::kCommit;
  const LedgerStep step = source ? LedgerStep::kReleased
                          : ours ? LedgerStep::kOwned
                                 : LedgerStep::kDropped;
  if (!ours) Discard();
  LedgerFile ledger(*this);
  migration::WriteWithoutFail(step, ledger, *board_, parts_.clock);
  PostPhase(source || ours ? PhaseName::kCompleted : PhaseName::kFailed, "its process is gone");
}

}  // namespace sealift::agent
