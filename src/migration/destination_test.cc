#include "migration/destination.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <future>

#include "migration/testing.h"

namespace sealift::migration {
namespace {

using hypervisor::FakeVm;
using hypervisor::Pace;
using hypervisor::RunState;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Nothing is waited for that long unless the test has failed.
constexpr seconds kPatience{5};

// The guest arrives at the first wait for it, unless a test says otherwise.
class DestinationTest : public ::testing::Test {
 protected:
  // -- How the source behaves.

  void GuestArrives() { qemu_.FinishIncoming(absl::OkStatus()); }
  void OnceReady(std::function<void()> action) { journal_.When("peer ready", std::move(action)); }
  void SourceCommits() {
    OnceReady([this] { mover_.Say(PeerMessageType::kCommit); });
  }

  // -- Running the machine.

  std::future<DestinationPhase> Start(DestinationPhase phase) {
    return std::async(std::launch::async, [this, phase = std::move(phase)] {
      DestinationMigration machine(vm_, mover_, ledger_, board_, clock_);
      return machine.Run(phase);
    });
  }
  DestinationPhase Run(DestinationPhase phase = Preparing{}) {
    auto end = Start(std::move(phase));
    if (end.wait_for(kPatience) != std::future_status::ready) {
      ADD_FAILURE() << "it waits for a decision";
      board_.Tell(Decision::kCommit);
    }
    return end.get();
  }
  Ended RunToEnded(DestinationPhase phase = Preparing{}) {
    return std::get<Ended>(Run(std::move(phase)));
  }
  Completed RunToCompleted(DestinationPhase phase = Preparing{}) {
    return std::get<Completed>(Run(std::move(phase)));
  }
  // Runs until the machine says that it has lost the source, then tells it `decision`.
  DestinationPhase RunUntilTold(Decision decision, DestinationPhase phase = Preparing{}) {
    auto end = Start(std::move(phase));
    std::uint64_t version = 0;
    while (board_.Look().detail.find("lost the source") == std::string::npos) {
      const std::uint64_t now = board_.WaitForChange(version, kPatience);
      if (now == version) break;
      version = now;
    }
    EXPECT_THAT(board_.Look().detail, HasSubstr("lost the source"));
    EXPECT_EQ(*qemu_.State(), RunState::kPaused) << "received, and neither run nor dropped";
    board_.Tell(decision);
    return end.get();
  }

  // -- What to expect.

  void ExpectDropped() {
    EXPECT_FALSE(journal_.Has("vm Continue"));
    EXPECT_TRUE(journal_.Has("mover kill"));
    EXPECT_EQ(journal_.events().back(), "ledger dropped");
    EXPECT_EQ(*qemu_.State(), RunState::kGone);
  }
  void ExpectGuestRunsHere() { EXPECT_EQ(*qemu_.State(), RunState::kRunning); }

  base::FakeClock clock_;
  testing::Journal journal_{clock_};
  FakeVm qemu_{{}, RunState::kIncoming, Pace::kByTest, 1};
  testing::StagedVm vm_{qemu_, journal_};
  testing::FakeMover mover_{journal_};
  testing::FakeLedger ledger_{journal_};
  Board board_{clock_};
};

// ---- When all goes well

TEST_F(DestinationTest, WritesEachStepDownBeforeItIsTaken) {
  GuestArrives();
  SourceCommits();
  EXPECT_EQ(RunToCompleted().note, "");
  EXPECT_THAT(journal_.events(),
              ElementsAre("ledger receiving", "ledger ready", "peer ready", "vm Continue",
                          "vm Settle", "ledger owned", "peer resumed"));
  ExpectGuestRunsHere();
}

TEST_F(DestinationTest, ShowsThePhaseItIsIn) {
  const auto expect = [this](PhaseName phase) {
    return [this, phase] { EXPECT_EQ(board_.Look().phase, phase); };
  };
  journal_.When("ledger receiving", expect(PhaseName::kPreparing));
  journal_.When("wait for incoming", expect(PhaseName::kCopying));
  journal_.When("wait for incoming", [this] { GuestArrives(); });
  journal_.When("wait for peer", expect(PhaseName::kSwitching));
  journal_.When("wait for peer", [this] { mover_.Say(PeerMessageType::kCommit); });
  RunToCompleted();
  expect(PhaseName::kCompleted)();
}

TEST_F(DestinationTest, ShowsTheBytesThatCame) {
  mover_.SetWireBytes(4096);
  GuestArrives();
  SourceCommits();
  RunToCompleted();
  EXPECT_EQ(board_.Look().wire_bytes, 4096U);
}

// ---- Preparing

TEST_F(DestinationTest, DropsWhatItCannotWriteDown) {
  ledger_.Fail(LedgerStep::kReceiving);
  EXPECT_THAT(RunToEnded().reason, HasSubstr("receiving"));
  ExpectDropped();
}

TEST_F(DestinationTest, GivesUpWhenTheSourceDoesNotConnectInTime) {
  mover_.SetEstablished(false);
  const base::Duration start = clock_.SinceBoot();
  const Ended ended = RunToEnded();
  EXPECT_EQ(ended.why, Ended::Why::kFailed);
  EXPECT_THAT(ended.reason, HasSubstr("wait for the source"));
  EXPECT_EQ(clock_.SinceBoot() - start, kEstablishLimit);
  EXPECT_THAT(journal_.events(),
              ElementsAre("ledger receiving", "mover kill", "vm Quit", "ledger dropped"));
}

TEST_F(DestinationTest, AMoverThatDiesWhileConnectingEndsTheMigration) {
  mover_.SetEstablished(false);
  journal_.When("wait for streams", [this] { mover_.Break("out of descriptors"); });
  EXPECT_THAT(RunToEnded().reason, HasSubstr("out of descriptors"));
  ExpectDropped();
}

TEST_F(DestinationTest, CanBeCancelledWhileConnecting) {
  mover_.SetEstablished(false);
  journal_.When("wait for streams", [this] { ASSERT_TRUE(board_.RequestCancel().ok()); });
  EXPECT_EQ(RunToEnded().why, Ended::Why::kCancelled);
  EXPECT_EQ(board_.Look().phase, PhaseName::kCancelled);
  ExpectDropped();
}

// ---- Receiving

TEST_F(DestinationTest, ReceivesForAsLongAsItTakes) {
  const base::Duration start = clock_.SinceBoot();
  std::function<void()> look = [&] {
    if (clock_.SinceBoot() - start > std::chrono::minutes(2)) return GuestArrives();
    journal_.When("wait for incoming", look);
  };
  journal_.When("wait for incoming", look);
  SourceCommits();
  RunToCompleted();
  EXPECT_GT(clock_.SinceBoot() - start, std::chrono::minutes(2));
}

TEST_F(DestinationTest, DropsAGuestThatCouldNotBeReceived) {
  qemu_.FinishIncoming(absl::AbortedError("section 'ram' is damaged"));
  EXPECT_EQ(RunToEnded().reason, "receive the guest: section 'ram' is damaged");
  EXPECT_FALSE(journal_.Has("ledger ready"));
  EXPECT_FALSE(journal_.Has("peer ready"));
  ExpectDropped();
}

TEST_F(DestinationTest, EndsWhenTheProcessDiesWhileReceiving) {
  journal_.When("wait for incoming", [this] { qemu_.Die(hypervisor::Exit::kCrashed); });
  EXPECT_THAT(RunToEnded().reason, HasSubstr("the process is gone"));
  ExpectDropped();
}

TEST_F(DestinationTest, CanBeCancelledWhileReceiving) {
  journal_.When("wait for incoming", [this] { ASSERT_TRUE(board_.RequestCancel().ok()); });
  EXPECT_EQ(RunToEnded().why, Ended::Why::kCancelled);
  EXPECT_FALSE(journal_.Has("peer ready"));
  ExpectDropped();
}

TEST_F(DestinationTest, DropsTheGuestWhenTheMoverDiesWhileReceiving) {
  journal_.When("wait for incoming", [this] { mover_.Break("stream 1 is lost"); });
  const Ended ended = RunToEnded();
  EXPECT_EQ(ended.why, Ended::Why::kFailed);
  EXPECT_EQ(ended.reason, "stream 1 is lost");
  EXPECT_EQ(board_.Look().detail, ended.reason);
  ExpectDropped();
}

TEST_F(DestinationTest, AProcessThatCannotBeEndedIsTriedAgainAndNotDroppedBefore) {
  qemu_.FinishIncoming(absl::AbortedError("damaged"));
  qemu_.FailCall("Quit", absl::DeadlineExceededError("wedged"));
  journal_.When("vm Quit", [this] {
    journal_.When("vm Quit", [this] {
      EXPECT_THAT(board_.Look().detail, HasSubstr("wedged"));
      EXPECT_FALSE(journal_.Has("ledger dropped"));
      qemu_.FailCall("Quit", absl::OkStatus());
    });
  });
  EXPECT_EQ(RunToEnded().reason, "receive the guest: damaged");
  ExpectDropped();
}

TEST_F(DestinationTest, SaysWhatCouldNotBeTidiedUpOnceTheProcessIsGone) {
  qemu_.FinishIncoming(absl::AbortedError("damaged"));
  journal_.When("vm Quit", [this] { qemu_.Die(hypervisor::Exit::kCrashed); });
  qemu_.FailCall("Quit", absl::InternalError("cannot remove its folder"));
  EXPECT_EQ(RunToEnded().reason,
            "receive the guest: damaged; its process: cannot remove its folder");
}

TEST_F(DestinationTest, DoesNotSayReadyForAProcessThatHasEnded) {
  GuestArrives();
  journal_.When("ledger ready", [this] { qemu_.Die(hypervisor::Exit::kCrashed); });
  EXPECT_THAT(RunToEnded().reason, HasSubstr("has ended"));
  EXPECT_FALSE(journal_.Has("peer ready"));
  ExpectDropped();
}

TEST_F(DestinationTest, SaysWhenTheDropCouldNotBeWritten) {
  qemu_.FinishIncoming(absl::AbortedError("damaged"));
  ledger_.Fail(LedgerStep::kDropped);
  EXPECT_THAT(RunToEnded().reason, HasSubstr("the ledger: no space"));
  EXPECT_EQ(*qemu_.State(), RunState::kGone);
}

// ---- Ready: whatever happens, only a decision ends it

class ReadyTest : public DestinationTest {
 protected:
  ReadyTest() { GuestArrives(); }
};

TEST_F(ReadyTest, TheGuestDoesNotRunBeforeTheCommit) {
  journal_.When("wait for peer", [this] {
    EXPECT_EQ(*qemu_.State(), RunState::kPaused);
    EXPECT_FALSE(journal_.Has("ledger owned"));
    mover_.Say(PeerMessageType::kCommit);
  });
  RunToCompleted();
  ExpectGuestRunsHere();
}

TEST_F(ReadyTest, ShowsTheReceiptOfTheCommitFromTheTimeOnWhenTheGuestIsItsOwn) {
  OnceReady([this] { mover_.Say(PeerMessageType::kCommit, "r1"); });
  journal_.When("ledger owned", [this] { EXPECT_EQ(board_.Look().receipt, "r1"); });
  RunToCompleted();
  EXPECT_EQ(board_.Look().receipt, "r1");
}

TEST_F(ReadyTest, DropsTheGuestWhenTheSourceAborts) {
  OnceReady([this] { mover_.Say(PeerMessageType::kAbort, "the switch-over took too long"); });
  const Ended ended = RunToEnded();
  EXPECT_EQ(ended.why, Ended::Why::kFailed);
  EXPECT_EQ(ended.reason, "the source kept the guest");
  ExpectDropped();
}

TEST_F(ReadyTest, TakesTheCommitFromTheControllerToo) {
  journal_.When("wait for peer", [this] { board_.Tell(Decision::kCommit); });
  RunToCompleted();
  EXPECT_TRUE(journal_.Has("ledger owned"));
  ExpectGuestRunsHere();
}

TEST_F(ReadyTest, TakesTheAbortFromTheControllerToo) {
  journal_.When("wait for peer", [this] { board_.Tell(Decision::kAbort); });
  RunToEnded();
  ExpectDropped();
}

TEST_F(ReadyTest, WaitsForAsLongAsItTakes) {
  const base::Duration start = clock_.SinceBoot();
  std::function<void()> look = [&] {
    EXPECT_EQ(*qemu_.State(), RunState::kPaused);
    if (clock_.SinceBoot() - start > std::chrono::minutes(2)) return board_.Tell(Decision::kCommit);
    journal_.When("wait for peer", look);
  };
  journal_.When("wait for peer", look);
  RunToCompleted();
  EXPECT_GT(clock_.SinceBoot() - start, std::chrono::minutes(2));
}

TEST_F(ReadyTest, ASourceThatIsLostLeavesTheDecisionToTheController) {
  OnceReady([this] { mover_.Break(); });
  EXPECT_EQ(NameOf(RunUntilTold(Decision::kCommit)), PhaseName::kCompleted);
  ExpectGuestRunsHere();
}

TEST_F(ReadyTest, ASourceThatIsLostAndAbortedIsObeyedToo) {
  OnceReady([this] { mover_.Break(); });
  EXPECT_EQ(NameOf(RunUntilTold(Decision::kAbort)), PhaseName::kFailed);
  ExpectDropped();
}

TEST_F(ReadyTest, ACommitThatCameBeforeTheMoverDiedCounts) {
  SourceCommits();
  OnceReady([this] { mover_.Break(); });
  RunToCompleted();
  ExpectGuestRunsHere();
}

TEST_F(ReadyTest, AnAnswerOutOfTurnIsNoDecision) {
  OnceReady([this] {
    mover_.Say(PeerMessageType::kReady);
    mover_.Say(PeerMessageType::kResumed);
    EXPECT_FALSE(journal_.Has("ledger owned"));
    mover_.Say(PeerMessageType::kAbort);
  });
  RunToEnded();
  ExpectDropped();
}

TEST_F(ReadyTest, ACancelComesTooLate) {
  OnceReady(
      [this] { EXPECT_EQ(board_.RequestCancel().code(), absl::StatusCode::kFailedPrecondition); });
  journal_.When("wait for peer", [this] { mover_.Say(PeerMessageType::kCommit); });
  RunToCompleted();
  ExpectGuestRunsHere();
}

// A source that was not told will not commit.
TEST_F(ReadyTest, TheSourceIsNotToldOfWhatIsNotOnDisk) {
  ledger_.Fail(LedgerStep::kReady);
  EXPECT_THAT(RunToEnded().reason, HasSubstr("ready"));
  EXPECT_FALSE(journal_.Has("peer ready"));
  ExpectDropped();
}

TEST_F(ReadyTest, WaitsForTheDecisionThoughTheSourceCouldNotBeToldReady) {
  journal_.When("ledger ready", [this] { mover_.Break(); });
  EXPECT_EQ(NameOf(RunUntilTold(Decision::kAbort)), PhaseName::kFailed);
  EXPECT_THAT(mover_.sent(), IsEmpty());
  ExpectDropped();
}

// ---- Owning the guest

class OwningTest : public ReadyTest {
 protected:
  OwningTest() { SourceCommits(); }
};

// The commit is irrevocable, and the guest runs nowhere else.
TEST_F(OwningTest, TheGuestRunsThoughThatCouldNotBeWritten) {
  ledger_.Fail(LedgerStep::kOwned, 3);
  journal_.When("ledger owned", [this] { ExpectGuestRunsHere(); });
  EXPECT_EQ(RunToCompleted().note, "");
  const std::vector<std::string>& events = journal_.events();
  EXPECT_EQ(std::ranges::count(events, "ledger owned"), 4);
  EXPECT_EQ(events.back(), "peer resumed") << "the source may let go of it now";
  ExpectGuestRunsHere();
}

TEST_F(OwningTest, AGuestThatDoesNotRunAtOnceIsTriedAgain) {
  qemu_.FailCall("Continue", absl::InternalError("Failed to get \"write\" lock"));
  journal_.When("vm Continue", [this] {
    journal_.When("vm Continue", [this] { qemu_.FailCall("Continue", absl::OkStatus()); });
  });
  EXPECT_EQ(RunToCompleted().note, "");
  EXPECT_EQ(std::ranges::count(journal_.events(), "vm Continue"), 3);
  ExpectGuestRunsHere();
}

TEST_F(OwningTest, AGuestThatDoesNotRunIsSaidToBothSides) {
  qemu_.FailCall("Continue", absl::InternalError("Failed to get \"write\" lock"));
  EXPECT_THAT(RunToCompleted().note, HasSubstr("Failed to get \"write\" lock"));
  EXPECT_THAT(board_.Look().detail, HasSubstr("does not run"));
  EXPECT_THAT(mover_.sent().back().text, HasSubstr("does not run"));
  EXPECT_TRUE(journal_.Has("ledger owned"));
  EXPECT_FALSE(journal_.Has("ledger dropped"));
}

TEST_F(OwningTest, AGuestThatCouldNotBeAnnouncedRuns) {
  qemu_.FailCall("Settle", absl::InternalError("no network"));
  EXPECT_THAT(RunToCompleted().note, HasSubstr("no network"));
  ExpectGuestRunsHere();
}

TEST_F(OwningTest, ASourceThatCannotBeToldChangesNothing) {
  journal_.When("vm Continue", [this] { mover_.Break(); });
  EXPECT_EQ(RunToCompleted().note, "");
  ExpectGuestRunsHere();
}

// ---- Run from a later phase, as after a restart of the agent

class DestinationRecoveryTest : public DestinationTest {
 protected:
  DestinationRecoveryTest() { mover_.Break("the agent was restarted"); }
};

TEST_F(DestinationRecoveryTest, AHalfReceivedGuestIsDropped) {
  EXPECT_EQ(RunToEnded(Receiving{}).reason, "the agent was restarted");
  ExpectDropped();
}

// The source cannot have been told "ready", which is written down first.
TEST_F(DestinationRecoveryTest, AReceivedGuestThatWasNotWrittenDownAsReadyIsDropped) {
  GuestArrives();
  RunToEnded(Receiving{});
  ExpectDropped();
}

TEST_F(DestinationRecoveryTest, AReadyGuestWaitsAndRunsWhenToldOfTheCommit) {
  GuestArrives();
  EXPECT_EQ(NameOf(RunUntilTold(Decision::kCommit, Ready{})), PhaseName::kCompleted);
  EXPECT_THAT(journal_.events(),
              ElementsAre("vm Continue", "vm Settle", "ledger owned", "peer resumed"));
  ExpectGuestRunsHere();
}

// The agent was told of the commit, let the guest go on, and ended before that was on disk.
TEST_F(DestinationRecoveryTest, AGuestThatRunsAlreadyIsOurs) {
  qemu_.SetState(RunState::kRunning);
  board_.Tell(Decision::kAbort);
  EXPECT_EQ(RunToCompleted(Ready{}).note, "");
  EXPECT_TRUE(journal_.Has("ledger owned"));
  ExpectGuestRunsHere();
}

TEST_F(DestinationRecoveryTest, AReadyGuestWaitsAndIsDroppedWhenToldOfTheAbort) {
  GuestArrives();
  EXPECT_EQ(NameOf(RunUntilTold(Decision::kAbort, Ready{})), PhaseName::kFailed);
  ExpectDropped();
}

TEST_F(DestinationRecoveryTest, AnEndIsLeftAlone) {
  EXPECT_EQ(RunToEnded(Ended{Ended::Why::kFailed, "then"}).reason, "then");
  EXPECT_EQ(RunToCompleted(Completed{"now"}).note, "now");
  EXPECT_THAT(journal_.events(), IsEmpty());
}

}  // namespace
}  // namespace sealift::migration
