#include "controller/migrations.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/log.h"
#include "base/status.h"
#include "controller/convert.h"
#include "controller/migration_preparation.h"
#include "controller/stray_migrations.h"

namespace sealift::controller {
namespace {

MigrationView ViewOf(const store::MigrationRow& row) { return {row, ProgressOf(row), 0, 0}; }

// 128 random bits: an id, or what nobody guesses.
absl::StatusOr<std::string> Draw(keys::RandomSource& random) {
  keys::MigrationId bits;
  SEALIFT_RETURN_IF_ERROR(random.Fill(bits));
  return base::ToHex(bits);
}

}  // namespace

MigrationRunner::MigrationRunner(MigrationParts parts, VmClaims& claims, VmOwners& owners)
    : parts_(std::move(parts)), claims_(claims), owners_(owners) {}

absl::Status MigrationRunner::Resume() {
  struct Unfinished {
    store::MigrationRow row;
    store::VmRow vm;
  };
  std::vector<Unfinished> unfinished;
  SEALIFT_ASSIGN_OR_RETURN(std::vector<store::VmRow> vms, parts_.store.ListVms());
  for (store::VmRow& vm : vms) {
    SEALIFT_ASSIGN_OR_RETURN(auto migration, parts_.store.FindRunningMigration(vm.name));
    if (migration) unfinished.push_back({*std::move(migration), std::move(vm)});
  }
  // What is under way counts before what is queued, which keeps its order.
  std::ranges::sort(unfinished, {}, [](const Unfinished& each) {
    return std::pair(each.row.queued, each.row.started);
  });
  for (Unfinished& each : unfinished) {
    spdlog::info("migration {} of VM {} is taken up again", each.row.id, each.vm.name);
    // Of a queued one nobody was told: it begins once more.
    const Entry entry = each.row.queued ? Entry::kQueued : Entry::kBegun;
    SEALIFT_RETURN_IF_ERROR(Launch(std::move(each.row), std::move(each.vm), entry).status());
  }
  return absl::OkStatus();
}

void MigrationRunner::RequestStop() {
  const std::lock_guard lock(mutex_);
  for (auto& [id, entry] : running_) entry.thread.request_stop();
}

void MigrationRunner::Stop() {
  RequestStop();
  std::map<std::string, Running> running;
  const std::lock_guard lock(mutex_);
  running.swap(running_);
}

absl::StatusOr<MigrationView> MigrationRunner::Start(const MigrationRequest& request) {
  SEALIFT_RETURN_IF_ERROR(CheckRequest(request));
  SEALIFT_ASSIGN_OR_RETURN(const auto claim,
                           claims_.Take(request.vm, "being looked at for a migration"));
  SEALIFT_ASSIGN_OR_RETURN(auto repeated, FindRepeated(request));
  if (repeated) return *std::move(repeated);
  SEALIFT_ASSIGN_OR_RETURN(PlannedMigration planned, Plan(request));
  SEALIFT_ASSIGN_OR_RETURN(store::MigrationRow row, Record(request, planned));
  Announce(row);
  SEALIFT_ASSIGN_OR_RETURN(const auto task,
                           Launch(std::move(row), std::move(planned.vm), Entry::kPlanned));
  return task->record().View();
}

absl::StatusOr<std::optional<MigrationView>> MigrationRunner::FindRepeated(
    const MigrationRequest& request) {
  if (request.request_id.empty()) return std::nullopt;
  SEALIFT_ASSIGN_OR_RETURN(const auto row, parts_.store.FindMigrationByRequest(request.request_id));
  if (!row) return std::nullopt;
  if (row->vm != request.vm || row->destination != request.to) {
    return absl::InvalidArgumentError(
        fmt::format("request id {} belongs to migration {} of VM {} to host {}: use another one",
                    request.request_id, row->id, row->vm, row->destination));
  }
  SEALIFT_ASSIGN_OR_RETURN(MigrationView view, Get(row->id));
  return view;
}

absl::StatusOr<PlannedMigration> MigrationRunner::Plan(const MigrationRequest& request) {
  SEALIFT_RETURN_IF_ERROR(owners_.CheckSettled());
  SEALIFT_ASSIGN_OR_RETURN(
      PlannedMigration planned,
      PlanNow(parts_.store, parts_.agents,
              {request.vm, request.to, request.engine, request.streams, /*id=*/""}));
  SEALIFT_ASSIGN_OR_RETURN(const auto definition,
                           hypervisor::ParseVmDefinition(planned.vm.definition));
  if (definition.encrypted) {
    SEALIFT_RETURN_IF_ERROR(
        base::Annotate(policy::CheckRight(request.rights, policy::Right::kMigrateEncrypted),
                       fmt::format("VM {} is encrypted", planned.vm.name)));
  }
  return planned;
}

absl::StatusOr<store::MigrationRow> MigrationRunner::Record(const MigrationRequest& request,
                                                            const PlannedMigration& planned) {
  store::MigrationRow row;
  SEALIFT_ASSIGN_OR_RETURN(row.id, Draw(parts_.random));
  SEALIFT_ASSIGN_OR_RETURN(row.receipt, Draw(parts_.random));
  row.request_id = request.request_id;
  row.vm = planned.vm.name;
  row.source = planned.vm.host;
  row.destination = request.to;
  row.requested_by = request.requested_by;
  SetProtection(planned.mode, planned.plan.encryption, row);
  row.engine = EngineName(planned.plan.engine);
  row.engine_reason = planned.plan.engine_reason;
  row.streams = planned.plan.streams;
  row.queued = true;
  row.on_no_convergence = NoConvergenceName(request.on_no_convergence);
  row.phase = PhaseName(v1::MIGRATION_PHASE_PREPARING);
  row.running_on = planned.vm.host;
  row.started = base::UnixMillis(parts_.clock.Now());
  SEALIFT_RETURN_IF_ERROR(parts_.store.CreateMigration(row));
  return row;
}

void MigrationRunner::Announce(const store::MigrationRow& row) {
  parts_.events.Add(
      "migration.started", "migration/" + row.id, row.requested_by,
      fmt::format("VM {} moves from host {} to host {}, {}: {}; with the engine {}: {}", row.vm,
                  row.source, row.destination, ProtectionOf(row), row.decision_reason, row.engine,
                  row.engine_reason));
  WarnIfInTheClear(parts_.events, row);
}

absl::StatusOr<std::shared_ptr<MigrationTask>> MigrationRunner::Launch(store::MigrationRow row,
                                                                       store::VmRow vm,
                                                                       Entry entry) {
  const std::string id = row.id;
  SEALIFT_ASSIGN_OR_RETURN(std::string wire_id, WireId(id));
  auto task =
      std::make_shared<MigrationTask>(parts_, std::move(row), std::move(vm), std::move(wire_id));
  auto returned = std::make_shared<std::atomic<bool>>(false);
  std::jthread thread([task, entry, returned](const std::stop_token& stop) {
    task->Run(entry, stop);
    *returned = true;
  });
  const std::lock_guard lock(mutex_);
  std::erase_if(running_, [](const auto& old) { return old.second.returned->load(); });
  running_[id] = {task, std::move(returned), std::move(thread)};
  return task;
}

std::shared_ptr<MigrationTask> MigrationRunner::Find(const std::string& id) {
  const std::lock_guard lock(mutex_);
  const auto found = running_.find(id);
  return found == running_.end() ? nullptr : found->second.task;
}

absl::StatusOr<MigrationView> MigrationRunner::Get(const std::string& id) {
  if (const auto task = Find(id)) return task->record().View();
  SEALIFT_RETURN_IF_ERROR(WireId(id).status());
  const auto row = parts_.store.GetMigration(id);
  if (row.ok()) return ViewOf(*row);
  if (!absl::IsNotFound(row.status())) return row.status();
  return absl::NotFoundError(
      fmt::format("there is no migration {}: sealift migration list shows those there are", id));
}

absl::StatusOr<std::vector<MigrationView>> MigrationRunner::List(
    const store::MigrationFilter& filter) {
  SEALIFT_ASSIGN_OR_RETURN(const auto rows, parts_.store.ListMigrations(filter));
  std::vector<MigrationView> views;
  for (const store::MigrationRow& row : rows) {
    const auto task = Find(row.id);
    views.push_back(task ? task->record().View() : ViewOf(row));
  }
  return views;
}

absl::StatusOr<MigrationView> MigrationRunner::WaitForChange(const std::string& id,
                                                             std::uint64_t seen,
                                                             std::chrono::milliseconds timeout,
                                                             std::stop_token stop) {
  const auto task = Find(id);
  if (!task || task->record().ended()) return Get(id);
  return task->record().WaitForChange(seen, timeout, std::move(stop));
}

absl::Status MigrationRunner::Cancel(const std::string& id, const std::string& actor) {
  SEALIFT_ASSIGN_OR_RETURN(const MigrationView view, Get(id));
  const auto task = Find(id);
  if (ParsePhase(view.row.phase) == v1::MIGRATION_PHASE_CANCELLED) return absl::OkStatus();
  if (view.row.ended != 0 || !task) {
    return absl::FailedPreconditionError(
        fmt::format("migration {} has ended already ({}): VM {} runs on host {}", id,
                    view.row.phase, view.row.vm, view.row.running_on));
  }
  SEALIFT_RETURN_IF_ERROR(task->Cancel());
  parts_.events.Add("migration.cancel_requested", "migration/" + id, actor,
                    fmt::format("VM {} is to stay on host {}", view.row.vm, view.row.source));
  return absl::OkStatus();
}

std::optional<v1::MigrationPhase> MigrationRunner::EndOf(AgentConnection& agent,
                                                         const v1::AgentMigration& held) {
  const v1::MigrationPhase there = held.progress().phase();
  const auto row = parts_.store.GetMigration(base::ToHex(base::AsBytes(held.id())));
  if (absl::IsNotFound(row.status())) {
    return SeeToStray(parts_.store, parts_.agents, agent, held);
  }
  if (!row.ok() || row->ended == 0) return std::nullopt;
  // A committed source never lets its guest run again, whatever has become of it: one that was
  // taken for dead, and is back, is as done with it as after a move.
  const bool given_away =
      held.role() == v1::AGENT_MIGRATION_ROLE_SOURCE && there == v1::MIGRATION_PHASE_COMMITTED;
  return given_away ? v1::MIGRATION_PHASE_COMPLETED : ParsePhase(row->phase);
}

void MigrationRunner::OnReport(AgentConnection& agent, const v1::AgentStatus& status) {
  for (const v1::AgentMigration& held : status.migrations()) {
    const std::optional<v1::MigrationPhase> end = EndOf(agent, held);
    if (!end) continue;
    CleanUpMigration(agent, held.id(), *end);
    parts_.sync.CompareAgain(agent.host());  // it may have lost a VM that it owns with that
  }
}

}  // namespace sealift::controller
