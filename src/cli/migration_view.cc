#include "cli/migration_view.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <mutex>

#include "cli/format.h"
#include "cli/lost_stream.h"
#include "cli/progress.h"
#include "cli/terminal.h"

namespace sealift::cli {
namespace {

// Cancellation lets another thread cancel the call that is under way, and with it every later one.
class Cancellation {
 public:
  void Cancel() {
    const std::lock_guard lock(mutex_);
    cancelled_ = true;
    if (call_ != nullptr) call_->TryCancel();
  }
  // Cover names the call under way; nullptr when there is none.
  void Cover(grpc::ClientContext* call) {
    const std::lock_guard lock(mutex_);
    call_ = call;
    if (cancelled_ && call_ != nullptr) call_->TryCancel();
  }

 private:
  std::mutex mutex_;
  grpc::ClientContext* call_ = nullptr;  // guarded by mutex_, as is the next
  bool cancelled_ = false;
};

ProgressLine::Style StyleOfStderr() {
  return isatty(STDERR_FILENO) != 0 ? ProgressLine::Style::kRedraw : ProgressLine::Style::kLines;
}

// Follower of one migration.
class Follower {
 public:
  Follower(Session& session, Controller& controller, v1::Migration migration)
      : session_(session),
        controller_(controller),
        migration_(std::move(migration)),
        line_(
            session.output().messages(), StyleOfStderr(),
            [] { return TerminalWidth(STDERR_FILENO); }, session.clock()),
        lost_(controller.timeout(), session.clock(), session.output()) {}

  absl::StatusOr<ExitCode> Run() {
    Interrupts::Handling interrupt(session_.interrupts(), [this] { cancellation_.Cancel(); });
    line_.Update(migration_);
    while (!HasEnded(migration_)) {
      const absl::Status status = Watch();
      line_.Clear();
      if (HasEnded(migration_)) break;
      if (interrupt.interrupted()) return Detach();
      SEALIFT_RETURN_IF_ERROR(base::Annotate(
          lost_.Judge(status), fmt::format("watching migration {}", migration_.id())));
      const auto pause = lost_.Pause();
      interrupt.Sleep(pause);
      controller_.AwaitConnection(pause);
    }
    line_.Clear();
    return Report();
  }

 private:
  absl::Status Watch() {
    grpc::ClientContext context;
    rpc::PrepareStream(context);
    v1::WatchMigrationRequest request;
    request.set_id(migration_.id());
    cancellation_.Cover(&context);
    const auto updates = controller_.stub<v1::MigrationService::Stub>().Watch(&context, request);
    while (updates->Read(&migration_)) {
      lost_.Received();
      line_.Update(migration_);
    }
    const absl::Status status = controller_.Explain(updates->Finish());
    cancellation_.Cover(nullptr);
    return status;
  }

  ExitCode Detach() {
    session_.output().Note(fmt::format(
        "migration {0} goes on; watch it with `sealift migration watch {0}`, cancel it with "
        "`sealift migration cancel {0}`",
        migration_.id()));
    return ExitCode::kInterrupted;
  }

  absl::StatusOr<ExitCode> Report() {
    session_.output().PrintData(ToJson(migration_));
    SEALIFT_RETURN_IF_ERROR(OutcomeOf(migration_));
    session_.output().Note(Summary(migration_));
    return ExitCode::kDone;
  }

  Session& session_;
  Controller& controller_;
  v1::Migration migration_;
  ProgressLine line_;
  LostStream lost_;
  Cancellation cancellation_;
};

std::string Detail(const v1::Migration& migration) {
  const std::string& detail = migration.progress().detail();
  return detail.empty() ? "" : ": " + detail;
}

std::string RunsOn(const v1::Migration& migration) {
  if (migration.running_on().empty()) {
    return fmt::format("`sealift vm show {}` tells its state", migration.vm());
  }
  return fmt::format("{} runs on {}", migration.vm(), migration.running_on());
}

}  // namespace

bool HasEnded(const v1::Migration& migration) {
  const v1::MigrationPhase phase = migration.progress().phase();
  return phase == v1::MIGRATION_PHASE_COMPLETED || phase == v1::MIGRATION_PHASE_FAILED ||
         phase == v1::MIGRATION_PHASE_CANCELLED;
}

absl::Status OutcomeOf(const v1::Migration& migration) {
  switch (migration.progress().phase()) {
    case v1::MIGRATION_PHASE_COMPLETED:
      return absl::OkStatus();
    case v1::MIGRATION_PHASE_CANCELLED:
      return absl::CancelledError(fmt::format("migration {} was cancelled{}; {}", migration.id(),
                                              Detail(migration), RunsOn(migration)));
    default:
      return absl::AbortedError(fmt::format("migration {} failed{}; {}", migration.id(),
                                            Detail(migration), RunsOn(migration)));
  }
}

std::string Summary(const v1::Migration& migration) {
  const v1::MigrationProgress& progress = migration.progress();
  const std::uint64_t millis = std::max<std::uint64_t>(progress.elapsed_ms(), 1);
  const double rate =
      static_cast<double>(progress.wire_bytes()) * 1000.0 / static_cast<double>(millis);
  return fmt::format(
      "{} runs on {}: {} of memory, {} on the wire in {} ({}), downtime {}, {}, engine {}",
      migration.vm(), migration.running_on().empty() ? migration.to() : migration.running_on(),
      FormatBytes(progress.ram_total_bytes()), FormatBytes(progress.wire_bytes()),
      FormatMillis(progress.elapsed_ms()), FormatRate(static_cast<std::uint64_t>(rate)),
      FormatMillis(progress.downtime_ms()), Protection(migration), Word(migration.engine()));
}

std::string Protection(const v1::Migration& migration) {
  return migration.encrypted() ? migration.cipher() : "in the clear";
}

absl::StatusOr<ExitCode> FollowMigration(Session& session, v1::Migration migration) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  return Follower(session, *controller, std::move(migration)).Run();
}

}  // namespace sealift::cli
