#include "migration/destination.h"

#include <fmt/format.h>

#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "migration/steps.h"

namespace sealift::migration {

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
  if (status.ok()) status = mover_.SendToPeer({PeerMessageType::kReady, {}});
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
  bool peer_is_there = true;
  for (;;) {
    if (peer_is_there) {
      const absl::StatusOr<PeerMessage> message = mover_.ReceiveFromPeer(kLookEvery);
      if (message.ok() && message->type == PeerMessageType::kCommit) return Decision::kCommit;
      if (message.ok() && message->type == PeerMessageType::kAbort) return Decision::kAbort;
      peer_is_there = message.ok() || IsTimeout(message.status());
      if (!peer_is_there) {
        board_.Post([](Snapshot& snapshot) {
          snapshot.detail = "lost the source; waiting for the controller to tell its decision";
        });
      }
    }
    const auto patience = peer_is_there ? base::Duration::zero() : base::Duration(kLookEvery);
    if (const std::optional<Decision> told = board_.WaitForDecision(patience)) return *told;
  }
}

Completed DestinationMigration::Own() {
  Completed completed;
  // A restart that finds "ready" asks and is told of the commit: the guest need not wait for a
  // disk.
  const absl::Status owned = ledger_.Write(LedgerStep::kOwned);
  const absl::Status running = MakeRun(vm_, board_, clock_, [this] { return vm_.Continue(); });
  if (running.ok()) {
    const absl::Status announced = vm_.Announce();
    if (!announced.ok()) completed.note = base::MessageOf(announced);
  } else {
    completed.note = "the guest is here but does not run: " + base::MessageOf(running);
    spdlog::error("{}", completed.note);
  }
  // The source lets go of the VM when it hears: then it must be in the books here.
  if (!owned.ok()) WriteWithoutFail(LedgerStep::kOwned, ledger_, board_, clock_);
  static_cast<void>(
      mover_.SendToPeer({PeerMessageType::kResumed, running.ok() ? "" : completed.note}));
  PostWireBytes();
  return completed;
}

Ended DestinationMigration::Drop(const absl::Status& why) {
  Ended ended = EndedBy(why);
  mover_.Kill();
  // A destination QEMU whose channel was cut may be wedged: Quit kills it.
  absl::Status status = vm_.Quit();
  if (!status.ok()) ended.reason += "; its process: " + base::MessageOf(status);
  status = ledger_.Write(LedgerStep::kDropped);
  if (!status.ok()) ended.reason += "; the ledger: " + base::MessageOf(status);
  return ended;
}

}  // namespace sealift::migration
