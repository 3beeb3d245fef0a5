// The source's half of a live migration: it drives QEMU, holds the decision, and owns the guest
// until the commit is written.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/clock.h"
#include "hypervisor/hypervisor.h"
#include "migration/board.h"
#include "migration/environment.h"
#include "migration/phase.h"
#include "migration/source_engine.h"

namespace sealift::migration {

// SourceMigration runs on one thread of its own; the board is its window.
class SourceMigration {
 public:
  // Everything must outlive it.
  SourceMigration(const SourceOptions& options, hypervisor::Vm& vm, MoverLink& mover,
                  Ledger& ledger, Board& board, const base::Clock& clock);

  // Run goes from `phase` (an earlier agent may have got further than Preparing) to Completed or
  // Ended and returns which. When it returns Ended the guest runs here, unless its process is what
  // failed; when it returns Completed the guest's process here is gone.
  [[nodiscard]] SourcePhase Run(SourcePhase phase = Preparing{});

 private:
  [[nodiscard]] SourcePhase From(Preparing phase);
  [[nodiscard]] SourcePhase From(Copying phase);
  [[nodiscard]] SourcePhase From(Switching phase);
  [[nodiscard]] SourcePhase From(Committed phase);
  [[nodiscard]] SourcePhase From(Completed phase) { return phase; }
  [[nodiscard]] SourcePhase From(Ended phase) { return phase; }

  [[nodiscard]] absl::Status SwitchOver(base::Duration deadline);
  [[nodiscard]] absl::Status WaitUntilPeerReady(base::Duration deadline);
  // What the destination says of the guest: a text is what went wrong. Nothing when the controller
  // had to tell that it is there.
  [[nodiscard]] std::optional<PeerMessage> WaitUntilPeerResumed();
  void PostProgress();
  // RollBack makes the guest go on here, where no commit is on disk, or the abort after it. It
  // waits for no disk, and returns when the guest runs or its process is gone.
  [[nodiscard]] Ended RollBack(const absl::Status& why);
  [[nodiscard]] absl::Status TryToGoOn();
  [[nodiscard]] bool StandsStill();

  const std::unique_ptr<SourceEngine> engine_;
  const std::string receipt_;
  hypervisor::Vm& vm_;
  MoverLink& mover_;
  Ledger& ledger_;
  Board& board_;
  const base::Clock& clock_;
};

}  // namespace sealift::migration
