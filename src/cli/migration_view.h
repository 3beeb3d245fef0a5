// Migrations as people read them, and following one until it ends.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "cli/exit_code.h"
#include "cli/session.h"

namespace sealift::cli {

[[nodiscard]] bool HasEnded(const v1::Migration& migration);

// OutcomeOf a migration that has ended: OK when it completed; CANCELLED, or ABORTED when it failed,
// with a sentence that says where the VM runs.
[[nodiscard]] absl::Status OutcomeOf(const v1::Migration& migration);

// Summary of a completed migration in one line: where the VM runs, amounts, time, rate, downtime,
// cipher, engine.
[[nodiscard]] std::string Summary(const v1::Migration& migration);

// Protection is the cipher, or "in the clear".
[[nodiscard]] std::string Protection(const v1::Migration& migration);

// FollowMigration shows the progress of a migration until it has ended, prints how it went, and
// gives the exit code or the error. A lost connection is made again (LostStream). Ctrl-C leaves the
// migration alone and gives kInterrupted.
[[nodiscard]] absl::StatusOr<ExitCode> FollowMigration(Session& session, v1::Migration migration);

}  // namespace sealift::cli
