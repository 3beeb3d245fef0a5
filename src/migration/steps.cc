#include "migration/steps.h"

#include "base/status.h"

namespace sealift::migration {
namespace {

using hypervisor::RunState;

}  // namespace

void PostTrouble(Board& board, const absl::Status& trouble) {
  board.Post(
      [&](Snapshot& snapshot) { snapshot.detail = "trying again: " + base::MessageOf(trouble); });
}

bool IsTimeout(const absl::Status& status) {
  return status.code() == absl::StatusCode::kDeadlineExceeded;
}

absl::Status Interruption(const Board& board, MoverLink& mover) {
  if (board.cancel().stop_requested()) return absl::CancelledError("cancelled on request");
  return mover.Health();
}

Ended EndedBy(const absl::Status& why) {
  return {absl::IsCancelled(why) ? Ended::Why::kCancelled : Ended::Why::kFailed,
          base::MessageOf(why)};
}

absl::Status WaitEstablished(const Board& board, MoverLink& mover, const base::Clock& clock,
                             std::string_view what) {
  const base::Duration deadline = clock.SinceBoot() + kEstablishLimit;
  absl::Status status;
  do {
    SEALIFT_RETURN_IF_ERROR(Interruption(board, mover));
    status = mover.WaitEstablished(kLookEvery);
  } while (IsTimeout(status) && clock.SinceBoot() < deadline);
  return base::Annotate(status, what);
}

absl::Status MakeRun(hypervisor::Vm& vm, Board& board, const base::Clock& clock,
                     const std::function<absl::Status()>& attempt) {
  const base::Duration deadline = clock.SinceBoot() + kRunLimit;
  for (;;) {
    absl::Status status = attempt();
    const RunState state = vm.State().value_or(RunState::kPaused);
    if (status.ok() && state == RunState::kIoError) return status;
    if (state == RunState::kShutdown || state == RunState::kCrashed) return absl::OkStatus();
    if (status.ok() && state == RunState::kRunning) return status;
    if (status.ok()) status = absl::InternalError("the guest does not run");
    if (state == RunState::kGone) return status;
    if (clock.SinceBoot() >= deadline) return status;
    PostTrouble(board, status);
    clock.Pause(kLookEvery);
  }
}

bool IsGone(hypervisor::Vm& vm) {
  return vm.State().value_or(RunState::kPaused) == RunState::kGone;
}

absl::Status EndProcess(hypervisor::Vm& vm, Board& board, const base::Clock& clock) {
  absl::Status status = vm.Quit();
  while (!status.ok() && !IsGone(vm)) {
    PostTrouble(board, status);
    clock.Pause(kLookEvery);
    status = vm.Quit();
  }
  return status;
}

void WriteWithoutFail(LedgerStep step, Ledger& ledger, Board& board, const base::Clock& clock) {
  for (absl::Status status = ledger.Write(step); !status.ok(); status = ledger.Write(step)) {
    PostTrouble(board, status);
    clock.Pause(kLookEvery);
  }
}

std::optional<Word> Listener::Wait() {
  if (hears_peer_) {
    absl::StatusOr<PeerMessage> message = mover_.ReceiveFromPeer(kLookEvery);
    if (message.ok()) return *std::move(message);
    // What is not understood is no word; the next may be one.
    hears_peer_ = !absl::IsUnavailable(message.status());
  }
  const auto patience = hears_peer_ ? base::Duration::zero() : base::Duration(kLookEvery);
  const std::optional<Decision> told = board_.WaitForDecision(patience);
  return told ? std::optional<Word>(*told) : std::nullopt;
}

}  // namespace sealift::migration
