// sealift host drain|undrain
#include <fmt/format.h>

#include <deque>
#include <map>

#include "cli/command.h"
#include "cli/forecast_view.h"
#include "cli/host.h"
#include "cli/migration_start.h"
#include "cli/migration_view.h"

namespace sealift::cli {
namespace {

using HostStub = v1::HostService::Stub;
using MigrationStub = v1::MigrationService::Stub;

constexpr std::chrono::milliseconds kLook{500};

struct DrainArguments {
  v1::DrainHostRequest request;
  std::uint32_t concurrency = 2;
};

Table PlanTable(const v1::DrainHostResponse& plan) {
  Table table({"VM", "TO", "MOVE", "REASON"});
  for (const v1::DrainStep& step : plan.steps()) {
    table.AddRow({step.vm(), step.to(),
                  step.to().empty() ? Cell("stays", Tone::kBad) : OutcomeCell(step.outcome()),
                  step.reason()});
  }
  return table;
}

// Drainer starts the migrations of a plan, so many at once, and follows them.
class Drainer {
 public:
  Drainer(Session& session, Controller& controller, const DrainArguments& arguments)
      : session_(session), controller_(controller), concurrency_(arguments.concurrency) {}

  absl::StatusOr<ExitCode> Run(const v1::DrainHostResponse& plan) {
    for (const v1::DrainStep& step : plan.steps()) {
      if (step.to().empty()) {
        Stays(step.vm(), step.reason());
      } else {
        waiting_.push_back(step);
      }
    }
    const Interrupts::Handling interrupt(session_.interrupts(), [] {});
    while (!waiting_.empty() || !running_.empty()) {
      if (interrupt.interrupted()) return Detach();
      while (!waiting_.empty() && running_.size() < concurrency_) StartNext();
      interrupt.Sleep(kLook);
      SEALIFT_RETURN_IF_ERROR(LookAtRunning());
    }
    session_.output().Note(
        fmt::format("host {}: {} VMs moved, {} stay{}", plan.host().name(), moved_, stay_,
                    unknown_ == 0 ? "" : fmt::format(", of {} it is not known", unknown_)));
    return stay_ + unknown_ == 0 ? ExitCode::kDone : ExitCode::kPartly;
  }

 private:
  void StartNext() {
    const v1::DrainStep step = waiting_.front();
    waiting_.pop_front();
    const absl::StatusOr<v1::Migration> migration = Start(step);
    if (AnswerIsLost(migration.status())) {
      ++unknown_;
      return session_.output().Error(fmt::format("{}: it is not known whether it moves: {}",
                                                 step.vm(), base::MessageOf(migration.status())));
    }
    if (!migration.ok()) return Stays(step.vm(), base::MessageOf(migration.status()));
    session_.output().Note(
        fmt::format("{}: moves to {}, migration {}", step.vm(), step.to(), migration->id()));
    running_[migration->id()] = step.vm();
  }

  absl::StatusOr<v1::Migration> Start(const v1::DrainStep& step) {
    v1::StartMigrationRequest request;
    request.set_vm(step.vm());
    request.set_to(step.to());
    request.set_request_id(MakeRequestId());
    auto migration = controller_.Call(&MigrationStub::Start, request);
    if (!AnswerIsLost(migration.status())) return migration;
    controller_.AwaitConnection(controller_.timeout());
    return controller_.Call(&MigrationStub::Start, request);
  }

  absl::Status LookAtRunning() {
    for (auto next = running_.begin(); next != running_.end();) {
      const auto at = next++;
      v1::GetMigrationRequest request;
      request.set_id(at->first);
      SEALIFT_ASSIGN_OR_RETURN(const v1::Migration migration,
                               controller_.Call(&MigrationStub::Get, request));
      if (!HasEnded(migration)) continue;
      const absl::Status outcome = OutcomeOf(migration);
      if (outcome.ok()) {
        ++moved_;
        session_.output().Note(Summary(migration));
      } else {
        Stays(migration.vm(), base::MessageOf(outcome));
      }
      running_.erase(at);
    }
    return absl::OkStatus();
  }

  void Stays(const std::string& vm, const std::string& why) {
    ++stay_;
    session_.output().Error(fmt::format("{} stays: {}", vm, why));
  }

  ExitCode Detach() {
    session_.output().Note(
        fmt::format("{} migrations go on, {} were not started; the same command takes it up again",
                    running_.size(), waiting_.size()));
    return ExitCode::kInterrupted;
  }

  Session& session_;
  Controller& controller_;
  const std::size_t concurrency_;
  std::deque<v1::DrainStep> waiting_;
  std::map<std::string, std::string> running_;  // VM by migration
  int moved_ = 0;
  int stay_ = 0;
  int unknown_ = 0;
};

absl::StatusOr<ExitCode> DrainHost(Session& session, const DrainArguments& arguments) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_ASSIGN_OR_RETURN(const v1::DrainHostResponse plan,
                           controller->Call(&HostStub::Drain, arguments.request));
  session.output().Print(ToJsonList(plan.steps()), PlanTable(plan));
  if (arguments.request.dry_run()) return ExitCode::kDone;
  return Drainer(session, *controller, arguments).Run(plan);
}

absl::StatusOr<ExitCode> UndrainHost(Session& session, const v1::UndrainHostRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_ASSIGN_OR_RETURN(const v1::Host host, controller->Call(&HostStub::Undrain, request));
  session.output().Note(fmt::format("host {} takes VMs again", host.name()));
  session.output().PrintData(ToJson(host));
  return ExitCode::kDone;
}

}  // namespace

void AddHostDrainVerbs(const Noun& host, Action& chosen) {
  auto [drain, arguments] =
      AddVerb(host, chosen, "drain", "Take no more VMs and move all away", DrainHost);
  drain.Name("NAME", kHostType, *arguments.request.mutable_name(), "Name of the host");
  drain.Whole(
      "--concurrency", "N", {1, 64},
      [&to = arguments](std::uint64_t n) { to.concurrency = static_cast<std::uint32_t>(n); },
      "So many migrations at once (default: 2)");
  drain.Flag(
      "--dry-run", [&to = arguments.request] { to.set_dry_run(true); },
      "Only show where each VM would go, and what blocks it");
  auto [undrain, opened] =
      AddVerb(host, chosen, "undrain", "Let a drained host take VMs again", UndrainHost);
  undrain.Name("NAME", kHostType, *opened.mutable_name(), "Name of the host");
}

}  // namespace sealift::cli
