#include "agent/vm_keeper.h"

#include <fmt/format.h>

#include <thread>
#include <utility>

#include "base/log.h"
#include "base/status.h"

namespace sealift::agent {
namespace {

using hypervisor::Exit;
using hypervisor::RunState;

std::string_view ReasonOf(Exit how) {
  switch (how) {
    case Exit::kGuestShutdown:
      return "the guest shut down";
    case Exit::kStopped:
      return "stopped on request";
    case Exit::kCrashed:
      return "its process ended unexpectedly";
  }
  return "";
}

absl::Status NotRunning(const std::string& name) {
  return absl::FailedPreconditionError(fmt::format("VM {} is not running: start it first", name));
}

absl::Status BeingMigrated(const std::string& name, const std::string& migration) {
  return absl::FailedPreconditionError(
      fmt::format("VM {} is being migrated (migration {})", name, migration));
}

VmStatus StatusOf(RunState state) {
  switch (state) {
    case RunState::kRunning:
      return VmStatus::kRunning;
    case RunState::kShutdown:
    case RunState::kGone:
      return VmStatus::kStopped;
    case RunState::kCrashed:
      return VmStatus::kCrashed;
    default:
      return VmStatus::kPaused;
  }
}

}  // namespace

absl::Status NotAdopted(const absl::Status& adoption) {
  return absl::FailedPreconditionError(fmt::format(
      "{}; sealift-agentd looks again when it is restarted", base::MessageOf(adoption)));
}

VmKeeper::VmKeeper(hypervisor::Hypervisor& hypervisor, const Inventory& inventory,
                   std::string boot_id)
    : hypervisor_(hypervisor),
      inventory_(inventory),
      boot_id_(std::move(boot_id)),
      listener_(std::make_shared<Listener>()) {
  listener_->keeper = this;
}

VmKeeper::~VmKeeper() {
  const std::unique_lock lock(listener_->mutex);
  listener_->keeper = nullptr;
}

absl::Status VmKeeper::Recover() {
  SEALIFT_ASSIGN_OR_RETURN(std::vector<VmRecord> records, inventory_.Load());
  // All at once: a guest that was suspended goes on with the first thing that its adoption does,
  // and must not wait for the QEMU of another one, which may be silent.
  std::vector<std::jthread> adopting;
  adopting.reserve(records.size());
  for (VmRecord& record : records) {
    adopting.emplace_back([this, &record] { Recover(std::move(record)); });
  }
  return absl::OkStatus();
}

void VmKeeper::Recover(VmRecord record) {
  const std::string name = record.definition.name;
  absl::StatusOr<std::shared_ptr<hypervisor::Vm>> vm = hypervisor_.Adopt(record.definition);
  if (vm.ok()) {
    spdlog::info("VM {}: adopted, process {}", name, (*vm)->pid());
    // A start that failed puts the record back, but its process may not have ended.
    if (std::exchange(record.boot_id, boot_id_) != boot_id_) {
      const absl::Status written = inventory_.Put(record);
      if (!written.ok()) spdlog::error("VM {}: {}", name, base::MessageOf(written));
    }
    return SetEntry(std::move(record), *vm);
  }
  const std::lock_guard lock(mutex_);
  Entry& entry = entries_[name];
  entry.record = std::move(record);
  if (!absl::IsNotFound(vm.status())) {
    entry.adoption = NotAdopted(vm.status());
    entry.reason = base::MessageOf(entry.adoption);
    spdlog::error("VM {}: {}", name, entry.reason);
  } else if (!entry.record.boot_id.empty()) {
    entry.record.crash = entry.record.boot_id == boot_id_
                             ? "its process ended while the agent was not running"
                             : "the host went down while it ran";
    entry.reason = entry.record.crash;
    if (AutostartIsDue(entry)) {
      entry.reason += "; the controller has to confirm that it is still ours before it starts";
    }
    spdlog::warn("VM {}: {}", name, entry.reason);
  } else {
    entry.reason = entry.record.crash;
  }
}

bool VmKeeper::AutostartIsDue(const Entry& entry) const {
  const VmRecord& record = entry.record;
  const bool went_down = !record.boot_id.empty() && record.boot_id != boot_id_;
  return record.definition.autostart && went_down && !entry.HasProcess() && entry.adoption.ok();
}

absl::StatusOr<VmKeeper::Entry*> VmKeeper::Find(const std::string& name) {
  const auto found = entries_.find(name);
  if (found == entries_.end()) {
    return absl::NotFoundError(fmt::format("VM {} is not on this host", name));
  }
  return &found->second;
}

absl::StatusOr<VmKeeper::Entry*> VmKeeper::FindCertain(const std::string& name) {
  SEALIFT_ASSIGN_OR_RETURN(Entry* const entry, Find(name));
  SEALIFT_RETURN_IF_ERROR(
      base::Annotate(entry->adoption, fmt::format("whether VM {} runs is not known", name)));
  return entry;
}

absl::StatusOr<VmKeeper::Entry*> VmKeeper::FindFree(const std::string& name) {
  SEALIFT_ASSIGN_OR_RETURN(Entry* const entry, FindCertain(name));
  if (entry->migration.empty()) return entry;
  return BeingMigrated(name, entry->migration);
}

absl::StatusOr<VmView> VmKeeper::Put(VmRecord record) {
  const std::string name = record.definition.name;
  const Turns::Turn turn(turns_, name, Turns::Patience::kLimited);
  SEALIFT_RETURN_IF_ERROR(turn.status());
  {
    const std::lock_guard lock(mutex_);
    SEALIFT_RETURN_IF_ERROR(CheckReplaces(record));
    if (const auto held = entries_.find(name); held != entries_.end()) {
      record.boot_id = held->second.record.boot_id;
      record.crash = held->second.record.crash;
    }
  }
  SEALIFT_RETURN_IF_ERROR(inventory_.Put(record));
  {
    const std::lock_guard lock(mutex_);
    entries_[name].record = std::move(record);
  }
  return Get(name);
}

absl::Status VmKeeper::CheckReplaces(const VmRecord& record) const {
  const std::string& name = record.definition.name;
  const auto found = entries_.find(name);
  if (found == entries_.end()) return absl::OkStatus();
  const VmRecord& held = found->second.record;
  if (record.epoch < held.epoch) {
    return absl::AbortedError(
        fmt::format("VM {} is held under epoch {}, not {}", name, held.epoch, record.epoch));
  }
  if (record.epoch > held.epoch && !found->second.migration.empty()) {
    return BeingMigrated(name, found->second.migration);
  }
  if (record.policy_version < held.policy_version) {
    return absl::AbortedError(fmt::format("VM {} has version {} of its mode, not {}", name,
                                          held.policy_version, record.policy_version));
  }
  return absl::OkStatus();
}

absl::StatusOr<VmRecord> VmKeeper::Record(const std::string& name) {
  const std::lock_guard lock(mutex_);
  SEALIFT_ASSIGN_OR_RETURN(const Entry* const entry, Find(name));
  return entry->record;
}

absl::StatusOr<VmView> VmKeeper::Start(const std::string& name) {
  // A second start of the same VM has to wait and then see it running.
  const Turns::Turn turn(turns_, name, Turns::Patience::kLimited);
  SEALIFT_RETURN_IF_ERROR(turn.status());
  SEALIFT_ASSIGN_OR_RETURN(const VmRecord before, RecordToStart(name));
  SEALIFT_RETURN_IF_ERROR(hypervisor_.CheckDefinition(before.definition));
  VmRecord record = before;
  record.boot_id = boot_id_;
  record.crash.clear();
  absl::StatusOr<std::shared_ptr<hypervisor::Vm>> vm = Boot(record);
  if (!vm.ok()) {
    // It must not be found as one that ran.
    const absl::Status undone = inventory_.Put(before);
    if (!undone.ok()) spdlog::error("VM {}: {}", name, base::MessageOf(undone));
    return vm.status();
  }
  SetEntry(std::move(record), *vm);
  return Get(name);
}

absl::StatusOr<std::shared_ptr<hypervisor::Vm>> VmKeeper::Boot(const VmRecord& record) {
  SEALIFT_RETURN_IF_ERROR(inventory_.Put(record));
  return hypervisor_.Start(record.definition, hypervisor::StartMode::kBoot);
}

absl::StatusOr<VmRecord> VmKeeper::RecordToStart(const std::string& name) {
  const std::lock_guard lock(mutex_);
  SEALIFT_ASSIGN_OR_RETURN(const Entry* const entry, FindFree(name));
  if (!entry->HasProcess()) return entry->record;
  return absl::FailedPreconditionError(fmt::format("VM {} is running already", name));
}

void VmKeeper::SetEntry(VmRecord record, const std::shared_ptr<hypervisor::Vm>& vm) {
  const std::string name = record.definition.name;
  Entry next;
  next.record = std::move(record);
  next.record.crash.clear();
  next.vm = vm;
  next.probe = std::make_shared<StateProbe>(vm);
  next.shared_memory = vm->SharedMemory().status();  // stays so for as long as it runs
  {
    // What was there goes after the lock, for which its process may wait to tell of its end.
    const std::lock_guard lock(mutex_);
    std::swap(entries_[name], next);
  }
  vm->OnExit([listener = listener_, name, process = vm.get()](Exit how) {
    const std::shared_lock lock(listener->mutex);
    if (listener->keeper != nullptr) listener->keeper->OnExit(name, process, how);
  });
}

VmKeeper::Entry* VmKeeper::FindProcess(const std::string& name, const hypervisor::Vm* vm) {
  const auto found = entries_.find(name);
  return found != entries_.end() && found->second.vm.get() == vm ? &found->second : nullptr;
}

void VmKeeper::OnExit(const std::string& name, const hypervisor::Vm* vm, Exit how) {
  // Whoever has the turn may let go of the process, and would wait for this thread of it.
  std::shared_ptr<hypervisor::Vm> kept;
  {
    const std::lock_guard lock(mutex_);
    Entry* const entry = FindProcess(name, vm);
    if (entry == nullptr) return;
    kept = entry->vm;
    entry->exit = how;
    entry->reason = ReasonOf(how);
    if (how == Exit::kCrashed) entry->record.crash = entry->reason;
    spdlog::info("VM {}: {}", name, entry->reason);
    exited_.notify_all();
  }
  const absl::Status written = WriteOff(name, vm);
  if (!written.ok()) spdlog::error("VM {}: {}", name, base::MessageOf(written));
}

absl::Status VmKeeper::WriteOff(const std::string& name, const hypervisor::Vm* vm) {
  const Turns::Turn turn(turns_, name, Turns::Patience::kEndless);
  VmRecord record;
  {
    const std::lock_guard lock(mutex_);
    const Entry* const entry = FindProcess(name, vm);
    if (entry == nullptr || entry->record.boot_id.empty()) return absl::OkStatus();
    record = entry->record;
  }
  record.boot_id.clear();
  SEALIFT_RETURN_IF_ERROR(inventory_.Put(record));
  const std::lock_guard lock(mutex_);
  if (Entry* const entry = FindProcess(name, vm); entry != nullptr) entry->record.boot_id.clear();
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<hypervisor::Vm>> VmKeeper::ProcessOf(const std::string& name) {
  const std::lock_guard lock(mutex_);
  SEALIFT_ASSIGN_OR_RETURN(Entry* const entry, FindFree(name));
  if (!entry->HasProcess()) return NotRunning(name);
  return entry->vm;
}

absl::StatusOr<VmView> VmKeeper::PowerDown(const std::string& name, std::chrono::seconds timeout) {
  SEALIFT_ASSIGN_OR_RETURN(const auto vm, ProcessOf(name));
  SEALIFT_RETURN_IF_ERROR(vm->PowerDown());
  SEALIFT_RETURN_IF_ERROR(WaitForExit(name, timeout));
  SEALIFT_RETURN_IF_ERROR(WriteOff(name, vm.get()));
  return Get(name);
}

absl::Status VmKeeper::WaitForExit(const std::string& name, std::chrono::seconds timeout) {
  std::unique_lock lock(mutex_);
  const bool ended = exited_.wait_for(lock, timeout, [&] {
    const auto found = entries_.find(name);
    return found == entries_.end() || !found->second.HasProcess();
  });
  if (ended) return absl::OkStatus();
  return absl::DeadlineExceededError(
      fmt::format("the guest of VM {} did not react to the power button within {} s: "
                  "stop it with --force",
                  name, timeout.count()));
}

absl::StatusOr<VmView> VmKeeper::ForceOff(const std::string& name) {
  SEALIFT_ASSIGN_OR_RETURN(const auto vm, ProcessOf(name));
  SEALIFT_RETURN_IF_ERROR(vm->Quit());
  SEALIFT_RETURN_IF_ERROR(WaitForExit(name, std::chrono::seconds(5)));
  SEALIFT_RETURN_IF_ERROR(WriteOff(name, vm.get()));
  return Get(name);
}

absl::Status VmKeeper::Forget(const std::string& name) {
  const Turns::Turn turn(turns_, name, Turns::Patience::kLimited);
  SEALIFT_RETURN_IF_ERROR(turn.status());
  {
    const std::lock_guard lock(mutex_);
    SEALIFT_ASSIGN_OR_RETURN(const Entry* const entry, FindFree(name));
    if (entry->HasProcess()) {
      return absl::FailedPreconditionError(fmt::format("VM {} is running: stop it first", name));
    }
  }
  return Remove(name);
}

absl::Status VmKeeper::Remove(const std::string& name) {
  SEALIFT_RETURN_IF_ERROR(inventory_.Remove(name));
  Entry removed;  // goes after the lock, as in SetEntry
  const std::lock_guard lock(mutex_);
  if (const auto found = entries_.find(name); found != entries_.end()) {
    removed = std::move(found->second);
    entries_.erase(found);
  }
  return absl::OkStatus();
}

absl::StatusOr<VmView> VmKeeper::Get(const std::string& name) {
  Entry copy;
  {
    const std::lock_guard lock(mutex_);
    SEALIFT_ASSIGN_OR_RETURN(const Entry* const entry, Find(name));
    copy = *entry;
  }
  Ask(copy);
  return Look(copy);
}

std::vector<VmView> VmKeeper::List() {
  std::vector<Entry> copies;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, entry] : entries_) copies.push_back(entry);
  }
  for (const Entry& copy : copies) Ask(copy);
  std::vector<VmView> views;
  views.reserve(copies.size());
  for (const Entry& copy : copies) views.push_back(Look(copy));
  return views;
}

void VmKeeper::LetGoOn() {
  for (const VmView& view : List()) {
    if (view.status != VmStatus::kPaused) continue;
    const absl::Status status = LetGoOn(view.name);
    if (!status.ok()) spdlog::debug("VM {} stands still: {}", view.name, base::MessageOf(status));
  }
}

absl::Status VmKeeper::LetGoOn(const std::string& name) {
  const Turns::Turn turn(turns_, name, Turns::Patience::kLimited);
  SEALIFT_RETURN_IF_ERROR(turn.status());
  const auto vm = ProcessOf(name);
  if (!vm.ok()) return absl::OkStatus();  // has ended or was lent since
  SEALIFT_ASSIGN_OR_RETURN(const RunState before, (*vm)->State());
  if (before != RunState::kPaused && before != RunState::kIoError) return absl::OkStatus();
  SEALIFT_RETURN_IF_ERROR((*vm)->Continue());
  SEALIFT_ASSIGN_OR_RETURN(const RunState after, (*vm)->State());
  if (after == RunState::kRunning) spdlog::info("VM {}: stood still and goes on", name);
  return absl::OkStatus();
}

// A VM that is lent is its migration's to tell about.
void VmKeeper::Ask(const Entry& entry) {
  if (entry.HasProcess() && entry.migration.empty()) entry.probe->Ask();
}

VmStatus VmKeeper::StatusWithoutProcess(const Entry& entry) {
  if (!entry.adoption.ok()) return VmStatus::kUnknown;
  return entry.record.crash.empty() ? VmStatus::kStopped : VmStatus::kCrashed;
}

// Waits for the process, so the lock is not held.
VmView VmKeeper::Look(const Entry& entry) const {
  VmView view{.name = entry.record.definition.name,
              .uuid = entry.record.definition.uuid,
              .epoch = entry.record.epoch,
              .mode = entry.record.mode,
              .policy_version = entry.record.policy_version,
              .status = StatusWithoutProcess(entry),
              .reason = entry.reason,
              .direct = false,
              .direct_reason = {},
              .autostart_due = AutostartIsDue(entry)};
  if (!entry.HasProcess()) return view;
  view.direct = entry.shared_memory.ok();
  view.direct_reason = base::MessageOf(entry.shared_memory);
  if (!entry.migration.empty()) {
    view.status = VmStatus::kMigrating;
    view.reason = "migration " + entry.migration;
    return view;
  }
  const ProbedState probed = entry.probe->Wait();
  view.status = StatusOf(probed.state);
  view.reason = base::MessageOf(probed.trouble);
  if (probed.state == RunState::kCrashed) view.reason = "the guest panicked";
  if (probed.state == RunState::kIoError) {
    view.reason = "its storage takes no more, is it full? The guest goes on as soon as it does";
  }
  return view;
}

absl::StatusOr<base::UniqueFd> VmKeeper::OpenConsole(const std::string& name) {
  std::shared_ptr<hypervisor::Vm> vm;
  {
    const std::lock_guard lock(mutex_);
    SEALIFT_ASSIGN_OR_RETURN(const Entry* const entry, FindCertain(name));
    if (!entry->HasProcess()) return NotRunning(name);
    vm = entry->vm;
  }
  return vm->OpenConsole();
}

absl::StatusOr<VmKeeper::Loan> VmKeeper::Lend(const std::string& name,
                                              const std::string& migration) {
  // From here on nobody but the migration lets the guest go on.
  const Turns::Turn turn(turns_, name, Turns::Patience::kLimited);
  SEALIFT_RETURN_IF_ERROR(turn.status());
  SEALIFT_ASSIGN_OR_RETURN(const auto vm, ProcessOf(name));
  SEALIFT_ASSIGN_OR_RETURN(const RunState state, vm->State());
  if (state != RunState::kRunning) return NotRunning(name);
  const std::lock_guard lock(mutex_);
  SEALIFT_ASSIGN_OR_RETURN(Entry* const entry, FindFree(name));
  if (entry->vm != vm || !entry->HasProcess()) return NotRunning(name);
  entry->migration = migration;
  return Loan{entry->record, vm};
}

absl::StatusOr<std::shared_ptr<hypervisor::Vm>> VmKeeper::Hold(const std::string& name,
                                                               const std::string& migration) {
  const std::lock_guard lock(mutex_);
  SEALIFT_ASSIGN_OR_RETURN(Entry* const entry, Find(name));
  entry->migration = migration;
  SEALIFT_RETURN_IF_ERROR(entry->adoption);
  if (entry->HasProcess()) return entry->vm;
  return absl::NotFoundError(fmt::format("VM {} has no process", name));
}

void VmKeeper::Return(const std::string& name) {
  const std::lock_guard lock(mutex_);
  if (const auto found = entries_.find(name); found != entries_.end()) {
    found->second.migration.clear();
  }
}

absl::Status VmKeeper::Release(const std::string& name) {
  const Turns::Turn turn(turns_, name, Turns::Patience::kEndless);
  return Remove(name);
}

absl::Status VmKeeper::MakeRoom(const std::string& name, std::uint64_t epoch) {
  const Turns::Turn turn(turns_, name, Turns::Patience::kLimited);
  SEALIFT_RETURN_IF_ERROR(turn.status());
  {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(name);
    if (found == entries_.end()) return absl::OkStatus();
    const Entry& held = found->second;
    SEALIFT_RETURN_IF_ERROR(held.adoption);
    if (held.HasProcess() || !held.migration.empty() || held.record.epoch >= epoch) {
      return absl::AlreadyExistsError(fmt::format("VM {} is on this host already", name));
    }
    spdlog::info("VM {}: comes under epoch {}, what was left of epoch {} goes", name, epoch,
                 held.record.epoch);
  }
  return Remove(name);
}

absl::Status VmKeeper::Own(VmRecord record, const std::shared_ptr<hypervisor::Vm>& vm) {
  const std::string name = record.definition.name;
  record.boot_id = boot_id_;
  const Turns::Turn turn(turns_, name, Turns::Patience::kEndless);
  if (vm == nullptr) record.crash = "its process ended during the switch-over";
  SEALIFT_RETURN_IF_ERROR(inventory_.Put(record));
  {
    const std::lock_guard lock(mutex_);
    Entry& entry = entries_[name];
    entry.migration.clear();
    if (vm == nullptr) entry.reason = record.crash;
    if (vm == nullptr || entry.vm == vm) {
      if (vm != nullptr)
        record.crash = entry.record.crash;  // it may have ended since it was taken in
      entry.record = std::move(record);
      return absl::OkStatus();
    }
  }
  SetEntry(std::move(record), vm);
  return absl::OkStatus();
}

bool VmKeeper::Has(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  return entries_.contains(name);
}

bool VmKeeper::Holds(const std::string& name, std::uint64_t epoch) const {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(name);
  return found != entries_.end() && found->second.record.epoch == epoch;
}

}  // namespace sealift::agent
