#include "agent/migration_keeper.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <utility>

#include "base/log.h"
#include "base/status.h"

namespace sealift::agent {
namespace {

using migration::PhaseName;

constexpr std::chrono::seconds kHousekeeping{5};
}  // namespace

class MigrationKeeper::Claim {
 public:
  Claim(MigrationKeeper& keeper, std::string id) : keeper_(keeper), id_(std::move(id)) {
    const std::lock_guard lock(keeper_.mutex_);
    valid_ = !keeper_.migrations_.contains(id_) && keeper_.claimed_.insert(id_).second;
  }
  Claim(const Claim&) = delete;
  Claim& operator=(const Claim&) = delete;
  ~Claim() {
    if (!valid_) return;
    const std::lock_guard lock(keeper_.mutex_);
    keeper_.claimed_.erase(id_);
  }

  [[nodiscard]] absl::Status status() const {
    if (valid_) return absl::OkStatus();
    return absl::AlreadyExistsError(fmt::format("migration {} is known on this host already", id_));
  }

 private:
  MigrationKeeper& keeper_;
  const std::string id_;
  bool valid_ = false;
};

MigrationKeeper::MigrationKeeper(MigrationSettings settings, LiveMigrationParts parts)
    : settings_(std::move(settings)),
      parts_(std::move(parts)),
      housekeeper_([this](const std::stop_token& stop) {
        std::mutex mutex;
        std::condition_variable_any wake;
        std::unique_lock lock(mutex);
        while (!wake.wait_for(lock, stop, kHousekeeping, [&] { return stop.stop_requested(); })) {
          UndoStale();
        }
      }) {}

absl::Status MigrationKeeper::Recover() {
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<MigrationRecord> records, parts_.log.Load());
  for (const MigrationRecord& record : records) {
    spdlog::info("migration {} of VM {}: taken up after a restart", record.id, record.vm);
    auto migration = std::make_shared<LiveMigration>(record, keys::MigrationSpec{},
                                                     migration::NoConvergence::kThrottle, parts_);
    SEALIFT_RETURN_IF_ERROR(Add(migration));
    migration->Recover();
  }
  for (const hypervisor::VmDefinition& found : parts_.hypervisor.Processes()) {
    const auto names = [&](const MigrationRecord& record) { return record.vm == found.name; };
    if (parts_.vms.Has(found.name) || std::ranges::any_of(records, names)) continue;
    ending_strays_.emplace_back([this, found] { EndStray(found); });
  }
  return absl::OkStatus();
}

void MigrationKeeper::EndStray(const hypervisor::VmDefinition& definition) const {
  const auto vm = parts_.hypervisor.Adopt(definition);
  if (!vm.ok()) {
    // It may have ended since.
    return spdlog::warn("VM {}: no record names it: {}", definition.name,
                        base::MessageOf(vm.status()));
  }
  spdlog::warn("VM {}: process {} is ended: no record names it", definition.name, (*vm)->pid());
  const absl::Status ended = (*vm)->Quit();
  if (!ended.ok()) spdlog::error("{}", base::MessageOf(ended));
}

MigrationKeeper::MigrationPtr MigrationKeeper::Make(const MigrationOrder& order,
                                                    MigrationRole role) const {
  MigrationRecord record;
  record.id = base::ToHex(order.spec.id);
  record.vm = order.spec.vm;
  record.role = role;
  record.epoch = order.epoch;
  record.encryption = policy::ModeName(order.mode);
  record.policy_version = order.policy_version;
  return std::make_shared<LiveMigration>(std::move(record), order.spec, order.on_no_convergence,
                                         parts_);
}

absl::Status MigrationKeeper::Add(MigrationPtr migration) {
  const std::lock_guard lock(mutex_);
  const std::string id = migration->id();
  if (migrations_.emplace(id, std::move(migration)).second) return absl::OkStatus();
  return absl::AlreadyExistsError(fmt::format("migration {} is known on this host already", id));
}

absl::StatusOr<DestinationOffer> MigrationKeeper::PrepareDestination(
    const DestinationOrder& whole) {
  const MigrationOrder& order = whole.migration;
  const hypervisor::VmDefinition& definition = whole.definition;
  SEALIFT_RETURN_IF_ERROR(CheckAddressee(order, order.spec.destination, settings_.self));
  SEALIFT_RETURN_IF_ERROR(CheckProtection(order, order.mode));
  const Claim claim(*this, base::ToHex(order.spec.id));
  SEALIFT_RETURN_IF_ERROR(claim.status());
  SEALIFT_RETURN_IF_ERROR(WaitForEarlier(definition.name));
  SEALIFT_RETURN_IF_ERROR(parts_.vms.MakeRoom(definition.name, order.epoch));
  // The start of its process counts; this saves the work before it.
  SEALIFT_RETURN_IF_ERROR(
      hypervisor::CheckMemory(definition, parts_.hypervisor.AvailableMemoryBytes()));
  SEALIFT_ASSIGN_OR_RETURN(std::vector<NetworkListener> listeners, Listen(whole.listen_address));
  DestinationOffer offer;
  for (const NetworkListener& listener : listeners) offer.addresses.push_back(listener.address);
  MoverOptions options = settings_.mover;
  options.huge_pages = definition.huge_pages != hypervisor::HugePages::kOff;
  SEALIFT_ASSIGN_OR_RETURN(auto mover, MoverProcess::Spawn(options));
  const MigrationPtr migration = Make(order, MigrationRole::kDestination);
  absl::StatusOr<base::Bytes> public_key =
      migration->PrepareDestination(definition, std::move(mover), std::move(listeners));
  // What has failed is known until its process is gone.
  if (!migration->WaitForEnd(base::Duration::zero())) SEALIFT_RETURN_IF_ERROR(Add(migration));
  SEALIFT_ASSIGN_OR_RETURN(offer.public_key, std::move(public_key));
  return offer;
}

absl::StatusOr<std::vector<NetworkListener>> MigrationKeeper::Listen(
    const std::string& default_address) const {
  const std::vector<std::string> only = {default_address};
  const auto& addresses =
      settings_.migration_addresses.empty() ? only : settings_.migration_addresses;
  std::vector<NetworkListener> listeners;
  absl::Status failed;
  for (const std::string& address : addresses) {
    auto listener = base::ListenTcp(address, settings_.first_port, settings_.last_port);
    if (listener.ok()) {
      listeners.push_back({{address, listener->second}, std::move(listener->first)});
    } else {
      failed = listener.status();
      spdlog::warn("migration address {}: {}", address, base::MessageOf(failed));
    }
  }
  if (listeners.empty()) return failed;
  return listeners;
}

absl::Status MigrationKeeper::WaitForEarlier(const std::string& vm) const {
  const base::Duration deadline = parts_.clock.SinceBoot() + settings_.earlier_limit;
  for (const MigrationPtr& earlier : Migrations()) {
    if (earlier->role() != MigrationRole::kDestination || earlier->vm() != vm) continue;
    if (earlier->WaitForEnd(deadline - parts_.clock.SinceBoot())) continue;
    return absl::AlreadyExistsError(
        fmt::format("migration {} of VM {} to this host has not ended yet", earlier->id(), vm));
  }
  return absl::OkStatus();
}

absl::StatusOr<base::Bytes> MigrationKeeper::PrepareSource(const MigrationOrder& order) {
  SEALIFT_RETURN_IF_ERROR(CheckAddressee(order, order.spec.source, settings_.self));
  const Claim claim(*this, base::ToHex(order.spec.id));
  SEALIFT_RETURN_IF_ERROR(claim.status());
  const MigrationPtr migration = Make(order, MigrationRole::kSource);
  SEALIFT_ASSIGN_OR_RETURN(const VmKeeper::Loan loan,
                           parts_.vms.Lend(order.spec.vm, migration->id()));
  absl::StatusOr<base::Bytes> public_key = PrepareLoan(order, loan, migration);
  if (!public_key.ok()) parts_.vms.Return(order.spec.vm);
  return public_key;
}

absl::StatusOr<base::Bytes> MigrationKeeper::PrepareLoan(const MigrationOrder& order,
                                                         const VmKeeper::Loan& loan,
                                                         const MigrationPtr& migration) {
  SEALIFT_RETURN_IF_ERROR(CheckLoan(order, loan));
  SEALIFT_RETURN_IF_ERROR(WaitForEarlier(order.spec.vm));
  SEALIFT_RETURN_IF_ERROR(ForgetEnded(order.spec.vm));
  SEALIFT_ASSIGN_OR_RETURN(auto mover, MoverProcess::Spawn(settings_.mover));
  SEALIFT_ASSIGN_OR_RETURN(base::Bytes public_key,
                           migration->PrepareSource(loan, std::move(mover), order.destinations));
  SEALIFT_RETURN_IF_ERROR(Add(migration));
  return public_key;
}

absl::Status MigrationKeeper::CheckLoan(const MigrationOrder& order,
                                        const VmKeeper::Loan& loan) const {
  SEALIFT_RETURN_IF_ERROR(CheckProtection(order, loan.record.mode));
  SEALIFT_RETURN_IF_ERROR(CheckMode(order, loan.record.mode));
  if (loan.record.epoch == order.epoch) return absl::OkStatus();
  return absl::AbortedError(fmt::format("VM {} is held under epoch {}, not {}", order.spec.vm,
                                        loan.record.epoch, order.epoch));
}

absl::StatusOr<MigrationKeeper::MigrationPtr> MigrationKeeper::Find(const std::string& id) const {
  const std::lock_guard lock(mutex_);
  const auto found = migrations_.find(id);
  if (found != migrations_.end()) return found->second;
  return absl::NotFoundError(fmt::format("migration {} is not known on this host", id));
}

std::vector<MigrationKeeper::MigrationPtr> MigrationKeeper::Migrations() const {
  const std::lock_guard lock(mutex_);
  std::vector<MigrationPtr> migrations;
  for (const auto& [id, migration] : migrations_) migrations.push_back(migration);
  return migrations;
}

std::vector<MigrationView> MigrationKeeper::List() const {
  std::vector<MigrationView> views;
  for (const MigrationPtr& migration : Migrations()) views.push_back(migration->View());
  return views;
}

absl::Status MigrationKeeper::Tell(const std::string& id, migration::Decision decision) const {
  SEALIFT_ASSIGN_OR_RETURN(const MigrationPtr migration, Find(id));
  if (migration->role() != MigrationRole::kDestination) {
    return absl::FailedPreconditionError(
        fmt::format("migration {}: this host is the source and decides itself", id));
  }
  const PhaseName phase = migration->board()->Look().phase;
  if (decision == migration::Decision::kCommit && phase < PhaseName::kSwitching) {
    return absl::FailedPreconditionError(
        fmt::format("migration {}: a commit before everything is received", id));
  }
  migration->Tell(decision);
  return absl::OkStatus();
}

absl::Status MigrationKeeper::Forget(const std::string& id, GuestMoved moved) {
  SEALIFT_ASSIGN_OR_RETURN(const MigrationPtr migration, Find(id));
  const PhaseName phase = migration->board()->Look().phase;
  const bool committed_source =
      phase == PhaseName::kCommitted && migration->role() == MigrationRole::kSource;
  if (committed_source && moved == GuestMoved::kYes) migration->Tell(migration::Decision::kCommit);
  // What its QEMU's storage holds up must not hold up the controller: it asks again.
  if (migration->WaitForEnd(settings_.forget_limit)) return Erase(*migration);
  return absl::FailedPreconditionError(
      fmt::format("migration {} has not ended: {}", id, migration->View().snapshot.detail));
}

void MigrationKeeper::Leave(base::Duration limit) {
  const base::Duration deadline = parts_.clock.SinceBoot() + limit;
  const std::vector<MigrationPtr> migrations = Migrations();
  // Too late for some: their guests are being handed over, and this may be the moment.
  for (const MigrationPtr& migration : migrations) static_cast<void>(migration->Cancel());
  for (const MigrationPtr& migration : migrations) {
    if (migration->WaitForEnd(deadline - parts_.clock.SinceBoot())) continue;
    spdlog::warn("migration {}: the next agent has to go on with it", migration->id());
  }
}

absl::Status MigrationKeeper::Erase(LiveMigration& migration) {
  migration.Join();
  SEALIFT_RETURN_IF_ERROR(parts_.log.Remove(migration.id()));
  const std::lock_guard lock(mutex_);
  migrations_.erase(migration.id());
  return absl::OkStatus();
}

absl::Status MigrationKeeper::ForgetEnded(const std::string& vm) {
  for (const MigrationPtr& earlier : Migrations()) {
    if (earlier->vm() != vm || !migration::IsFinal(earlier->View().snapshot.phase)) continue;
    SEALIFT_RETURN_IF_ERROR(Erase(*earlier));
  }
  return absl::OkStatus();
}

void MigrationKeeper::UndoStale() {
  for (const MigrationPtr& migration : Migrations()) migration->UndoIfStale(kStartLimit);
}

}  // namespace sealift::agent
