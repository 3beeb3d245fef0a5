// What the two halves of a migration do alike.
#pragma once

#include <functional>
#include <optional>
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

// PostTrouble says what is tried again.
void PostTrouble(Board& board, const absl::Status& trouble);

// EndedBy is the end that an error makes: cancelled or failed.
[[nodiscard]] Ended EndedBy(const absl::Status& why);

// WaitEstablished waits until every stream has proved itself, for kEstablishLimit at most. `what`
// names the step in the error of the mover.
[[nodiscard]] absl::Status WaitEstablished(const Board& board, MoverLink& mover,
                                           const base::Clock& clock, std::string_view what);

// MakeRun tries `attempt` until it succeeds and the guest runs, or has stopped, shut down or
// crashed by itself. An error: the guest's process is gone, or kRunLimit is over.
[[nodiscard]] absl::Status MakeRun(hypervisor::Vm& vm, Board& board, const base::Clock& clock,
                                   const std::function<absl::Status()>& attempt);

// IsGone says that the VM's process has ended.
[[nodiscard]] bool IsGone(hypervisor::Vm& vm);

// EndProcess ends the VM's process, and tries until it is gone: it may be stuck in its storage. An
// error says what of it could not be tidied up.
[[nodiscard]] absl::Status EndProcess(hypervisor::Vm& vm, Board& board, const base::Clock& clock);

// WriteWithoutFail tries until the step is on disk. For steps without which nothing may go on.
void WriteWithoutFail(LedgerStep step, Ledger& ledger, Board& board, const base::Clock& clock);

// Word is what one side waits for: what the peer says, or what the controller tells of the peer.
using Word = std::variant<PeerMessage, Decision>;

// Listener waits for words, without an end. It is for one thread.
class Listener {
 public:
  Listener(MoverLink& mover, Board& board) : mover_(mover), board_(board) {}

  // Wait returns the next word, or nothing after kLookEvery.
  [[nodiscard]] std::optional<Word> Wait();
  // False once the peer cannot be heard any more: then only the controller is left.
  [[nodiscard]] bool hears_peer() const { return hears_peer_; }

 private:
  MoverLink& mover_;
  Board& board_;
  bool hears_peer_ = true;
};

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
