#include "agent/migration_keeper.h"

#include <fmt/format.h>

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
    valid_ = !keeper_.migrations_.contains(id_) && keeper_.claimed_.try_emplace(id_, 0).second;
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

MigrationKeeper::MigrationKeeper(MigrationSettings settings, const LiveMigrationParts& parts)
    : settings_(std::move(settings)),
      parts_(parts),
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
  return absl::OkStatus();
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
  if (parts_.vms.Has(definition.name)) {
    return absl::AlreadyExistsError(fmt::format("VM {} is on this host already", definition.name));
  }
  SEALIFT_RETURN_IF_ERROR(Reserve(base::ToHex(order.spec.id), definition));
  const std::string& address =
      settings_.migration_address.empty() ? whole.listen_address : settings_.migration_address;
  SEALIFT_ASSIGN_OR_RETURN(auto listener,
                           base::ListenTcp(address, settings_.first_port, settings_.last_port));
  MoverOptions options = settings_.mover;
  options.huge_pages = definition.huge_pages != hypervisor::HugePages::kOff;
  SEALIFT_ASSIGN_OR_RETURN(auto mover, MoverProcess::Spawn(options));
  const MigrationPtr migration = Make(order, MigrationRole::kDestination);
  SEALIFT_ASSIGN_OR_RETURN(
      base::Bytes public_key,
      migration->PrepareDestination(definition, std::move(mover), std::move(listener.first)));
  SEALIFT_RETURN_IF_ERROR(Add(migration));
  return DestinationOffer{std::move(public_key), {{address, listener.second}}};
}

// What a guest that is on its way has brought already is counted twice, so that one too many is
// refused rather than killed by a host without memory.
absl::Status MigrationKeeper::Reserve(const std::string& id,
                                      const hypervisor::VmDefinition& definition) {
  const std::lock_guard lock(mutex_);
  std::uint64_t reserved = 0;
  for (const auto& [other, bytes] : claimed_) reserved += bytes;
  for (const auto& [other, migration] : migrations_) {
    if (migration::IsFinal(migration->board()->Look().phase)) continue;
    reserved += migration->memory_bytes();
  }
  const std::uint64_t available = parts_.hypervisor.AvailableMemoryBytes();
  if (definition.memory_bytes + reserved > available) {
    return absl::FailedPreconditionError(fmt::format(
        "VM {} needs {} MiB of memory, this host has {} MiB left, of which {} MiB are reserved for "
        "VMs on their way to it: free some or choose another host",
        definition.name, definition.memory_bytes >> 20, available >> 20, reserved >> 20));
  }
  claimed_[id] = definition.memory_bytes;
  return absl::OkStatus();
}

absl::Status MigrationKeeper::WaitForEarlier(const std::string& vm) const {
  const base::Duration deadline = parts_.clock.SinceBoot() + settings_.earlier_limit;
  for (const MigrationPtr& earlier : Migrations()) {
    if (earlier->role() != MigrationRole::kDestination || earlier->vm() != vm) continue;
    std::uint64_t version = 0;
    while (!migration::IsFinal(earlier->board()->Look().phase)) {
      const base::Duration left = deadline - parts_.clock.SinceBoot();
      if (left <= base::Duration::zero()) {
        return absl::AlreadyExistsError(
            fmt::format("migration {} of VM {} to this host has not ended yet", earlier->id(), vm));
      }
      version = earlier->board()->WaitForChange(version, left);
    }
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
  SEALIFT_RETURN_IF_ERROR(ForgetEnded(order.spec.vm));
  SEALIFT_ASSIGN_OR_RETURN(auto mover, MoverProcess::Spawn(settings_.mover));
  SEALIFT_ASSIGN_OR_RETURN(base::Bytes public_key,
                           migration->PrepareSource(loan, std::move(mover)));
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

absl::Status MigrationKeeper::Tell(const std::string& id, migration::Decision decision) {
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
  if (committed_source && moved == GuestMoved::kYes) {
    migration->Tell(migration::Decision::kCommit);
  } else if (!migration::IsFinal(phase)) {
    return absl::FailedPreconditionError(fmt::format("migration {} has not ended", id));
  }
  return Erase(*migration);
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
