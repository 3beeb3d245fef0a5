#include "controller/migration_follower.h"

#include <fmt/format.h>

#include <chrono>
#include <condition_variable>
#include <mutex>

#include "base/backoff.h"
#include "base/log.h"
#include "base/status.h"
#include "controller/convert.h"

namespace sealift::controller {
namespace {

// A watch is renewed after this long, so that an agent that is connected but stuck is noticed, and
// a destination that has given up: sooner while the guest stands still.
constexpr std::chrono::seconds kWatchPeriod{3};
constexpr std::chrono::seconds kSwitchingWatchPeriod{2};
// How long the source has after its commit before the controller helps.
constexpr std::chrono::seconds kCommitPatience{2};

constexpr char kUnknownEnd[] =
    "nobody knows how it ended: the controller was restored from a backup since";

v1::TellDecisionRequest DecisionFor(const std::string& wire_id, v1::Decision decision) {
  v1::TellDecisionRequest request;
  request.set_id(wire_id);
  request.set_decision(decision);
  return request;
}

// A destination that has received everything takes the end from its source only, or from here.
void TellAbort(AgentConnection& agent, const std::string& wire_id) {
  const auto told =
      agent.Call(&AgentConnection::Stub::TellDecision, DecisionFor(wire_id, v1::DECISION_ABORT));
  if (!told.ok()) {
    spdlog::debug("tell host {} of an abort: {}", agent.host(), base::MessageOf(told.status()));
  }
}

// EndAt ends the migration at one agent, unless that has committed it.
absl::Status EndAt(AgentConnection& agent, const std::string& wire_id) {
  const absl::Status cancelled = CancelAt(agent, wire_id).status();
  if (!cancelled.ok() && !DidNotAnswer(cancelled) && !absl::IsNotFound(cancelled)) {
    TellAbort(agent, wire_id);
    return absl::OkStatus();
  }
  return cancelled;
}

bool GuestStandsStill(v1::MigrationPhase phase) {
  return phase == v1::MIGRATION_PHASE_SWITCHING || phase == v1::MIGRATION_PHASE_COMMITTED;
}

void WaitUnlessStopped(const std::stop_token& stop, std::chrono::milliseconds delay) {
  std::mutex mutex;
  std::condition_variable_any nobody;
  std::unique_lock lock(mutex);
  nobody.wait_for(lock, stop, delay, [] { return false; });
}

const v1::AgentMigration* FindMigration(const v1::AgentStatus& status, const std::string& wire_id) {
  for (const v1::AgentMigration& migration : status.migrations()) {
    if (migration.id() == wire_id) return &migration;
  }
  return nullptr;
}

// What a host says that was, as it says, told of the commit.
bool ClaimsCommit(const v1::AgentMigration& destination) {
  const v1::MigrationPhase phase = destination.progress().phase();
  return phase == v1::MIGRATION_PHASE_COMMITTED || phase == v1::MIGRATION_PHASE_COMPLETED;
}

// A guest that its host reports like this is there and on no way elsewhere.
bool IsSettled(v1::VmState state) {
  return state == v1::VM_STATE_RUNNING || state == v1::VM_STATE_PAUSED ||
         state == v1::VM_STATE_STOPPED || state == v1::VM_STATE_CRASHED;
}

}  // namespace

absl::StatusOr<v1::AgentMigration> CancelAt(AgentConnection& agent, const std::string& wire_id) {
  v1::AgentMigrationRequest request;
  request.set_id(wire_id);
  return agent.Call(&AgentConnection::Stub::CancelMigration, request);
}

void CleanUpMigration(AgentConnection& agent, const std::string& wire_id, v1::MigrationPhase end) {
  if (end != v1::MIGRATION_PHASE_COMPLETED && !EndAt(agent, wire_id).ok()) return;
  v1::ForgetMigrationRequest forget;
  forget.set_id(wire_id);
  forget.set_completed(end == v1::MIGRATION_PHASE_COMPLETED);
  const absl::Status forgotten =
      agent.Call(&AgentConnection::Stub::ForgetMigration, forget).status();
  if (forgotten.ok() || absl::IsNotFound(forgotten)) return;
  spdlog::debug("host {} still holds an ended migration: {}", agent.host(),
                base::MessageOf(forgotten));
}

MigrationFollower::MigrationFollower(const MigrationParts& parts, const MigrationRoute& route,
                                     MigrationRecord& record, const store::VmRow& vm)
    : parts_(parts), route_(route), record_(record), vm_(vm) {}

void MigrationFollower::Follow(const std::stop_token& stop, const absl::Status& started) {
  started_ = started;
  base::Backoff backoff;
  while (!stop.stop_requested() && !record_.ended()) {
    heard_.reset();
    const absl::Status watched = WatchSource();
    if (stop.stop_requested()) return;
    Judge(watched);
    if (record_.ended()) return;
    if (heard_) backoff.Reset();
    WaitUnlessStopped(stop, backoff.Next());
  }
}

// Ends at the end of the migration, when the guest begins to stand still (to go on with a shorter
// period), when the period is over, and when the source falls silent.
absl::Status MigrationFollower::WatchSource() {
  SEALIFT_ASSIGN_OR_RETURN(const auto source, parts_.agents.Connection(route_.source));
  const bool still = GuestStandsStill(record_.phase());
  const auto learn = [&](const v1::AgentMigration& view) {
    heard_ = view;
    record_.Learn(view);
    const v1::MigrationPhase phase = view.progress().phase();
    const bool news = HasEnded(phase) || IsOrphan(view) || GuestStandsStill(phase) != still;
    return news ? Continue::kNo : Continue::kYes;
  };
  return source->WatchMigration(route_.wire_id, still ? kSwitchingWatchPeriod : kWatchPeriod,
                                learn);
}

void MigrationFollower::Judge(const absl::Status& watched) {
  const v1::MigrationPhase phase =
      heard_ ? heard_->progress().phase() : v1::MIGRATION_PHASE_UNSPECIFIED;
  const bool committed = record_.phase() >= v1::MIGRATION_PHASE_COMMITTED;
  if (phase == v1::MIGRATION_PHASE_COMPLETED) return EndAtDestination();
  if (HasEnded(phase) && !committed) return EndAtSource(phase, heard_->progress().detail());
  if (HasEnded(phase)) {
    Dispute(fmt::format("host {} has committed it and now says that it has kept the guest",
                        route_.source));
  }
  if (heard_ && IsOrphan(*heard_) && !committed) return CancelAtSource(base::MessageOf(started_));
  if (absl::IsNotFound(watched)) return HandleForgotten();
  const bool period_over = heard_ && absl::IsDeadlineExceeded(watched);
  const bool silent = !watched.ok() && !period_over;
  if (silent) HandleSilence(watched);
  if (period_over && phase < v1::MIGRATION_PHASE_SWITCHING) EndWithDestination();
  if (record_.phase() != v1::MIGRATION_PHASE_COMMITTED) return;
  if (!committed_since_) committed_since_ = parts_.clock.SinceBoot();
  if (silent || parts_.clock.SinceBoot() - *committed_since_ > kCommitPatience) HelpDestination();
}

// The source has let go of the guest: it is the destination's as soon as that has it.
void MigrationFollower::EndAtDestination() {
  const absl::Status stored = record_.LearnCommit();
  if (!stored.ok()) return record_.Say(base::MessageOf(stored));
  if (HasArrived()) return Complete();
  HelpDestination();
}

// The source was never told to start, and nobody has the key any more.
bool MigrationFollower::IsOrphan(const v1::AgentMigration& source) const {
  return !started_.ok() && !source.started() &&
         source.progress().phase() == v1::MIGRATION_PHASE_PREPARING;
}

// The source would go on trying to reach a mover that is gone.
void MigrationFollower::EndWithDestination() {
  const HostView view = parts_.agents.Refresh(route_.destination);
  if (view.reach != HostReach::kReady) return;
  const v1::AgentMigration* there = FindMigration(*view.status, route_.wire_id);
  if (there == nullptr) return;
  if (ClaimsCommit(*there)) {
    // With the receipt it is only ahead of what the source has said.
    if (there->receipt() != route_.receipt) DisputeCommit();
    return;
  }
  if (!HasEnded(there->progress().phase())) return;
  CancelAtSource(fmt::format("host {}: {}", route_.destination, there->progress().detail()));
}

// It is for the source to say whether that comes in time.
void MigrationFollower::CancelAtSource(const std::string& why) {
  failure_ = why;
  const auto source = parts_.agents.Connection(route_.source);
  if (!source.ok()) return;
  const absl::Status cancelled = CancelAt(**source, route_.wire_id).status();
  if (!cancelled.ok()) record_.Say(base::MessageOf(cancelled));
}

bool MigrationFollower::IsDead(const std::string& host) {
  const absl::StatusOr<store::HostRow> row = parts_.store.GetHost(host);
  return row.ok() && row->dead_since != 0 && parts_.agents.View(host).reach != HostReach::kReady;
}

// The source says nothing more of the migration. The destination cannot have been told of a commit
// that is not known here unless it says so: then it has the guest. Else it never will, once it has
// been told of the abort. If it is dead, too, it may have had it, and come back.
void MigrationFollower::EndWithoutSource(v1::MigrationPhase phase, const std::string& why) {
  if (IsDead(route_.destination)) return EndAtSource(phase, why, Promise::kVoid);
  const HostView view = parts_.agents.Refresh(route_.destination);
  if (view.reach != HostReach::kReady) {
    return record_.Say(fmt::format("{}; waiting for host {} to say whether it has the guest: {}",
                                   why, route_.destination, view.reason));
  }
  const v1::AgentMigration* there = FindMigration(*view.status, route_.wire_id);
  if (there != nullptr) Obey(*there);
  if (record_.phase() >= v1::MIGRATION_PHASE_COMMITTED) return;
  if (there != nullptr && !HasEnded(there->progress().phase())) {
    const auto agent = parts_.agents.Connection(route_.destination);
    if (agent.ok()) static_cast<void>(EndAt(**agent, route_.wire_id));
    return;  // what came first, a commit or this, is asked next
  }
  EndAtSource(phase, why);
}

void MigrationFollower::HandleSilence(const absl::Status& cause) {
  if (IsDead(route_.source) && record_.phase() < v1::MIGRATION_PHASE_COMMITTED) {
    return EndWithoutSource(v1::MIGRATION_PHASE_FAILED,
                            fmt::format("host {} was confirmed dead before the guest was host {}'s",
                                        route_.source, route_.destination));
  }
  record_.Say(
      fmt::format("waiting for host {}, which decides: {}", route_.source, base::MessageOf(cause)));
  AskDestination();
}

// The source has no record of the migration, so it has not committed it and never will. It ends
// when the source also says that the guest is there and settled, or when a user gives the guest up:
// its QEMU may be one that the agent there does not know.
void MigrationFollower::HandleForgotten() {
  AskDestination();
  if (record_.ended() || EndIfLongOver()) return;
  if (record_.phase() >= v1::MIGRATION_PHASE_COMMITTED) return HelpDestination();
  const HostView view = parts_.agents.Refresh(route_.source);
  const v1::AgentVm* vm = view.status ? FindAgentVm(*view.status, vm_.name) : nullptr;
  if (view.reach == HostReach::kReady && vm != nullptr && vm->epoch() == vm_.epoch &&
      IsSettled(vm->state())) {
    return EndAtSource(v1::MIGRATION_PHASE_FAILED,
                       fmt::format("host {} lost its record of the migration", route_.source));
  }
  if (view.reach == HostReach::kReady && given_up_) {
    return EndWithoutSource(
        v1::MIGRATION_PHASE_CANCELLED,
        fmt::format("given up by a user: host {} had lost its record of it", route_.source));
  }
  record_.Say(
      fmt::format("host {} has no record of the migration and does not report VM {} as running: "
                  "look at its log, or give the guest up with sealift migration cancel {}",
                  route_.source, vm_.name, record_.View().row.id));
}

bool MigrationFollower::IsFromBackup() {
  const auto restore = parts_.store.LastRestore();
  return restore.ok() && *restore && record_.View().row.started <= (*restore)->time;
}

// A restored store takes up migrations that were over before it was restored; both sides have
// forgotten them, and what the destination has is its word only. In a store that was not restored
// since it began, that word is not enough: there the receipt decides, or a person (Dispute).
bool MigrationFollower::EndIfLongOver() {
  if (!IsFromBackup()) return false;
  const absl::StatusOr<store::VmRow> now = parts_.store.GetVm(vm_.name);
  if (!now.ok()) return false;
  const auto has = [&](const std::string& host, std::uint64_t epoch) {
    const HostView view = parts_.agents.View(host);
    const v1::AgentVm* vm =
        view.reach == HostReach::kReady ? FindAgentVm(*view.status, vm_.name) : nullptr;
    return vm != nullptr && vm->epoch() == epoch;
  };
  if (now->epoch == vm_.epoch && has(route_.destination, vm_.epoch + 1)) {
    Complete();
    return true;
  }
  const bool answered = parts_.agents.Refresh(route_.source).reach == HostReach::kReady &&
                        parts_.agents.View(route_.destination).reach == HostReach::kReady;
  const bool deleted = now->unconfirmed && answered && !has(route_.source, vm_.epoch);
  if (now->epoch == vm_.epoch && !deleted) return false;
  const absl::Status ended = record_.End(v1::MIGRATION_PHASE_FAILED, kUnknownEnd);
  if (!ended.ok()) return false;
  const store::MigrationRow row = record_.View().row;
  parts_.events.AddWarning("migration.failed", "migration/" + row.id, kControllerActor,
                           fmt::format("VM {}: {}", row.vm, row.detail));
  CleanUp(v1::MIGRATION_PHASE_FAILED);
  return true;
}

void MigrationFollower::AskDestination() {
  const HostView view = parts_.agents.Refresh(route_.destination);
  if (view.reach != HostReach::kReady) return;
  const v1::AgentMigration* there = FindMigration(*view.status, route_.wire_id);
  if (there != nullptr) Obey(*there);
}

void MigrationFollower::HelpDestination() {
  if (record_.ended()) return;
  // The guest is the destination's, and was lost with it.
  if (IsDead(route_.destination)) return Complete();
  const absl::Status stored = record_.LearnCommit();
  if (!stored.ok()) return record_.Say(base::MessageOf(stored));
  const auto destination = parts_.agents.Connection(route_.destination);
  if (!destination.ok()) return record_.Say(base::MessageOf(destination.status()));
  const auto there = (*destination)
                         ->Call(&AgentConnection::Stub::TellDecision,
                                DecisionFor(route_.wire_id, v1::DECISION_COMMIT));
  if (absl::IsNotFound(there.status()) && EndIfLongOver()) return;
  if (there.ok()) Obey(*there);
  if (record_.ended()) return;
  if (there.ok() ? HasEnded(there->progress().phase()) : !DidNotAnswer(there.status())) {
    return HandleDenial();
  }
  if (!there.ok()) record_.Say(base::MessageOf(there.status()));
}

// What the destination says of a commit it has from the source.
void MigrationFollower::Obey(const v1::AgentMigration& destination) {
  if (!ClaimsCommit(destination)) return;
  const bool known = record_.phase() >= v1::MIGRATION_PHASE_COMMITTED;
  if (!known && destination.receipt() != route_.receipt) return DisputeCommit();
  const absl::Status stored = record_.LearnCommit();
  if (!stored.ok()) return record_.Say(base::MessageOf(stored));
  if (destination.progress().phase() == v1::MIGRATION_PHASE_COMPLETED) Complete();
}

bool MigrationFollower::HasArrived() {
  const HostView view = parts_.agents.Refresh(route_.destination);
  if (view.reach != HostReach::kReady) return false;
  const v1::AgentMigration* there = FindMigration(*view.status, route_.wire_id);
  if (there != nullptr && there->progress().phase() == v1::MIGRATION_PHASE_COMPLETED) return true;
  const v1::AgentVm* vm = FindAgentVm(*view.status, vm_.name);
  return vm != nullptr && vm->epoch() == vm_.epoch + 1;
}

// The source says that it gave the guest away, the destination that it never got it. Whoever it is
// that lies, the other one must not start the VM.
void MigrationFollower::HandleDenial() {
  if (HasArrived()) return Complete();
  if (IsDead(route_.source)) {
    return EndAtSource(v1::MIGRATION_PHASE_FAILED,
                       fmt::format("host {} was confirmed dead, and host {} never got the guest",
                                   route_.source, route_.destination));
  }
  Dispute(fmt::format("host {} says that host {} has the guest, which denies it", route_.source,
                      route_.destination));
}

void MigrationFollower::DisputeCommit() {
  Dispute(fmt::format("host {} says that it was told of the commit and cannot show its receipt",
                      route_.destination));
}

void MigrationFollower::Dispute(const std::string& how) {
  const std::string text = fmt::format(
      "{}: find out where VM {} runs, end sealift-agentd on the host that is wrong, and "
      "say sealift host confirm-dead HOST once no guest runs there",
      how, vm_.name);
  record_.Say(text);
  if (!disputes_.insert(how).second) return;
  parts_.events.AddWarning("migration.disputed", "migration/" + record_.View().row.id,
                           kControllerActor, text);
}

void MigrationFollower::Complete() {
  // So that the VM is seen running there as soon as it is its owner.
  const HostView view = parts_.agents.Refresh(route_.destination);
  const bool lost = IsDead(route_.destination) || (view.reach == HostReach::kReady &&
                                                   FindAgentVm(*view.status, vm_.name) == nullptr);
  const absl::Status finished = record_.Finish(vm_.epoch);
  if (!finished.ok()) {
    spdlog::error("record that migration {} completed: {}", record_.View().row.id,
                  base::MessageOf(finished));
    return record_.Say(base::MessageOf(finished));
  }
  // It knows the mode that the VM came with.
  parts_.sync.CompareAgain(route_.destination);
  const store::MigrationRow row = record_.View().row;
  parts_.events.Add(
      "migration.completed", "migration/" + row.id, kControllerActor,
      fmt::format("VM {} {} host {} ({}, downtime {} ms)", row.vm, lost ? "was lost at" : "runs on",
                  row.destination, row.encrypted ? "encrypted" : "in the clear", row.downtime_ms));
  CleanUp(v1::MIGRATION_PHASE_COMPLETED);
}

void MigrationFollower::EndAtSource(v1::MigrationPhase phase, const std::string& detail,
                                    Promise promise) {
  // So that the VM is seen running there as soon as the migration has ended.
  parts_.agents.Refresh(route_.source);
  const bool ours = !failure_.empty();
  const v1::MigrationPhase end = ours ? v1::MIGRATION_PHASE_FAILED : phase;
  const std::string& why = ours ? failure_ : detail;
  const absl::Status ended =
      promise == Promise::kVoid ? record_.Void(end, why, vm_.epoch + 1) : record_.End(end, why);
  if (!ended.ok()) {
    spdlog::error("record the end of migration {}: {}", record_.View().row.id,
                  base::MessageOf(ended));
    return;
  }
  const store::MigrationRow row = record_.View().row;
  parts_.events.Add("migration." + row.phase, "migration/" + row.id, kControllerActor,
                    fmt::format("VM {} stays on host {}: {}", row.vm, row.source, row.detail));
  if (promise == Promise::kVoid) parts_.sync.CompareAgain(route_.source);  // the epoch is another
  CleanUp(end);
}

void MigrationFollower::Abort(const absl::Status& cause, const std::stop_token& stop) {
  base::Backoff backoff;
  while (!stop.stop_requested() && !record_.ended()) {
    EndAtSource(
        record_.cancel_requested() ? v1::MIGRATION_PHASE_CANCELLED : v1::MIGRATION_PHASE_FAILED,
        base::MessageOf(cause));
    if (!record_.ended()) WaitUnlessStopped(stop, backoff.Next());
  }
}

void MigrationFollower::CleanUp(v1::MigrationPhase end) {
  for (const std::string& host : {route_.source, route_.destination}) {
    const auto agent = parts_.agents.Connection(host);
    if (agent.ok()) CleanUpMigration(**agent, route_.wire_id, end);
  }
}

}  // namespace sealift::controller
