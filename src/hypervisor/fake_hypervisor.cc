#include "hypervisor/fake_hypervisor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <thread>
#include <utility>

#include "base/status.h"

namespace sealift::hypervisor {
namespace {

// How long a call waits for a silent process.
constexpr std::chrono::seconds kSilence{10};

RunState RunStateDuring(MigrationState state) {
  switch (state) {
    case MigrationState::kPreSwitchover:
    case MigrationState::kDevice:
      return RunState::kSwitching;
    case MigrationState::kCompleted:
      return RunState::kMigrated;
    default:
      return RunState::kRunning;
  }
}

absl::StatusOr<base::UniqueFd> MakeMemory(std::uint64_t size) {
  base::UniqueFd file(memfd_create("fake-ram", MFD_CLOEXEC));
  if (!file.valid() || ftruncate(file.get(), static_cast<off_t>(size)) != 0) {
    return base::ErrnoStatus("make a memory file", errno);
  }
  return file;
}

absl::StatusOr<base::UniqueFd> Duplicate(const base::UniqueFd& fd) {
  base::UniqueFd copy(fcntl(fd.get(), F_DUPFD_CLOEXEC, 0));
  if (!copy.valid()) return base::ErrnoStatus("dup", errno);
  return copy;
}

absl::StatusOr<base::UniqueFd> OpenNothing() {
  base::UniqueFd fd(open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!fd.valid()) return base::ErrnoStatus("open /dev/null", errno);
  return fd;
}

std::string FirstWord(const std::string& text) { return text.substr(0, text.find(' ')); }

}  // namespace

FakeVm::FakeVm(VmDefinition definition, RunState state, Pace pace, int pid)
    : definition_(std::move(definition)), pid_(pid), pace_(pace), state_(state) {}

FakeVm::~FakeVm() {
  for (std::thread& thread : exit_threads_) {
    // A callback may hold the last reference and so destroy the VM from its own thread.
    if (thread.get_id() == std::this_thread::get_id()) {
      thread.detach();
    } else {
      thread.join();
    }
  }
}

void FakeVm::SetPace(Pace pace) {
  const std::lock_guard lock(mutex_);
  pace_ = pace;
}

void FakeVm::SetState(RunState state) {
  const std::lock_guard lock(mutex_);
  state_ = state;
  changed_.notify_all();
}

void FakeVm::SetOutgoing(MigrationState state, std::string error) {
  const std::lock_guard lock(mutex_);
  MoveOutgoing(state, std::move(error));
}

void FakeVm::SetProgress(const OutgoingProgress& progress) {
  const std::lock_guard lock(mutex_);
  const MigrationState state = outgoing_.state;
  std::string error = std::move(outgoing_.error);
  outgoing_ = progress;
  outgoing_.state = state;
  outgoing_.error = std::move(error);
}

void FakeVm::FinishIncoming(absl::Status result) {
  const std::lock_guard lock(mutex_);
  if (result.ok()) state_ = RunState::kPaused;
  incoming_result_ = std::move(result);
  changed_.notify_all();
}

void FakeVm::SetTracking(bool possible) {
  const std::lock_guard lock(mutex_);
  can_track_ = possible;
}

void FakeVm::FailCall(const std::string& call, absl::Status status) {
  const std::lock_guard lock(mutex_);
  failures_[call] = std::move(status);
}

void FakeVm::SetSilent(bool silent) {
  const std::lock_guard lock(mutex_);
  silent_ = silent;
  changed_.notify_all();
}

void FakeVm::Die(Exit exit) {
  const std::lock_guard lock(mutex_);
  End(exit);
}

std::vector<std::string> FakeVm::Calls() const {
  const std::lock_guard lock(mutex_);
  return calls_;
}

bool FakeVm::WaitForCall(const std::string& call, base::Duration timeout, int count) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout, [&] {
    return std::ranges::count_if(
               calls_, [&](const std::string& made) { return FirstWord(made) == call; }) >= count;
  });
}

MigrationParameters FakeVm::parameters() const {
  const std::lock_guard lock(mutex_);
  return parameters_;
}

absl::StatusOr<RunState> FakeVm::State() {
  std::unique_lock lock(mutex_);
  const auto speaks = [this] { return !silent_ || exit_.has_value(); };
  if (changed_.wait_for(lock, kSilence, speaks)) return state_;
  return absl::DeadlineExceededError("the process does not answer");
}

absl::Status FakeVm::Continue() {
  const std::lock_guard lock(mutex_);
  SEALIFT_RETURN_IF_ERROR(Record("Continue"));
  state_ = RunState::kRunning;
  return absl::OkStatus();
}

absl::Status FakeVm::PowerDown() {
  const std::lock_guard lock(mutex_);
  SEALIFT_RETURN_IF_ERROR(Record("PowerDown"));
  if (pace_ == Pace::kByItself) End(Exit::kGuestShutdown);
  return absl::OkStatus();
}

absl::Status FakeVm::Quit() {
  const std::lock_guard lock(mutex_);
  if (exit_.has_value()) return absl::OkStatus();
  SEALIFT_RETURN_IF_ERROR(Record("Quit"));
  End(Exit::kStopped);
  return absl::OkStatus();
}

absl::Status FakeVm::Settle() {
  const std::lock_guard lock(mutex_);
  return Record("Settle");
}

absl::StatusOr<base::UniqueFd> FakeVm::OpenConsole() {
  const std::lock_guard lock(mutex_);
  SEALIFT_RETURN_IF_ERROR(Record("OpenConsole"));
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return base::ErrnoStatus("socketpair", errno);
  }
  console_.reset(ends[0]);
  return base::UniqueFd(ends[1]);
}

void FakeVm::OnExit(std::function<void(Exit)> callback) {
  const std::lock_guard lock(mutex_);
  on_exit_ = std::move(callback);
  NotifyExit();
}

absl::StatusOr<std::vector<MemoryBlock>> FakeVm::SharedMemory() {
  const std::lock_guard lock(mutex_);
  if (const auto failure = failures_.find("SharedMemory"); failure != failures_.end()) {
    SEALIFT_RETURN_IF_ERROR(failure->second);
  }
  if (definition_.backing == MemoryBacking::kPrivate) {
    return absl::FailedPreconditionError(fmt::format("VM {} has private memory", definition_.name));
  }
  if (!memory_.valid()) {
    SEALIFT_ASSIGN_OR_RETURN(memory_, MakeMemory(definition_.memory_bytes));
  }
  std::vector<MemoryBlock> blocks(1);
  blocks[0].id = "pc.ram";
  blocks[0].size = definition_.memory_bytes;
  SEALIFT_ASSIGN_OR_RETURN(blocks[0].file, Duplicate(memory_));
  blocks[0].address = 1ULL << 40;
  return blocks;
}

absl::StatusOr<WriteTracking> FakeVm::BeginTracking() {
  const std::lock_guard lock(mutex_);
  SEALIFT_RETURN_IF_ERROR(Record("BeginTracking"));
  if (!can_track_) return absl::UnimplementedError("a fake VM writes to no memory");
  WriteTracking tracking;
  SEALIFT_ASSIGN_OR_RETURN(tracking.userfaultfd, OpenNothing());
  SEALIFT_ASSIGN_OR_RETURN(tracking.pagemap, OpenNothing());
  return tracking;
}

absl::Status FakeVm::EndTracking() {
  const std::lock_guard lock(mutex_);
  return Record("EndTracking");
}

std::function<absl::Status()> FakeVm::DiskWriteBack() {
  const std::lock_guard lock(mutex_);
  return [status = Record("DiskWriteBack")] { return status; };
}

bool FakeVm::suspended() const {
  const std::lock_guard lock(mutex_);
  return suspended_;
}

absl::Status FakeVm::Suspend() {
  const std::lock_guard lock(mutex_);
  SEALIFT_RETURN_IF_ERROR(Record("Suspend"));
  suspended_ = true;
  return absl::OkStatus();
}

absl::Status FakeVm::Resume() {
  const std::lock_guard lock(mutex_);
  SEALIFT_RETURN_IF_ERROR(Record("Resume"));
  suspended_ = false;
  return absl::OkStatus();
}

absl::Status FakeVm::StartOutgoing(const std::string& path, const MigrationParameters& parameters) {
  const std::lock_guard lock(mutex_);
  SEALIFT_RETURN_IF_ERROR(Record("StartOutgoing", path));
  parameters_ = parameters;
  outgoing_ = {};
  MoveOutgoing(pace_ == Pace::kByItself ? MigrationState::kPreSwitchover : MigrationState::kActive,
               "");
  return absl::OkStatus();
}

absl::StatusOr<OutgoingProgress> FakeVm::Outgoing() {
  const std::lock_guard lock(mutex_);
  if (exit_.has_value()) return absl::UnavailableError("the process is gone");
  return outgoing_;
}

absl::StatusOr<MigrationState> FakeVm::WaitOutgoing(MigrationState state, base::Duration timeout,
                                                    std::stop_token stop) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::move(stop), timeout,
                    [&] { return outgoing_.state != state || exit_.has_value(); });
  if (exit_.has_value()) return absl::UnavailableError("the process is gone");
  return outgoing_.state;
}

absl::Status FakeVm::SetDowntimeLimit(std::chrono::milliseconds limit) {
  const std::lock_guard lock(mutex_);
  SEALIFT_RETURN_IF_ERROR(Record("SetDowntimeLimit", fmt::format("{} ms", limit.count())));
  parameters_.downtime_limit = limit;
  return absl::OkStatus();
}

absl::Status FakeVm::ContinueSwitchover(base::Duration timeout) {
  const std::lock_guard lock(mutex_);
  SEALIFT_RETURN_IF_ERROR(
      Record("ContinueSwitchover",
             fmt::format("{} ms",
                         std::chrono::duration_cast<std::chrono::milliseconds>(timeout).count())));
  if (outgoing_.state != MigrationState::kPreSwitchover) {
    return absl::FailedPreconditionError("the migration is not in pre-switchover");
  }
  MoveOutgoing(pace_ == Pace::kByItself ? MigrationState::kCompleted : MigrationState::kDevice, "");
  return absl::OkStatus();
}

absl::Status FakeVm::CancelOutgoing() {
  const std::lock_guard lock(mutex_);
  SEALIFT_RETURN_IF_ERROR(Record("CancelOutgoing"));
  if (outgoing_.state == MigrationState::kCompleted) {
    return absl::FailedPreconditionError("the migration has completed");
  }
  if (outgoing_.state != MigrationState::kNone && outgoing_.state != MigrationState::kFailed) {
    MoveOutgoing(MigrationState::kCancelled, "");
  }
  return absl::OkStatus();
}

absl::Status FakeVm::StartIncoming(const std::string& path, const MigrationParameters& parameters) {
  const std::lock_guard lock(mutex_);
  SEALIFT_RETURN_IF_ERROR(Record("StartIncoming", path));
  parameters_ = parameters;
  return absl::OkStatus();
}

absl::Status FakeVm::WaitIncoming(base::Duration timeout) {
  std::unique_lock lock(mutex_);
  if (pace_ == Pace::kByItself && !incoming_result_.has_value() && !exit_.has_value()) {
    state_ = RunState::kPaused;
    incoming_result_ = absl::OkStatus();
  }
  changed_.wait_for(lock, timeout,
                    [&] { return incoming_result_.has_value() || exit_.has_value(); });
  if (exit_.has_value()) return absl::UnavailableError("the process is gone");
  if (!incoming_result_.has_value()) return absl::DeadlineExceededError("nothing was received");
  return *incoming_result_;
}

absl::Status FakeVm::Record(const std::string& call, const std::string& detail) {
  calls_.push_back(detail.empty() ? call : fmt::format("{} {}", call, detail));
  changed_.notify_all();
  if (const auto failure = failures_.find(call); failure != failures_.end()) {
    SEALIFT_RETURN_IF_ERROR(failure->second);
  }
  if (exit_.has_value()) return absl::UnavailableError("the process is gone");
  return absl::OkStatus();
}

void FakeVm::MoveOutgoing(MigrationState state, std::string error) {
  outgoing_.state = state;
  outgoing_.error = std::move(error);
  state_ = RunStateDuring(state);
  changed_.notify_all();
}

void FakeVm::End(Exit exit) {
  if (exit_.has_value()) return;
  exit_ = exit;
  state_ = RunState::kGone;
  changed_.notify_all();
  NotifyExit();
}

void FakeVm::NotifyExit() {
  if (!exit_.has_value() || !on_exit_) return;
  exit_threads_.emplace_back(std::exchange(on_exit_, nullptr), *exit_);
}

FakeHypervisor::FakeHypervisor(std::string folder) : folder_(std::move(folder)) {
  capabilities_.cpu_model_name = "Fake CPU";
  capabilities_.cpu_flags = {"aes"};
  capabilities_.cpus = 4;
  capabilities_.memory_bytes = 16ULL << 30;
  capabilities_.memory_available_bytes = available_memory_;
  capabilities_.accelerator_reason = "no /dev/kvm";
  capabilities_.qemu_version = "7.2.22";
  capabilities_.machine_types = {std::string(kDefaultMachine)};
  capabilities_.usable_cpu_models = {std::string(kDefaultCpuModel), "max"};
  capabilities_.host_cpu_digest = "0123456789abcdef";
  capabilities_.kernel_version = "6.1.0";
  capabilities_.direct_reason = "Linux 6.1.0 has no PAGEMAP_SCAN";
}

void FakeHypervisor::SetCapabilities(HostCapabilities capabilities) {
  capabilities_ = std::move(capabilities);
}

void FakeHypervisor::SetAvailableMemory(std::uint64_t bytes) {
  const std::lock_guard lock(mutex_);
  available_memory_ = bytes;
}

void FakeHypervisor::SetPace(Pace pace) {
  const std::lock_guard lock(mutex_);
  pace_ = pace;
}

void FakeHypervisor::FailCheck(absl::Status status) {
  const std::lock_guard lock(mutex_);
  check_ = std::move(status);
}

void FakeHypervisor::FailStart(absl::Status status) {
  const std::lock_guard lock(mutex_);
  start_ = std::move(status);
}

void FakeHypervisor::FailAdopt(absl::Status status) {
  const std::lock_guard lock(mutex_);
  adopt_ = std::move(status);
}

void FakeHypervisor::MeetInAdopt(int count) {
  const std::lock_guard lock(mutex_);
  awaited_adoptions_ = count;
}

void FakeHypervisor::HangStart(const std::string& name) {
  const std::lock_guard lock(mutex_);
  hanging_name_ = name;
  changed_.notify_all();
}

bool FakeHypervisor::WaitForHangingStart(base::Duration timeout) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, timeout, [this] { return hangs_; });
}

std::shared_ptr<FakeVm> FakeHypervisor::Find(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  const auto found = vms_.find(name);
  return found == vms_.end() ? nullptr : found->second;
}

std::uint64_t FakeHypervisor::AvailableMemoryBytes() const {
  const std::lock_guard lock(mutex_);
  return available_memory_;
}

absl::Status FakeHypervisor::CheckDefinition(const VmDefinition& /*definition*/) const {
  const std::lock_guard lock(mutex_);
  return check_;
}

absl::StatusOr<std::shared_ptr<Vm>> FakeHypervisor::Start(const VmDefinition& definition,
                                                          StartMode mode) {
  SEALIFT_RETURN_IF_ERROR(CheckMemory(definition, AvailableMemoryBytes()));
  std::unique_lock lock(mutex_);
  SEALIFT_RETURN_IF_ERROR(start_);
  if (hanging_name_ == definition.name) {
    hangs_ = true;
    changed_.notify_all();
    changed_.wait(lock, [&] { return hanging_name_ != definition.name; });
    hangs_ = false;
  }
  if (const auto old = vms_.find(definition.name);
      old != vms_.end() && *old->second->State() != RunState::kGone) {
    return absl::AlreadyExistsError(fmt::format("VM {} already runs", definition.name));
  }
  const RunState state = mode == StartMode::kBoot ? RunState::kRunning : RunState::kIncoming;
  auto vm = std::make_shared<FakeVm>(definition, state, pace_, next_pid_++);
  vms_[definition.name] = vm;
  return vm;
}

absl::StatusOr<std::shared_ptr<Vm>> FakeHypervisor::Adopt(const VmDefinition& definition) {
  {
    std::unique_lock lock(mutex_);
    --awaited_adoptions_;
    changed_.notify_all();
    if (!changed_.wait_for(lock, kSilence, [this] { return awaited_adoptions_ <= 0; })) {
      return absl::DeadlineExceededError("the other VMs were not adopted meanwhile");
    }
    SEALIFT_RETURN_IF_ERROR(adopt_);
  }
  const std::shared_ptr<FakeVm> vm = Find(definition.name);
  if (vm == nullptr || *vm->State() == RunState::kGone) {
    return absl::NotFoundError(fmt::format("VM {} has no process", definition.name));
  }
  return vm;
}

absl::Status FakeHypervisor::Discard(const VmDefinition& definition) {
  const std::lock_guard lock(mutex_);
  const auto found = vms_.find(definition.name);
  if (found != vms_.end() && *found->second->State() != RunState::kGone) {
    return absl::FailedPreconditionError(fmt::format("VM {} still runs", definition.name));
  }
  discarded_.insert(definition.name);
  return absl::OkStatus();
}

bool FakeHypervisor::Discarded(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  return discarded_.contains(name);
}

std::vector<VmDefinition> FakeHypervisor::Processes() const {
  const std::lock_guard lock(mutex_);
  std::vector<VmDefinition> found;
  for (const auto& [name, vm] : vms_) {
    if (*vm->State() != RunState::kGone) found.push_back(vm->definition());
  }
  return found;
}

std::string FakeHypervisor::MigrationSocketPath(const VmDefinition& definition,
                                                std::string_view direction) const {
  return fmt::format("{}/{}-{}.sock", folder_, definition.name, direction);
}

}  // namespace sealift::hypervisor
