#include "agent/vm_keeper.h"

#include <fmt/format.h>

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

VmKeeper::VmKeeper(hypervisor::Hypervisor& hypervisor, const Inventory& inventory,
                   std::string boot_id)
    : hypervisor_(hypervisor),
      inventory_(inventory),
      boot_id_(std::move(boot_id)),
      listener_(std::make_shared<Listener>()) {
  listener_->keeper = this;
}

VmKeeper::~VmKeeper() {
  const std::lock_guard lock(listener_->mutex);
  listener_->keeper = nullptr;
}

absl::Status VmKeeper::Recover() {
  SEALIFT_ASSIGN_OR_RETURN(std::vector<VmRecord> records, inventory_.Load());
  for (VmRecord& record : records) Recover(std::move(record));
  return absl::OkStatus();
}

void VmKeeper::Recover(VmRecord record) {
  const std::string name = record.definition.name;
  absl::StatusOr<std::shared_ptr<hypervisor::Vm>> vm = hypervisor_.Adopt(record.definition);
  const std::lock_guard lock(mutex_);
  Entry& entry = entries_[name];
  entry.record = std::move(record);
  if (vm.ok()) {
    SetProcess(entry, *std::move(vm));
    spdlog::info("VM {}: adopted, process {}", name, entry.vm->pid());
  } else if (!absl::IsNotFound(vm.status())) {
    entry.reason = base::MessageOf(vm.status());
    spdlog::error("VM {}: {}", name, entry.reason);
  } else if (entry.record.boot_id == boot_id_) {
    entry.crashed = true;
    entry.reason = "its process ended while the agent was not running";
    spdlog::warn("VM {}: {}", name, entry.reason);
  } else if (!entry.record.boot_id.empty()) {
    entry.reason = AutostartIsDue(entry) ? "the host was rebooted; the controller has to confirm "
                                           "that it is still ours before it starts"
                                         : "the host was rebooted";
  }
}

bool VmKeeper::AutostartIsDue(const Entry& entry) const {
  const VmRecord& record = entry.record;
  const bool went_down = !record.boot_id.empty() && record.boot_id != boot_id_;
  return record.definition.autostart && went_down && !entry.HasProcess();
}

absl::StatusOr<VmKeeper::Entry*> VmKeeper::Find(const std::string& name) {
  const auto found = entries_.find(name);
  if (found == entries_.end()) {
    return absl::NotFoundError(fmt::format("VM {} is not on this host", name));
  }
  return &found->second;
}

absl::StatusOr<VmKeeper::Entry*> VmKeeper::FindFree(const std::string& name) {
  SEALIFT_ASSIGN_OR_RETURN(Entry* const entry, Find(name));
  if (entry->migration.empty()) return entry;
  return absl::FailedPreconditionError(
      fmt::format("VM {} is being migrated (migration {})", name, entry->migration));
}

absl::StatusOr<VmView> VmKeeper::Put(VmRecord record) {
  const std::string name = record.definition.name;
  Entry copy;
  {
    const std::lock_guard lock(mutex_);
    const auto found = entries_.find(name);
    if (found != entries_.end()) {
      const VmRecord& held = found->second.record;
      if (record.epoch < held.epoch) {
        return absl::AbortedError(
            fmt::format("VM {} is held under epoch {}, not {}", name, held.epoch, record.epoch));
      }
      if (record.policy_version < held.policy_version) {
        return absl::AbortedError(fmt::format("VM {} has version {} of its mode, not {}", name,
                                              held.policy_version, record.policy_version));
      }
      record.boot_id = held.boot_id;
    }
    SEALIFT_RETURN_IF_ERROR(inventory_.Put(record));
    Entry& entry = entries_[name];
    entry.record = std::move(record);
    copy = entry;
  }
  return Look(std::move(copy));
}

absl::StatusOr<VmRecord> VmKeeper::Record(const std::string& name) {
  const std::lock_guard lock(mutex_);
  SEALIFT_ASSIGN_OR_RETURN(const Entry* const entry, Find(name));
  return entry->record;
}

absl::StatusOr<VmView> VmKeeper::Start(const std::string& name) {
  Entry copy;
  {
    // Held over the start: a second start of the same VM has to wait and then see it running.
    const std::lock_guard lock(mutex_);
    SEALIFT_ASSIGN_OR_RETURN(Entry* const entry, FindFree(name));
    if (entry->HasProcess()) {
      return absl::FailedPreconditionError(fmt::format("VM {} is running already", name));
    }
    SEALIFT_RETURN_IF_ERROR(hypervisor_.CheckDefinition(entry->record.definition));
    VmRecord record = entry->record;
    record.boot_id = boot_id_;
    SEALIFT_RETURN_IF_ERROR(inventory_.Put(record));
    SEALIFT_ASSIGN_OR_RETURN(auto vm,
                             hypervisor_.Start(record.definition, hypervisor::StartMode::kBoot));
    entry->record = std::move(record);
    SetProcess(*entry, std::move(vm));
    copy = *entry;
  }
  return Look(std::move(copy));
}

void VmKeeper::SetProcess(Entry& entry, std::shared_ptr<hypervisor::Vm> vm) {
  entry.vm = std::move(vm);
  entry.shared_memory = entry.vm->SharedMemory().status();  // stays so for as long as it runs
  entry.exit.reset();
  entry.crashed = false;
  entry.reason.clear();
  entry.vm->OnExit([listener = listener_, name = entry.record.definition.name,
                    process = entry.vm.get()](Exit how) {
    const std::lock_guard lock(listener->mutex);
    if (listener->keeper != nullptr) listener->keeper->OnExit(name, process, how);
  });
}

void VmKeeper::OnExit(const std::string& name, const hypervisor::Vm* vm, Exit how) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(name);
  if (found == entries_.end() || found->second.vm.get() != vm) return;
  Entry& entry = found->second;
  entry.exit = how;
  entry.reason = ReasonOf(how);
  spdlog::info("VM {}: {}", name, entry.reason);
  entry.record.boot_id.clear();
  const absl::Status written = inventory_.Put(entry.record);
  if (!written.ok()) spdlog::error("VM {}: {}", name, base::MessageOf(written));
  exited_.notify_all();
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
  return Get(name);
}

absl::Status VmKeeper::Forget(const std::string& name) {
  Entry forgotten;
  const std::lock_guard lock(mutex_);
  SEALIFT_ASSIGN_OR_RETURN(Entry* const entry, FindFree(name));
  if (entry->HasProcess()) {
    return absl::FailedPreconditionError(fmt::format("VM {} is running: stop it first", name));
  }
  SEALIFT_RETURN_IF_ERROR(inventory_.Remove(name));
  forgotten = std::move(*entry);
  entries_.erase(name);
  return absl::OkStatus();
}

absl::StatusOr<VmView> VmKeeper::Get(const std::string& name) {
  Entry copy;
  {
    const std::lock_guard lock(mutex_);
    SEALIFT_ASSIGN_OR_RETURN(const Entry* const entry, Find(name));
    copy = *entry;
  }
  return Look(std::move(copy));
}

std::vector<VmView> VmKeeper::List() {
  std::vector<Entry> copies;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, entry] : entries_) copies.push_back(entry);
  }
  std::vector<VmView> views;
  for (Entry& copy : copies) views.push_back(Look(std::move(copy)));
  return views;
}

// Asks the process, so the lock is not held.
VmView VmKeeper::Look(Entry entry) const {
  VmView view{.name = entry.record.definition.name,
              .uuid = entry.record.definition.uuid,
              .epoch = entry.record.epoch,
              .mode = entry.record.mode,
              .policy_version = entry.record.policy_version,
              .status = entry.crashed || entry.exit == Exit::kCrashed ? VmStatus::kCrashed
                                                                      : VmStatus::kStopped,
              .reason = entry.reason,
              .direct = false,
              .direct_reason = {},
              .autostart_due = AutostartIsDue(entry)};
  if (!entry.HasProcess()) return view;
  view.direct = entry.shared_memory.ok();
  view.direct_reason = base::MessageOf(entry.shared_memory);
  const absl::StatusOr<RunState> state = entry.vm->State();
  if (!entry.migration.empty()) {
    view.status = VmStatus::kMigrating;
    view.reason = "migration " + entry.migration;
  } else if (state.ok()) {
    view.status = StatusOf(*state);
    if (*state == RunState::kCrashed) view.reason = "the guest panicked";
  } else {
    view.status = VmStatus::kPaused;
    view.reason = base::MessageOf(state.status());
  }
  return view;
}

absl::StatusOr<base::UniqueFd> VmKeeper::OpenConsole(const std::string& name) {
  std::shared_ptr<hypervisor::Vm> vm;
  {
    const std::lock_guard lock(mutex_);
    SEALIFT_ASSIGN_OR_RETURN(const Entry* const entry, Find(name));
    if (!entry->HasProcess()) return NotRunning(name);
    vm = entry->vm;
  }
  return vm->OpenConsole();
}

absl::StatusOr<VmKeeper::Loan> VmKeeper::Lend(const std::string& name,
                                              const std::string& migration) {
  SEALIFT_ASSIGN_OR_RETURN(const auto vm, ProcessOf(name));
  SEALIFT_ASSIGN_OR_RETURN(const RunState state, vm->State());
  if (state != RunState::kRunning) return NotRunning(name);
  const std::lock_guard lock(mutex_);
  SEALIFT_ASSIGN_OR_RETURN(Entry* const entry, FindFree(name));
  if (entry->vm != vm || !entry->HasProcess()) return NotRunning(name);
  entry->migration = migration;
  return Loan{entry->record, vm};
}

std::shared_ptr<hypervisor::Vm> VmKeeper::Hold(const std::string& name,
                                               const std::string& migration) {
  const std::lock_guard lock(mutex_);
  const auto found = entries_.find(name);
  if (found == entries_.end()) return nullptr;
  found->second.migration = migration;
  return found->second.HasProcess() ? found->second.vm : nullptr;
}

void VmKeeper::Return(const std::string& name) {
  const std::lock_guard lock(mutex_);
  if (const auto found = entries_.find(name); found != entries_.end()) {
    found->second.migration.clear();
  }
}

absl::Status VmKeeper::Release(const std::string& name) {
  Entry released;
  const std::lock_guard lock(mutex_);
  SEALIFT_RETURN_IF_ERROR(inventory_.Remove(name));
  if (const auto found = entries_.find(name); found != entries_.end()) {
    released = std::move(found->second);
    entries_.erase(found);
  }
  return absl::OkStatus();
}

absl::Status VmKeeper::Own(VmRecord record, std::shared_ptr<hypervisor::Vm> vm) {
  record.boot_id = boot_id_;
  const std::lock_guard lock(mutex_);
  SEALIFT_RETURN_IF_ERROR(inventory_.Put(record));
  Entry& entry = entries_[record.definition.name];
  entry.record = std::move(record);
  entry.migration.clear();
  if (vm == nullptr) {
    entry.crashed = !entry.HasProcess();
    entry.reason = "its process ended during the switch-over";
  } else if (entry.vm != vm) {
    SetProcess(entry, std::move(vm));
  }
  return absl::OkStatus();
}

bool VmKeeper::Has(const std::string& name) const {
  const std::lock_guard lock(mutex_);
  return entries_.contains(name);
}

}  // namespace sealift::agent
