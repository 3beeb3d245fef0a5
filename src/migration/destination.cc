#include "migration/destination.h"

#include <fmt/format.h>

#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "migration/steps.h"

namespace sealift::migration {

using hypervisor::RunState;

DestinationMigration::DestinationMigration(hypervisor::Vm& vm, MoverLink& mover, Ledger& ledger,
                                           Board& board, const base::Clock& clock)
    : vm_(vm), mover_(mover), ledger_(ledger), board_(board), clock_(clock) {}

DestinationPhase DestinationMigration::Run(DestinationPhase phase) {
  return RunPhases(std::move(phase), board_, [this](auto now) { return From(std::move(now)); });
}

void DestinationMigration::PostWireBytes() {
  board_.Post([this](Snapshot& snapshot) { snapshot.wire_bytes = mover_.wire_bytes(); });
}

DestinationPhase DestinationMigration::From(Preparing /*phase*/) {
  absl::Status status = ledger_.Write(LedgerStep::kReceiving);
  if (!status.ok()) return Drop(status);
  status = WaitEstablished(board_, mover_, clock_, "wait for the source");
  if (!status.ok()) return Drop(status);
  return Receiving{};
}

DestinationPhase DestinationMigration::From(Receiving /*phase*/) {
  for (;;) {
    absl::Status status = Interruption(board_, mover_);
    if (!status.ok()) return Drop(status);
    status = vm_.WaitIncoming(kLookEvery);
    PostWireBytes();
    if (status.ok()) break;
    if (!IsTimeout(status)) return Drop(base::Annotate(status, "receive the guest"));
  }
  absl::Status status = board_.CloseCancellation();
  if (!status.ok()) return Drop(status);
  // In this order: a restart must find out that the source may have been told "ready".
  status = ledger_.Write(LedgerStep::kReady);
  if (!status.ok()) return Drop(status);
  if (IsGone(vm_)) return Drop(absl::AbortedError("the process that received the guest has ended"));
  status = mover_.SendToPeer({PeerMessageType::kReady, {}});
  if (!status.ok()) spdlog::warn("the source was not told ready: {}", base::MessageOf(status));
  return Ready{};
}

DestinationPhase DestinationMigration::From(Ready /*phase*/) {
  if (WaitForDecision() == Decision::kAbort) {
    return Drop(absl::AbortedError("the source kept the guest"));
  }
  return Own();
}

Decision DestinationMigration::WaitForDecision() {
  // It was let go by an earlier agent, which had been told.
  if (vm_.State().value_or(RunState::kPaused) == RunState::kRunning) return Decision::kCommit;
  Listener listener(mover_, board_);
  for (;;) {
    const bool heard_peer = listener.hears_peer();
    const std::optional<Word> word = listener.Wait();
    if (word) {
      const auto* decision = std::get_if<Decision>(&*word);
      if (decision != nullptr) return *decision;
      const auto& said = std::get<PeerMessage>(*word);
      if (said.type == PeerMessageType::kAbort) return Decision::kAbort;
      if (said.type == PeerMessageType::kCommit) {
        board_.Post([&](Snapshot& snapshot) { snapshot.receipt = said.text; });
        return Decision::kCommit;
      }
    }
    if (heard_peer && !listener.hears_peer()) {
      board_.Post([](Snapshot& snapshot) {
        snapshot.detail = "lost the source; waiting for the controller to tell its decision";
      });
    }
  }
}

// The commit alone lets the guest run; it waits for no disk. A restart that finds "ready" takes the
// guest again.
Completed DestinationMigration::Own() {
  Completed completed;
  const absl::Status running = MakeRun(vm_, board_, clock_, [this] { return vm_.Continue(); });
  if (running.ok()) {
    const absl::Status settled = vm_.Settle();
    if (!settled.ok()) completed.note = base::MessageOf(settled);
  } else {
    completed.note = "the guest is here but does not run: " + base::MessageOf(running);
    spdlog::error("{}", completed.note);
  }
  // The source lets go of the VM when it hears: then it must be in the books here.
  WriteWithoutFail(LedgerStep::kOwned, ledger_, board_, clock_);
  static_cast<void>(
      mover_.SendToPeer({PeerMessageType::kResumed, running.ok() ? "" : completed.note}));
  PostWireBytes();
  return completed;
}

Ended DestinationMigration::Drop(const absl::Status& why) {
  Ended ended = EndedBy(why);
  mover_.Kill();
  // A destination QEMU whose channel was cut may be wedged: it is killed.
  absl::Status status = EndProcess(vm_, board_, clock_);
  if (!status.ok()) ended.reason += "; its process: " + base::MessageOf(status);
  status = ledger_.Write(LedgerStep::kDropped);
  if (!status.ok()) ended.reason += "; the ledger: " + base::MessageOf(status);
  return ended;
}

}  // namespace sealift::migration
