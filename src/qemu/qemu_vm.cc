#include "qemu/qemu_vm.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <chrono>
#include <csignal>
#include <utility>

#include "base/detached_call.h"
#include "base/log.h"
#include "base/socket.h"
#include "base/status.h"
#include "qemu/disk_cache.h"
#include "qemu/file_access.h"
#include "qemu/guest_memory.h"
#include "qemu/migration_json.h"
#include "qemu/write_tracking.h"

namespace sealift::qemu {
namespace {

using hypervisor::MemoryBlock;
using hypervisor::MigrationParameters;
using hypervisor::MigrationState;
using hypervisor::OutgoingProgress;
using hypervisor::RunState;
using nlohmann::json;
using std::chrono::seconds;

// QEMU flushes its disks before it quits; a wedged one notices neither `quit` nor SIGTERM.
constexpr auto kAnswerTimeout = seconds(2);
constexpr auto kQuitTimeout = seconds(5);
constexpr auto kTermTimeout = seconds(2);
constexpr auto kKillTimeout = seconds(5);
// QMP hangs up a moment before the process is gone.
constexpr auto kEndTimeout = seconds(1);
constexpr auto kCancelTimeout = seconds(10);
// How long a disk may take to be written back before it is reopened all the same.
constexpr auto kWriteBackTimeout = seconds(5);
// A process that receives a guest may be too busy with that to answer: how long it is asked at a
// time, and how long it may be silent altogether.
constexpr auto kReceivingAnswerTimeout = seconds(1);
constexpr auto kReceivingTimeout = seconds(15);
// How long a guest may stay stopped after its migration has been cancelled before we say `cont`.
constexpr auto kResumeTimeout = seconds(2);

absl::StatusOr<std::string> QueryRunState(const QmpCall& qmp) {
  SEALIFT_ASSIGN_OR_RETURN(const json reply, qmp("query-status", nullptr));
  std::string status = TextAt(reply, "status");
  if (status.empty()) return absl::InternalError("QEMU's answer to query-status is not understood");
  return status;
}

absl::StatusOr<OutgoingProgress> QueryMigration(const QmpCall& qmp) {
  SEALIFT_ASSIGN_OR_RETURN(const json reply, qmp("query-migrate", nullptr));
  return ParseProgress(reply);
}

bool IsOver(MigrationState state) {
  return state == MigrationState::kNone || state == MigrationState::kCompleted ||
         state == MigrationState::kFailed || state == MigrationState::kCancelled;
}

}  // namespace

std::shared_ptr<QemuVm> QemuVm::Connect(RunFolder folder, hypervisor::VmDefinition definition,
                                        base::SystemUser user, base::Process process) {
  std::shared_ptr<QemuVm> vm(
      new QemuVm(std::move(folder), std::move(definition), std::move(user), std::move(process)));
  static_cast<void>(vm->Qmp());
  return vm;
}

QemuVm::QemuVm(RunFolder folder, hypervisor::VmDefinition definition, base::SystemUser user,
               base::Process process)
    : folder_(std::move(folder)),
      definition_(std::move(definition)),
      user_(std::move(user)),
      process_(std::make_shared<const base::Process>(std::move(process))),
      monitor_(process_, folder_.ConsoleLog()) {}

absl::StatusOr<std::shared_ptr<QmpClient>> QemuVm::Qmp(base::Duration timeout) {
  const std::lock_guard lock(qmp_mutex_);
  if (qmp_ != nullptr && qmp_->Check().ok()) return qmp_;
  if (process_->WaitGone(base::Duration::zero())) return Ended();
  qmp_.reset();
  absl::StatusOr<std::shared_ptr<QmpClient>> client = ConnectQmp(timeout);
  if (client.ok()) {
    qmp_ = *client;
    return client;
  }
  if (process_->WaitGone(kEndTimeout)) return Ended();
  return base::Annotate(client.status(),
                        fmt::format("VM {}: QEMU (process {})", definition_.name, pid()));
}

absl::StatusOr<std::shared_ptr<QmpClient>> QemuVm::ConnectQmp(base::Duration timeout) {
  monitor_.HandleConnected();
  absl::StatusOr<std::shared_ptr<QmpClient>> client =
      QmpClient::Connect(folder_.Qmp(),
                         {.event = [this](const QmpEvent& event) { monitor_.HandleEvent(event); },
                          .closed = [this] { monitor_.HandleClosed(); }},
                         timeout);
  if (client.ok()) {
    SEALIFT_RETURN_IF_ERROR(RecallMigration(**client, timeout));
  } else {
    monitor_.HandleClosed();
  }
  return client;
}

// RecallMigration finds out what was begun before this connection, by an earlier agent perhaps.
absl::Status QemuVm::RecallMigration(QmpClient& client, base::Duration timeout) {
  const QmpCall call = [&](std::string_view command, json arguments) {
    return client.Execute(command, std::move(arguments), timeout);
  };
  SEALIFT_ASSIGN_OR_RETURN(const std::string run_state, QueryRunState(call));
  SEALIFT_ASSIGN_OR_RETURN(const OutgoingProgress progress, QueryMigration(call));
  if (progress.state == MigrationState::kNone) return absl::OkStatus();
  // Only a source stops in "postmigrate"; a destination has completed in any other state, or is
  // still receiving.
  const bool received = progress.state == MigrationState::kCompleted && run_state != "postmigrate";
  const bool incoming = received || run_state == "inmigrate";
  monitor_.SetMigration({incoming ? Direction::kIncoming : Direction::kOutgoing, progress.state});
  return absl::OkStatus();
}

absl::Status QemuVm::CheckConnected() { return Qmp().status(); }

absl::Status QemuVm::Ended() const {
  const std::string log = base::LastLines(folder_.Log());
  return absl::UnavailableError(
      fmt::format("VM {}: QEMU has ended{}{}", definition_.name, log.empty() ? "" : ": ", log));
}

absl::StatusOr<json> QemuVm::Execute(std::string_view command, json arguments,
                                     base::Duration timeout) {
  SEALIFT_ASSIGN_OR_RETURN(const std::shared_ptr<QmpClient> client, Qmp(timeout));
  absl::StatusOr<json> reply = client->Execute(command, std::move(arguments), timeout);
  if (reply.ok()) return reply;
  if (absl::IsUnavailable(reply.status()) && process_->WaitGone(kEndTimeout)) return Ended();
  return base::Annotate(reply.status(), fmt::format("VM {}", definition_.name));
}

absl::Status QemuVm::Run(std::string_view command, json arguments, base::Duration timeout) {
  return Execute(command, std::move(arguments), timeout).status();
}

absl::StatusOr<RunState> QemuVm::State() {
  if (process_->WaitGone(base::Duration::zero())) return RunState::kGone;
  const absl::StatusOr<std::string> word = QueryRunState(Caller());
  if (!word.ok()) {
    if (process_->WaitGone(base::Duration::zero())) return RunState::kGone;
    return word.status();
  }
  if (*word != "postmigrate") return ParseRunState(*word, MigrationState::kNone);
  SEALIFT_ASSIGN_OR_RETURN(const OutgoingProgress progress, QueryMigration(Caller()));
  return ParseRunState(*word, progress.state);
}

absl::Status QemuVm::Continue() { return Run("cont"); }

absl::Status QemuVm::PowerDown() { return Run("system_powerdown"); }

// AskToQuit says `quit` and waits for the end; false when QEMU does not listen or does not end.
bool QemuVm::AskToQuit() {
  if (monitor_.WaitExit(base::Duration::zero())) return true;
  const absl::StatusOr<std::shared_ptr<QmpClient>> client = Qmp();
  if (!client.ok()) return monitor_.WaitExit(base::Duration::zero());
  const absl::Status status = (*client)->Execute("quit", nullptr, kAnswerTimeout).status();
  // QEMU often hangs up before it has answered.
  if (!status.ok() && !absl::IsUnavailable(status)) return false;
  return monitor_.WaitExit(kQuitTimeout);
}

absl::Status QemuVm::Quit() {
  monitor_.ExpectExit();
  if (!AskToQuit()) {
    spdlog::warn("VM {}: QEMU does not quit: SIGTERM, then SIGKILL", definition_.name);
    SEALIFT_RETURN_IF_ERROR(process_->Send(SIGTERM));
    if (!monitor_.WaitExit(kTermTimeout)) SEALIFT_RETURN_IF_ERROR(process_->Send(SIGKILL));
  }
  if (!monitor_.WaitExit(kKillTimeout)) {
    return absl::DeadlineExceededError(
        fmt::format("VM {}: process {} does not end, not even after SIGKILL: is its storage stuck?",
                    definition_.name, pid()));
  }
  return folder_.Remove();
}

absl::Status QemuVm::Settle() {
  // Five rounds within two seconds, as QEMU does by itself after a migration
  // (migration/migration.c).
  absl::Status status =
      Run("announce-self", {{"initial", 50}, {"max", 550}, {"rounds", 5}, {"step", 100}});
  status.Update(SetUpMigration({}));
  return status;
}

absl::StatusOr<base::UniqueFd> QemuVm::OpenConsole() {
  return base::ConnectUnix(folder_.Console(), SOCK_STREAM, kQmpTimeout);
}

void QemuVm::OnExit(std::function<void(hypervisor::Exit)> callback) {
  monitor_.OnExit(std::move(callback));
}

absl::StatusOr<std::vector<MemoryBlock>> QemuVm::SharedMemory() {
  auto blocks = FindGuestMemory(*process_);
  if (!absl::IsNotFound(blocks.status())) {
    return blocks.ok() ? std::move(blocks)
                       : base::Annotate(blocks.status(), fmt::format("VM {}", definition_.name));
  }
  if (process_->WaitGone(base::Duration::zero())) return Ended();
  return absl::FailedPreconditionError(fmt::format(
      "VM {} runs with private memory, which nobody but QEMU can copy: shut it down and "
      "start it again with 'memory: {{backing: shared}}'",
      definition_.name));
}

QmpCall QemuVm::Caller(base::Duration timeout) {
  return [this, timeout](std::string_view command, json arguments) {
    return Execute(command, std::move(arguments), timeout);
  };
}

absl::StatusOr<hypervisor::WriteTracking> QemuVm::BeginTracking() {
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<MemoryBlock> blocks, SharedMemory());
  SEALIFT_RETURN_IF_ERROR(UsePageCache(definition_, Caller(), [this](const hypervisor::Disk& disk) {
    return DropPageCache(user_, disk);
  }));
  // After the disks: a transfer past the page cache that had begun before is over now.
  absl::StatusOr<hypervisor::WriteTracking> tracking = TrackWrites(*process_, blocks);
  if (tracking.ok()) return tracking;
  absl::Status status = base::Annotate(tracking.status(), fmt::format("VM {}", definition_.name));
  if (const absl::Status undone = EndTracking(); !undone.ok()) {
    spdlog::error("{}", base::MessageOf(undone));
  }
  return status;
}

// Storage that hangs is left to QEMU.
absl::Status QemuVm::EndTracking() {
  return BypassPageCache(definition_, Caller(), [this](const hypervisor::Disk& disk) {
    const base::DetachedCall call([user = user_, disk] { return WriteBack(user, disk); });
    return call.Wait(kWriteBackTimeout).value_or(absl::OkStatus());
  });
}

std::function<absl::Status()> QemuVm::DiskWriteBack() {
  return [user = user_, disks = definition_.disks] {
    absl::Status first;
    for (const hypervisor::Disk& disk : disks) {
      if (!disk.read_only) first.Update(WriteBack(user, disk));
    }
    return first;
  };
}

absl::Status QemuVm::Suspend() { return process_->Send(SIGSTOP); }

absl::Status QemuVm::Resume() { return process_->Send(SIGCONT); }

void QemuVm::Repair() {
  {
    // The migrations of other VMs are taken up after this: one that is silent is not asked twice.
    const std::lock_guard lock(qmp_mutex_);
    if (qmp_ == nullptr) return;
  }
  const absl::StatusOr<RunState> state = State();
  // Neither of these has its disks open for use.
  if (!state.ok() || *state == RunState::kMigrated || *state == RunState::kIncoming) return;
  if (const absl::Status status = EndTracking(); !status.ok()) {
    spdlog::error("{}", base::MessageOf(status));
  }
}

absl::Status QemuVm::SetUpMigration(const MigrationParameters& parameters) {
  SEALIFT_ASSIGN_OR_RETURN(const json known, Execute("query-migrate-capabilities"));
  if (parameters.ignore_shared && !HasIgnoreShared(known)) {
    return absl::FailedPreconditionError(
        fmt::format("VM {}: its QEMU has no migration capability x-ignore-shared: use the stream "
                    "engine",
                    definition_.name));
  }
  SEALIFT_RETURN_IF_ERROR(
      Run("migrate-set-capabilities", MigrationCapabilities(parameters, HasIgnoreShared(known))));
  return Run("migrate-set-parameters", MigrationParametersJson(parameters));
}

absl::Status QemuVm::StartOutgoing(const std::string& path, const MigrationParameters& parameters) {
  SEALIFT_RETURN_IF_ERROR(SetUpMigration(parameters));
  const MigrationView before = monitor_.migration();
  monitor_.SetMigration({Direction::kOutgoing, MigrationState::kSetup});
  absl::Status started = Run("migrate", {{"uri", "unix:" + path}});
  if (!started.ok()) monitor_.SetMigration(before);
  return started;
}

absl::StatusOr<OutgoingProgress> QemuVm::Outgoing() {
  if (monitor_.migration().direction != Direction::kOutgoing) return OutgoingProgress{};
  return QueryMigration(Caller());
}

absl::StatusOr<MigrationState> QemuVm::WaitOutgoing(MigrationState state, base::Duration timeout,
                                                    std::stop_token stop) {
  // Without a connection no event would tell; a new one finds out what was missed.
  static_cast<void>(Qmp(timeout));
  if (monitor_.migration().direction != Direction::kOutgoing) return MigrationState::kNone;
  const MigrationView view = monitor_.WaitMigration(
      [&](const MigrationView& now) { return now.state != state; }, timeout, std::move(stop));
  if (monitor_.WaitExit(base::Duration::zero())) return Ended();
  return view.state;
}

absl::Status QemuVm::SetDowntimeLimit(std::chrono::milliseconds limit) {
  return Run("migrate-set-parameters", {{"downtime-limit", limit.count()}});
}

absl::Status QemuVm::ContinueSwitchover(base::Duration timeout) {
  return Run("migrate-continue", {{"state", "pre-switchover"}}, timeout);
}

absl::Status QemuVm::CancelOutgoing() {
  if (monitor_.migration().direction != Direction::kOutgoing) return absl::OkStatus();
  // Without effect when it is over already.
  SEALIFT_RETURN_IF_ERROR(Run("migrate_cancel"));
  const MigrationView view = monitor_.WaitMigration(
      [](const MigrationView& now) { return IsOver(now.state); }, kCancelTimeout);
  if (monitor_.WaitExit(base::Duration::zero())) return Ended();
  if (view.state == MigrationState::kCompleted) {
    return absl::FailedPreconditionError(
        fmt::format("VM {}: the migration has already completed", definition_.name));
  }
  if (!IsOver(view.state)) {
    return absl::DeadlineExceededError(
        fmt::format("VM {}: QEMU does not cancel the migration", definition_.name));
  }
  return AwaitRunning();
}

// QEMU resumes the guest by itself a moment after `cancelled` or `failed`. A guest that was paused
// before stays paused; one that hangs in finish-migrate gets a `cont`.
absl::Status QemuVm::AwaitRunning() {
  const auto deadline = std::chrono::steady_clock::now() + kResumeTimeout;
  for (;;) {
    const int seen = monitor_.RunStateChanges();
    SEALIFT_ASSIGN_OR_RETURN(const std::string word, QueryRunState(Caller()));
    if (word != "finish-migrate") return absl::OkStatus();
    const auto left = deadline - std::chrono::steady_clock::now();
    if (left <= base::Duration::zero()) return Continue();
    monitor_.WaitRunStateChange(seen, left);
  }
}

absl::Status QemuVm::StartIncoming(const std::string& path, const MigrationParameters& parameters) {
  // Before migrate-incoming, which takes the number of channels as its backlog.
  SEALIFT_RETURN_IF_ERROR(SetUpMigration(parameters));
  monitor_.SetMigration({Direction::kIncoming, MigrationState::kNone});
  return Run("migrate-incoming", {{"uri", "unix:" + path}});
}

absl::Status QemuVm::WaitIncoming(base::Duration timeout) {
  const auto done = [](const MigrationView& now) {
    return now.state == MigrationState::kCompleted || now.state == MigrationState::kFailed;
  };
  const MigrationView view = monitor_.WaitMigration(done, timeout);
  if (view.direction != Direction::kIncoming) {
    return absl::FailedPreconditionError(
        fmt::format("VM {}: no incoming migration was started", definition_.name));
  }
  // Also finds a QEMU that is wedged or gone.
  const absl::StatusOr<std::string> word = QueryRunState(Caller(kReceivingAnswerTimeout));
  if (absl::IsDeadlineExceeded(word.status())) return JudgeSilence(word.status());
  silent_since_.reset();
  SEALIFT_RETURN_IF_ERROR(word.status());
  if (view.state == MigrationState::kCompleted) return absl::OkStatus();
  if (view.state == MigrationState::kFailed) {
    return absl::AbortedError(fmt::format("VM {}: the incoming migration has failed: {}",
                                          definition_.name, base::LastLines(folder_.Log())));
  }
  return absl::DeadlineExceededError(
      fmt::format("VM {}: the migration has not arrived in time (QEMU is in state {})",
                  definition_.name, *word));
}

absl::Status QemuVm::JudgeSilence(const absl::Status& silence) {
  const auto now = std::chrono::steady_clock::now();
  if (!silent_since_) silent_since_ = now;
  if (now - *silent_since_ < kReceivingTimeout) return silence;
  return absl::AbortedError(
      fmt::format("VM {}: its QEMU has not answered for {} s while it receives the guest",
                  definition_.name, kReceivingTimeout.count()));
}

}  // namespace sealift::qemu
