#include "migration/source.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "base/status.h"
#include "migration/steps.h"

namespace sealift::migration {
namespace {

using hypervisor::MigrationState;
using hypervisor::RunState;
using std::chrono::duration_cast;
using std::chrono::milliseconds;

// How often a cancel is looked for while the guest stands still and the destination is not ready.
constexpr milliseconds kReadyLook{50};
// How long the destination may take after the commit before people are told that we wait for it.
constexpr std::chrono::seconds kResumedPatience{2};

// HasMoved says whether anything of the guest moved between two looks at its copy.
bool HasMoved(const Snapshot& then, const Snapshot& now) {
  return now.wire_bytes != then.wire_bytes || now.iterations != then.iterations ||
         now.ram_transferred_bytes != then.ram_transferred_bytes ||
         now.ram_remaining_bytes != then.ram_remaining_bytes;
}

}  // namespace

SourceMigration::SourceMigration(const SourceOptions& options, hypervisor::Vm& vm, MoverLink& mover,
                                 Ledger& ledger, Board& board, const base::Clock& clock)
    : engine_(MakeSourceEngine(options, vm, mover, board, clock)),
      receipt_(options.receipt),
      vm_(vm),
      mover_(mover),
      ledger_(ledger),
      board_(board),
      clock_(clock) {}

SourcePhase SourceMigration::Run(SourcePhase phase) {
  return RunPhases(std::move(phase), board_, [this](auto now) { return From(std::move(now)); });
}

SourcePhase SourceMigration::From(Preparing /*phase*/) {
  absl::Status status = WaitEstablished(board_, mover_, clock_, "connect to the destination");
  if (!status.ok()) return RollBack(status);
  // The hypervisor itself stops the guest at the switch-over, and an engine may stop it for moments
  // before: the ledger has to know before they may.
  status = ledger_.Write(LedgerStep::kDelegated);
  if (!status.ok()) return RollBack(status);
  status = engine_->Begin();
  if (!status.ok()) return RollBack(status);
  return Copying{};
}

SourcePhase SourceMigration::From(Copying /*phase*/) {
  Snapshot then = board_.Look();
  base::Duration moved_at = clock_.SinceBoot();
  for (;;) {
    const absl::Status interruption = Interruption(board_, mover_);
    if (!interruption.ok()) return RollBack(interruption);
    const absl::StatusOr<bool> stopped = engine_->Copy(kLookEvery);
    if (!stopped.ok()) return RollBack(stopped.status());
    if (*stopped) return Switching{clock_.SinceBoot()};
    PostProgress();
    Snapshot now = board_.Look();
    if (HasMoved(then, now)) moved_at = clock_.SinceBoot();
    const base::Duration still = clock_.SinceBoot() - moved_at;
    if (still > mover_.reconnect_limit() + kStandstillLimit) {
      return RollBack(absl::AbortedError(
          fmt::format("the copy has stood still for {} s: does the destination's QEMU hang?",
                      duration_cast<std::chrono::seconds>(still).count())));
    }
    then = std::move(now);
  }
}

void SourceMigration::PostProgress() {
  board_.Post([this](Snapshot& snapshot) {
    snapshot.wire_bytes = mover_.wire_bytes();
    engine_->Describe(snapshot);
  });
}

SourcePhase SourceMigration::From(Switching phase) {
  absl::Status status = SwitchOver(phase.stopped_at + kSwitchoverLimit);
  if (status.ok()) status = Interruption(board_, mover_);
  if (status.ok()) status = board_.CloseCancellation();
  if (!status.ok()) return RollBack(status);
  status = ledger_.Write(LedgerStep::kCommitted);
  if (status.ok()) return Committed{phase.stopped_at};
  // The commit may be on disk all the same: before the guest goes on, the abort has to be.
  if (absl::IsDataLoss(status)) WriteWithoutFail(LedgerStep::kAborted, ledger_, board_, clock_);
  return RollBack(status);
}

absl::Status SourceMigration::SwitchOver(base::Duration deadline) {
  SEALIFT_RETURN_IF_ERROR(base::Annotate(engine_->Finish(deadline), "switch-over"));
  return base::Annotate(WaitUntilPeerReady(deadline), "switch-over");
}

absl::Status SourceMigration::WaitUntilPeerReady(base::Duration deadline) {
  absl::StatusOr<PeerMessage> message;
  do {
    SEALIFT_RETURN_IF_ERROR(Interruption(board_, mover_));
    const base::Duration left = deadline - clock_.SinceBoot();
    message = mover_.ReceiveFromPeer(std::min<base::Duration>(left, kReadyLook));
  } while (IsTimeout(message.status()) && clock_.SinceBoot() < deadline);
  SEALIFT_RETURN_IF_ERROR(message.status());
  if (message->type == PeerMessageType::kReady) return absl::OkStatus();
  return absl::AbortedError("the destination answered out of turn");
}

SourcePhase SourceMigration::From(Committed phase) {
  const absl::Status told = mover_.SendToPeer({PeerMessageType::kCommit, receipt_});
  PostProgress();
  board_.Post([&](Snapshot& snapshot) {
    snapshot.ram_remaining_bytes = 0;
    if (!told.ok()) snapshot.detail = "the destination could not be told: " + base::MessageOf(told);
  });
  const std::optional<PeerMessage> resumed = WaitUntilPeerResumed();
  if (resumed && resumed->text.empty()) {
    const base::Duration downtime = clock_.SinceBoot() - phase.stopped_at;
    board_.Post([&](Snapshot& s) { s.downtime = duration_cast<milliseconds>(downtime); });
  }
  Completed completed{resumed ? resumed->text : ""};
  const absl::Status quit = EndProcess(vm_, board_, clock_);
  if (!quit.ok()) completed.note = "the process at the source: " + base::MessageOf(quit);
  // A VM that stayed in the inventory would be refused when it comes back.
  WriteWithoutFail(LedgerStep::kReleased, ledger_, board_, clock_);
  return completed;
}

// The guest here never runs again, so there is no hurry: where the peer is silent, the controller
// asks it and tells us.
std::optional<PeerMessage> SourceMigration::WaitUntilPeerResumed() {
  Listener listener(mover_, board_);
  const base::Duration late = clock_.SinceBoot() + kResumedPatience;
  bool posted = false;
  for (;;) {
    std::optional<Word> word = listener.Wait();
    if (word && std::holds_alternative<Decision>(*word)) return std::nullopt;
    if (word && std::get<PeerMessage>(*word).type == PeerMessageType::kResumed) {
      return std::get<PeerMessage>(*std::move(word));
    }
    if (!posted && (!listener.hears_peer() || clock_.SinceBoot() >= late)) {
      board_.Post([](Snapshot& snapshot) {
        snapshot.detail = "waiting to hear that the guest runs at the destination";
      });
      posted = true;
    }
  }
}

absl::Status SourceMigration::TryToGoOn() {
  SEALIFT_ASSIGN_OR_RETURN(const hypervisor::OutgoingProgress progress, vm_.Outgoing());
  if (progress.state != MigrationState::kCompleted) {
    const absl::Status cancelled = vm_.CancelOutgoing();
    // It may complete before the cancellation reaches it.
    if (!absl::IsFailedPrecondition(cancelled)) {
      SEALIFT_RETURN_IF_ERROR(cancelled);
      // The hypervisor lets no guest go on that had stopped by itself when it was to be stopped.
      SEALIFT_ASSIGN_OR_RETURN(const RunState state, vm_.State());
      return state == RunState::kPaused ? vm_.Continue() : absl::OkStatus();
    }
  }
  // Everything was sent, but nothing was committed, and the destination runs the guest only after a
  // commit.
  return vm_.Continue();
}

// Nobody else would let a guest go on that we have stopped: it is never given up.
bool SourceMigration::StandsStill() {
  const RunState state = vm_.State().value_or(RunState::kPaused);
  return state != RunState::kRunning && state != RunState::kGone;
}

Ended SourceMigration::RollBack(const absl::Status& why) {
  engine_->Release();
  Ended ended = EndedBy(why);
  static_cast<void>(mover_.SendToPeer({PeerMessageType::kAbort, ended.reason}));
  // QEMU may hang in its own socket until the mover closes it.
  mover_.Kill();
  absl::Status status;
  do {
    status = MakeRun(vm_, board_, clock_, [this] { return TryToGoOn(); });
  } while (!status.ok() && StandsStill());
  if (!status.ok()) ended.reason += "; resume at the source: " + base::MessageOf(status);
  status = engine_->Undo();
  if (!status.ok()) ended.reason += "; " + base::MessageOf(status);
  // Where this fails "delegated" or "aborted" is on disk, which a restart rolls back again.
  status = ledger_.Write(LedgerStep::kResumed);
  if (!status.ok()) ended.reason += "; the ledger: " + base::MessageOf(status);
  return ended;
}

}  // namespace sealift::migration
