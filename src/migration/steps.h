// What the two halves of a migration do alike.
#pragma once

#include <string_view>
#include <utility>
#include <variant>

#include "absl/status/status.h"
#include "base/clock.h"
#include "migration/board.h"
#include "migration/environment.h"
#include "migration/phase.h"

namespace sealift::migration {

[[nodiscard]] bool IsTimeout(const absl::Status& status);

// Interruption is what stops a migration that is under way: CANCELLED on request, or a mover that
// is gone.
[[nodiscard]] absl::Status Interruption(const Board& board, MoverLink& mover);

// WaitEstablished waits until every stream has proved itself, for kEstablishLimit at most. `what`
// names the step in the error of the mover.
[[nodiscard]] absl::Status WaitEstablished(const Board& board, MoverLink& mover,
                                           const base::Clock& clock, std::string_view what);

// RunPhases takes one transition after the other, each posted to the board, until a final phase.
template <typename Phase, typename Transition>
[[nodiscard]] Phase RunPhases(Phase phase, Board& board, Transition transition) {
  while (!IsFinal(NameOf(phase))) {
    phase = std::visit(transition, std::move(phase));
    board.Post([&](Snapshot& snapshot) {
      snapshot.phase = NameOf(phase);
      if (const auto* ended = std::get_if<Ended>(&phase)) snapshot.detail = ended->reason;
      if (const auto* done = std::get_if<Completed>(&phase)) snapshot.detail = done->note;
    });
  }
  return phase;
}

}  // namespace sealift::migration
