#include "controller/migrations.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/bytes.h"
#include "base/log.h"
#include "base/status.h"
#include "controller/convert.h"
#include "controller/forecasts.h"
#include "controller/lookup.h"
#include "controller/migration_preparation.h"
#include "controller/stray_migrations.h"
#include "controller/vm_sync.h"

namespace sealift::controller {
namespace {

constexpr char kCipher[] = "AES-256-GCM";

absl::Status CheckRequest(const MigrationRequest& request) {
  constexpr std::size_t kMaxRequestId = 128;
  if (!v1::Engine_IsValid(request.engine)) {
    return absl::InvalidArgumentError("engine: not one that this controller knows");
  }
  if (!v1::NoConvergence_IsValid(request.on_no_convergence)) {
    return absl::InvalidArgumentError("on_no_convergence: not one that this controller knows");
  }
  if (request.vm.empty()) return absl::InvalidArgumentError("name the VM to migrate");
  if (request.to.empty()) return absl::InvalidArgumentError("name the host to migrate to");
  if (request.request_id.size() <= kMaxRequestId) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("a request id has at most {} bytes", kMaxRequestId));
}

MigrationView ViewOf(const store::MigrationRow& row) { return {row, ProgressOf(row), 0, 0}; }

absl::StatusOr<std::string> DrawId(keys::RandomSource& random) {
  keys::MigrationId id;
  SEALIFT_RETURN_IF_ERROR(random.Fill(id));
  return base::ToHex(id);
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
    // Of a queued one nobody was told: it begins as if it were new.
    const Entry entry = each.row.queued ? Entry::kNew : Entry::kResumed;
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
  SEALIFT_ASSIGN_OR_RETURN(Planned planned, Plan(request));
  SEALIFT_ASSIGN_OR_RETURN(store::MigrationRow row, Record(request, planned));
  Announce(row);
  SEALIFT_ASSIGN_OR_RETURN(const auto task,
                           Launch(std::move(row), std::move(planned.vm), Entry::kNew));
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

absl::StatusOr<MigrationRunner::Planned> MigrationRunner::Plan(const MigrationRequest& request) {
  SEALIFT_RETURN_IF_ERROR(owners_.CheckSettled());
  SEALIFT_ASSIGN_OR_RETURN(store::VmRow vm, FindVm(parts_.store, request.vm));
  if (vm.unconfirmed) return NobodyHas(vm);
  SEALIFT_ASSIGN_OR_RETURN(const MigrationQuestion question, Ask(request, vm));
  if (question.vm.encrypted) {
    SEALIFT_RETURN_IF_ERROR(
        base::Annotate(policy::CheckRight(request.rights, policy::Right::kMigrateEncrypted),
                       fmt::format("VM {} is encrypted", vm.name)));
  }
  SEALIFT_ASSIGN_OR_RETURN(MigrationPlan plan, PlanMigration(question));
  SEALIFT_ASSIGN_OR_RETURN(const auto destination, parts_.agents.Connection(request.to));
  v1::CheckVmRequest check;
  check.set_definition_yaml(vm.definition);
  check.set_incoming(true);
  SEALIFT_RETURN_IF_ERROR(destination->Call(&AgentConnection::Stub::CheckVm, check).status());
  return Planned{std::move(vm), question.mode.mode, std::move(plan)};
}

absl::StatusOr<MigrationQuestion> MigrationRunner::Ask(const MigrationRequest& request,
                                                       const store::VmRow& vm) {
  SEALIFT_ASSIGN_OR_RETURN(const store::HostRow from, FindHost(parts_.store, vm.host));
  SEALIFT_ASSIGN_OR_RETURN(const store::HostRow to, FindHost(parts_.store, request.to));
  SEALIFT_ASSIGN_OR_RETURN(const ModePolicy modes, ModePolicy::Load(parts_.store));
  const HostView source = parts_.agents.Refresh(from.name);
  SEALIFT_RETURN_IF_ERROR(TellMode(vm, source, modes));
  SEALIFT_ASSIGN_OR_RETURN(const auto definition, hypervisor::ParseVmDefinition(vm.definition));
  SEALIFT_ASSIGN_OR_RETURN(MigrationQuestion question,
                           MakeQuestion(vm, definition, modes, FactsOf(from, source),
                                        FactsOf(to, parts_.agents.Refresh(to.name))));
  SEALIFT_ASSIGN_OR_RETURN(const auto under_way, parts_.store.FindRunningMigration(vm.name));
  if (under_way) question.migration_under_way = under_way->id;
  const v1::AgentVm* reported = source.status ? FindAgentVm(*source.status, vm.name) : nullptr;
  if (reported != nullptr) {
    question.state = reported->state();
    question.direct = reported->direct();
    question.direct_reason = reported->direct_reason();
  }
  question.engine = request.engine;
  question.streams = request.streams;
  return question;
}

absl::Status MigrationRunner::TellMode(const store::VmRow& vm, const HostView& source,
                                       const ModePolicy& modes) {
  if (source.reach != HostReach::kReady) return absl::OkStatus();  // refused for that
  const v1::AgentVm* reported = FindAgentVm(*source.status, vm.name);
  if (reported == nullptr || !ModeIsPending(vm, reported)) return absl::OkStatus();
  SEALIFT_ASSIGN_OR_RETURN(const auto agent, parts_.agents.Connection(vm.host));
  return base::Annotate(
      PushVm(*agent, vm, modes),
      fmt::format("host {} has not been told the mode of VM {} yet", vm.host, vm.name));
}

absl::StatusOr<store::MigrationRow> MigrationRunner::Record(const MigrationRequest& request,
                                                            const Planned& planned) {
  const bool encrypted = planned.plan.encryption.outcome == policy::Outcome::kEncrypted;
  store::MigrationRow row;
  SEALIFT_ASSIGN_OR_RETURN(row.id, DrawId(parts_.random));
  row.request_id = request.request_id;
  row.vm = planned.vm.name;
  row.source = planned.vm.host;
  row.destination = request.to;
  row.requested_by = request.requested_by;
  row.mode = policy::ModeName(planned.mode);
  row.encrypted = encrypted;
  row.decision_reason = planned.plan.encryption.reason;
  row.cipher = encrypted ? kCipher : "";
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
  const std::string subject = "migration/" + row.id;
  parts_.events.Add(
      "migration.started", subject, row.requested_by,
      fmt::format("VM {} moves from host {} to host {}, {}: {}; with the engine {}: {}", row.vm,
                  row.source, row.destination,
                  row.encrypted ? "encrypted with " + row.cipher : "in the clear",
                  row.decision_reason, row.engine, row.engine_reason));
  if (row.encrypted || row.mode != policy::ModeName(policy::EncryptionMode::kOpportunistic)) return;
  parts_.events.AddWarning(
      "migration.in_the_clear", subject, kControllerActor,
      fmt::format("VM {} crosses the network unencrypted: {}", row.vm, row.decision_reason));
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
    entry == Entry::kNew ? task->Run(stop) : task->Resume(stop);
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

void MigrationRunner::OnReport(AgentConnection& agent, const v1::AgentStatus& status) {
  for (const v1::AgentMigration& held : status.migrations()) {
    const auto row = parts_.store.GetMigration(base::ToHex(base::AsBytes(held.id())));
    if (row.ok() && row->ended != 0) {
      CleanUpMigration(agent, held.id(), ParsePhase(row->phase));
    } else if (absl::IsNotFound(row.status())) {
      SeeToStray(parts_.store, parts_.agents, agent, held);
    }
  }
}

}  // namespace sealift::controller
