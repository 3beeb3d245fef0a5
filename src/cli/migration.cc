// sealift migration list|show|watch|cancel
#include <fmt/format.h>

#include "cli/command.h"
#include "cli/format.h"
#include "cli/migration_view.h"
#include "cli/progress.h"

namespace sealift::cli {
namespace {

using MigrationStub = v1::MigrationService::Stub;

Cell PhaseCell(const v1::Migration& migration) {
  const v1::MigrationPhase phase = migration.progress().phase();
  const Tone tone = phase == v1::MIGRATION_PHASE_COMPLETED ? Tone::kGood
                    : phase == v1::MIGRATION_PHASE_FAILED  ? Tone::kBad
                                                           : Tone::kWarning;
  if (migration.queued_behind() > 0) {
    return {fmt::format("queued behind {}", migration.queued_behind()), tone};
  }
  return {Word(phase), tone};
}

std::string Span(std::uint64_t milliseconds) {
  return milliseconds == 0 ? "" : FormatMillis(milliseconds);
}

Table ListTable(const v1::ListMigrationsResponse& response) {
  Table table({"ID", "VM", "FROM", "TO", "PHASE", "PROTECTION", "STARTED", "TOOK", "DOWNTIME"});
  for (const v1::Migration& migration : response.migrations()) {
    table.AddRow({migration.id(), migration.vm(), migration.from(), migration.to(),
                  PhaseCell(migration), Protection(migration),
                  FormatShortTime(migration.started_ms()), Span(migration.progress().elapsed_ms()),
                  Span(migration.progress().downtime_ms())});
  }
  return table;
}

void AddProgress(const v1::MigrationProgress& progress, Table& table) {
  const bool copying = progress.phase() == v1::MIGRATION_PHASE_COPYING;
  table.Add("Detail", progress.detail());
  table.Add("Memory", FormatBytes(progress.ram_total_bytes()));
  table.Add("Transferred", FormatBytes(progress.ram_transferred_bytes()));
  table.Add("Remaining", FormatBytes(progress.ram_remaining_bytes()));
  table.Add("On the wire", FormatBytes(progress.wire_bytes()));
  table.Add("Rounds", std::to_string(progress.iterations()));
  table.Add("Rate", copying ? FormatRate(progress.bytes_per_second()) : "");
  table.Add("Dirty rate", copying ? FormatRate(progress.dirty_bytes_per_second()) : "");
  table.Add("ETA", copying ? TimeLeft(progress) : "");
  table.Add("Took", Span(progress.elapsed_ms()));
  table.Add("Downtime", Span(progress.downtime_ms()));
}

Table ShowTable(const v1::Migration& migration) {
  Table table;
  table.Add("ID", migration.id());
  table.Add("VM", migration.vm());
  table.Add("From", migration.from());
  table.Add("To", migration.to());
  table.Add("Phase", PhaseCell(migration));
  table.Add("Runs on", migration.running_on());
  table.Add("Mode", Word(migration.mode()));
  table.Add("Protection",
            fmt::format("{} ({})", Protection(migration), migration.decision_reason()));
  table.Add("AEAD backend", migration.aead_backend());
  table.Add("Engine", fmt::format("{} ({})", Word(migration.engine()), migration.engine_reason()));
  table.Add("Streams", std::to_string(migration.streams()));
  table.Add("Requested by", migration.requested_by());
  table.Add("Started", FormatShortTime(migration.started_ms()));
  table.Add("Ended", FormatShortTime(migration.ended_ms()));
  AddProgress(migration.progress(), table);
  return table;
}

absl::StatusOr<ExitCode> ListMigrations(Session& session,
                                        const v1::ListMigrationsRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_ASSIGN_OR_RETURN(const v1::ListMigrationsResponse response,
                           controller->Call(&MigrationStub::List, request));
  session.output().Print(ToJsonList(response.migrations()), ListTable(response));
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> ShowMigration(Session& session, const v1::GetMigrationRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_ASSIGN_OR_RETURN(const v1::Migration migration,
                           controller->Call(&MigrationStub::Get, request));
  session.output().Print(ToJson(migration), ShowTable(migration));
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> WatchMigration(Session& session, const v1::GetMigrationRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_ASSIGN_OR_RETURN(v1::Migration migration, controller->Call(&MigrationStub::Get, request));
  return FollowMigration(session, std::move(migration));
}

absl::StatusOr<ExitCode> CancelMigration(Session& session,
                                         const v1::CancelMigrationRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_ASSIGN_OR_RETURN(const v1::Migration migration,
                           controller->Call(&MigrationStub::Cancel, request));
  session.output().Note(
      fmt::format("migration {} is {}", migration.id(),
                  HasEnded(migration) ? Word(migration.progress().phase()) : "being cancelled"));
  session.output().PrintData(ToJson(migration));
  return ExitCode::kDone;
}

void AddId(const Verb& verb, std::string& id) {
  verb.Name("ID", kMigrationType, id, "Id of the migration");
}

void AddListVerb(const Noun& migration, Action& chosen) {
  auto [verb, request] =
      AddVerb(migration, chosen, "list", "List migrations, newest first", ListMigrations);
  verb.Text("--vm", kVmType, *request.mutable_vm(), "Only those of this VM");
  verb.Whole(
      "--limit", "N", kAnyCount,
      [&to = request](std::uint64_t n) { to.set_limit(static_cast<std::uint32_t>(n)); },
      "How many at most (default: 100)");
}

}  // namespace

void AddMigrationCommands(const Noun& root, Action& chosen) {
  const Noun migration = root.AddNoun("migration", "Migrations, under way and past");
  AddListVerb(migration, chosen);
  auto [show, get] = AddVerb(migration, chosen, "show", "Show one migration", ShowMigration);
  AddId(show, *get.mutable_id());
  auto [watch, followed] =
      AddVerb(migration, chosen, "watch", "Follow a migration until it has ended", WatchMigration);
  AddId(watch, *followed.mutable_id());
  auto [cancel, stopped] = AddVerb(migration, chosen, "cancel",
                                   "Cancel a migration; the VM stays where it is", CancelMigration);
  AddId(cancel, *stopped.mutable_id());
}

}  // namespace sealift::cli
