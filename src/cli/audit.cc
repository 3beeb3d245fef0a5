// sealift audit
#include <fmt/format.h>

#include "base/clock.h"
#include "cli/command.h"
#include "cli/format.h"
#include "cli/migration_view.h"
#include "cli/time_argument.h"

namespace sealift::cli {
namespace {

using MigrationStub = v1::MigrationService::Stub;

struct Arguments {
  v1::AuditMigrationsRequest request;
  std::string since;
  std::string until;
};

absl::Status ReadTimes(const Arguments& arguments, const base::Clock& clock,
                       v1::AuditMigrationsRequest& request) {
  if (!arguments.since.empty()) {
    SEALIFT_ASSIGN_OR_RETURN(const std::int64_t since, ParseTime(arguments.since, clock.Now()));
    request.set_since_ms(since);
  }
  if (!arguments.until.empty()) {
    SEALIFT_ASSIGN_OR_RETURN(const std::int64_t until, ParseTime(arguments.until, clock.Now()));
    request.set_until_ms(until);
  }
  return absl::OkStatus();
}

Tone OutcomeTone(const v1::Migration& migration) {
  switch (migration.progress().phase()) {
    case v1::MIGRATION_PHASE_COMPLETED:
      return Tone::kGood;
    case v1::MIGRATION_PHASE_FAILED:
      return Tone::kBad;
    default:
      return Tone::kWarning;
  }
}

void AddRow(const v1::Migration& migration, Table& table) {
  const v1::MigrationProgress& progress = migration.progress();
  table.AddRow({FormatShortTime(migration.started_ms()), migration.vm(), migration.from(),
                migration.to(), migration.requested_by(), Word(migration.mode()),
                Cell(Protection(migration), migration.encrypted() ? Tone::kGood : Tone::kWarning),
                migration.decision_reason(), Word(migration.engine()),
                FormatBytes(progress.wire_bytes()), FormatMillis(progress.elapsed_ms()),
                FormatMillis(progress.downtime_ms()),
                Cell(Word(progress.phase()), OutcomeTone(migration))});
}

absl::StatusOr<ExitCode> Audit(Session& session, const Arguments& arguments) {
  v1::AuditMigrationsRequest request = arguments.request;
  SEALIFT_RETURN_IF_ERROR(ReadTimes(arguments, session.clock(), request));
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  grpc::ClientContext context;
  rpc::PrepareCall(context, controller->timeout());
  const auto stream = controller->stub<MigrationStub>().Audit(&context, request);
  Json data = Json::array();
  Table table({"STARTED", "VM", "FROM", "TO", "BY", "MODE", "PROTECTION", "REASON", "ENGINE",
               "ON THE WIRE", "TOOK", "DOWNTIME", "OUTCOME"});
  std::size_t in_the_clear = 0;
  v1::Migration migration;
  while (stream->Read(&migration)) {
    in_the_clear += migration.encrypted() ? 0 : 1;
    data.push_back(ToJson(migration));
    AddRow(migration, table);
  }
  SEALIFT_RETURN_IF_ERROR(controller->Explain(stream->Finish()));
  session.output().Print(data, table);
  session.output().Note(
      fmt::format("{} migrations, {} of them in the clear", data.size(), in_the_clear));
  return ExitCode::kDone;
}

}  // namespace

void AddAuditCommand(const Noun& root, Action& chosen) {
  auto [verb, arguments] =
      AddVerb(root, chosen, "audit",
              "Every migration ever made, newest first, and how it was protected", Audit);
  verb.Text("--vm", kVmType, *arguments.request.mutable_vm(), "Only those of this VM");
  verb.Text("--since", "TIME", arguments.since,
            "Started at or after: 2026-01-31, 2026-01-31T12:00:00Z, or 36h, 7d ago");
  verb.Text("--until", "TIME", arguments.until, "Started before");
  verb.Flag(
      "--in-the-clear", [&to = arguments.request] { to.set_in_the_clear(true); },
      "Only those that were not encrypted");
}

}  // namespace sealift::cli
