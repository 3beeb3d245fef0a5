// sealift vm migrate NAME --to HOST
#include <fmt/format.h>

#include "cli/migration_start.h"
#include "cli/migration_view.h"
#include "cli/vm.h"

namespace sealift::cli {
namespace {

struct Arguments {
  v1::StartMigrationRequest request;
  std::string engine;
  std::string on_no_convergence;
  bool detach = false;
};

// Empty: the VM's definition decides.
v1::Engine EngineOf(const std::string& word) {
  if (word == "auto") return v1::ENGINE_AUTO;
  if (word == "direct") return v1::ENGINE_DIRECT;
  return word == "stream" ? v1::ENGINE_STREAM : v1::ENGINE_UNSPECIFIED;
}

v1::NoConvergence NoConvergenceOf(const std::string& word) {
  if (word == "throttle") return v1::NO_CONVERGENCE_THROTTLE;
  return word == "fail" ? v1::NO_CONVERGENCE_FAIL : v1::NO_CONVERGENCE_UNSPECIFIED;
}

// Start names the way out of the one case where the answer is not known.
absl::StatusOr<v1::Migration> Start(Session& session, const v1::StartMigrationRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  auto migration = controller->Call(&v1::MigrationService::Stub::Start, request);
  if (!AnswerIsLost(migration.status())) return migration;
  return absl::Status(
      migration.status().code(),
      fmt::format("{}. If it is not clear whether the migration was started, repeat "
                  "the command with --request-id {}: it never starts twice",
                  base::MessageOf(migration.status()), request.request_id()));
}

void Announce(Output& output, const v1::Migration& migration) {
  output.Note(fmt::format("migration {}: {} from {} to {}", migration.id(), migration.vm(),
                          migration.from(), migration.to()));
  if (migration.mode() == v1::ENCRYPTION_MODE_OPPORTUNISTIC && !migration.encrypted()) {
    output.Warn(
        fmt::format("{} moves in the clear: {}", migration.vm(), migration.decision_reason()));
  }
}

absl::StatusOr<ExitCode> MigrateVm(Session& session, const Arguments& arguments) {
  v1::StartMigrationRequest request = arguments.request;
  if (request.request_id().empty()) request.set_request_id(MakeRequestId());
  request.set_engine(EngineOf(arguments.engine));
  request.set_on_no_convergence(NoConvergenceOf(arguments.on_no_convergence));
  SEALIFT_ASSIGN_OR_RETURN(v1::Migration migration, Start(session, request));
  Output& output = session.output();
  Announce(output, migration);
  if (!arguments.detach) return FollowMigration(session, std::move(migration));
  if (output.format() == OutputFormat::kTable) output.PrintText(migration.id() + "\n");
  output.PrintData(ToJson(migration));
  return ExitCode::kDone;
}

}  // namespace

void AddVmMigrateVerb(const Noun& vm, Action& chosen) {
  auto [verb, arguments] =
      AddVerb(vm, chosen, "migrate", "Move a running VM to another host and wait until it is there",
              MigrateVm);
  AddVmName(verb, *arguments.request.mutable_vm());
  verb.Text("--to", kHostType, *arguments.request.mutable_to(), "Host to move it to",
            Need::kRequired);
  verb.Whole(
      "--streams", "N", {1, 32},
      [&to = arguments.request](std::uint64_t n) { to.set_streams(static_cast<std::uint32_t>(n)); },
      "Connections that carry the data. With the direct engine one is for the device state, the "
      "others for memory; with the stream engine one is QEMU's main channel, the others its "
      "multifd channels (default: 3 and 1)");
  verb.Choice(
      "--engine", {"auto", "direct", "stream"}, arguments.engine,
      "How memory is copied: direct (shared memory, the fastest), stream (QEMU's own), or "
      "auto: direct where both hosts and the VM can (default: as the VM's definition says)");
  verb.Choice("--on-no-convergence", {"throttle", "fail"}, arguments.on_no_convergence,
              "What to do when the guest writes faster than it can be moved: slow it down, or give "
              "up and leave it where it is (default: throttle)");
  verb.Flag(
      "--detach", [&to = arguments] { to.detach = true; },
      "Print the id of the migration and do not wait");
  verb.Text("--request-id", "ID", *arguments.request.mutable_request_id(),
            "Repeating a command with the same id never starts a second migration");
}

}  // namespace sealift::cli
