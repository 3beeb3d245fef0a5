// What the two halves of a migration do alike.
#pragma once

#include <functional>
#include <string_view>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "base/check.h"
#include "base/clock.h"
#include "hypervisor/hypervisor.h"
#include "migration/board.h"
#include "migration/environment.h"
#include "migration/phase.h"

namespace sealift::migration {

[[nodiscard]] bool IsTimeout(const absl::Status& status);

// Interruption is what stops a migration that is under way: CANCELLED on request, or a mover that
// is gone.
[[nodiscard]] absl::Status Interruption(const Board& board, MoverLink& mover);

// EndedBy is the end that an error makes: cancelled or failed.
[[nodiscard]] Ended EndedBy(const absl::Status& why);

// WaitEstablished waits until every stream has proved itself, for kEstablishLimit at most. `what`
// names the step in the error of the mover.
[[nodiscard]] absl::Status WaitEstablished(const Board& board, MoverLink& mover,
                                           const base::Clock& clock, std::string_view what);

// MakeRun tries `attempt` until it succeeds and the guest runs, or has shut down or crashed by
// itself. An error: the guest's process is gone, or kRunLimit is over.
[[nodiscard]] absl::Status MakeRun(hypervisor::Vm& vm, Board& board, const base::Clock& clock,
                                   const std::function<absl::Status()>& attempt);

// WriteWithoutFail tries until the step is on disk. For steps without which nothing may go on.
void WriteWithoutFail(LedgerStep step, Ledger& ledger, Board& board, const base::Clock& clock);

// RunPhases takes one transition after the other, each of transitions.inc and posted to the board,
// until a final phase.
template <typename Phase, typename Transition>
[[nodiscard]] Phase RunPhases(Phase phase, Board& board, Transition transition) {
  while (!IsFinal(NameOf(phase))) {
    Phase next = std::visit(transition, Phase(phase));
    SEALIFT_CHECK(IsTransition(phase, next));
    phase = std::move(next);
    board.Post([&](Snapshot& snapshot) {
      snapshot.phase = NameOf(phase);
      if (const auto* ended = std::get_if<Ended>(&phase)) snapshot.detail = ended->reason;
      if (const auto* done = std::get_if<Completed>(&phase)) snapshot.detail = done->note;
    });
  }
  return phase;
}

}  // namespace sealift::migration
