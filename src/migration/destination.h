// The destination's half of a live migration: it receives, says when it is ready, and runs the
// guest only when told of the commit.
#pragma once

#include "base/clock.h"
#include "hypervisor/hypervisor.h"
#include "migration/board.h"
#include "migration/environment.h"
#include "migration/phase.h"

namespace sealift::migration {

// DestinationMigration runs on one thread of its own; the board is its window.
class DestinationMigration {
 public:
  // Everything must outlive it. `vm` was started for an incoming migration and listens already.
  DestinationMigration(hypervisor::Vm& vm, MoverLink& mover, Ledger& ledger, Board& board,
                       const base::Clock& clock);

  // Run goes from `phase` (an earlier agent may have got further than Preparing) to Completed or
  // Ended. Completed: the guest is ours; Ended: its process here is gone.
  [[nodiscard]] DestinationPhase Run(DestinationPhase phase = Preparing{});

 private:
  [[nodiscard]] DestinationPhase From(Preparing phase);
  [[nodiscard]] DestinationPhase From(Receiving phase);
  [[nodiscard]] DestinationPhase From(Ready phase);
  [[nodiscard]] DestinationPhase From(Completed phase) { return phase; }
  [[nodiscard]] DestinationPhase From(Ended phase) { return phase; }

  // The decision, from the source itself or from the controller.
  [[nodiscard]] Decision WaitForDecision();
  [[nodiscard]] Completed Own();
  [[nodiscard]] Ended Drop(const absl::Status& why);
  void PostWireBytes();

  hypervisor::Vm& vm_;
  MoverLink& mover_;
  Ledger& ledger_;
  Board& board_;
  const base::Clock& clock_;
};

}  // namespace sealift::migration
