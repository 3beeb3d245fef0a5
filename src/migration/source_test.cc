#include "migration/source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <future>
#include <memory>

#include "migration/testing.h"
#include "migration/write_back.h"

namespace sealift::migration {
namespace {

using hypervisor::FakeVm;
using hypervisor::MigrationState;
using hypervisor::Pace;
using hypervisor::RunState;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

// Nothing is waited for that long unless the test has failed.
constexpr seconds kPatience{5};

// The VM goes at its own pace: pre-switchover at once, and completed as soon as it may go on.
class SourceTest : public ::testing::Test {
 protected:
  // -- How the peer behaves.

  void PeerBecomesReady() {
    journal_.When("vm ContinueSwitchover", [this] { mover_.Say(PeerMessageType::kReady); });
  }
  void PeerResumes() {
    journal_.When("peer commit", [this] { mover_.Say(PeerMessageType::kResumed); });
  }

  // -- Running the machine.

  std::future<SourcePhase> Start(SourcePhase phase) {
    return std::async(std::launch::async, [this, phase = std::move(phase)] {
      SourceMigration machine(options_, vm_, mover_, ledger_, board_, clock_);
      return machine.Run(phase);
    });
  }
  SourcePhase Run(SourcePhase phase = Preparing{}) {
    auto end = Start(std::move(phase));
    if (end.wait_for(kPatience) != std::future_status::ready) {
      ADD_FAILURE() << "it waits for a decision";
      board_.Tell(Decision::kCommit);
    }
    return end.get();
  }
  Ended RunToEnded(SourcePhase phase = Preparing{}) {
    return std::get<Ended>(Run(std::move(phase)));
  }
  Completed RunToCompleted(SourcePhase phase = Preparing{}) {
    return std::get<Completed>(Run(std::move(phase)));
  }
  // Runs until the machine says that it waits for word of the destination, looks around, and tells
  // it. Returns where it then ends.
  SourcePhase RunUntilToldOfTheDestination(
      SourcePhase phase = Preparing{}, const std::function<void()>& look = [] {}) {
    auto end = Start(std::move(phase));
    std::uint64_t version = 0;
    while (board_.Look().detail != "waiting to hear that the guest runs at the destination") {
      const std::uint64_t now = board_.WaitForChange(version, kPatience);
      if (now == version) break;
      version = now;
    }
    EXPECT_THAT(board_.Look().detail, HasSubstr("waiting to hear"));
    EXPECT_EQ(board_.Look().phase, PhaseName::kCommitted);
    look();
    board_.Tell(Decision::kCommit);
    return end.get();
  }

  // -- What to expect.

  void ExpectGuestRunsHere() { EXPECT_EQ(*qemu_.State(), RunState::kRunning); }
  void ExpectNoCommit() {
    EXPECT_FALSE(journal_.Has("ledger committed"));
    EXPECT_FALSE(journal_.Has("peer commit"));
  }
  void ExpectNeverRanAgain() {
    EXPECT_FALSE(journal_.Has("vm Continue"));
    EXPECT_FALSE(journal_.Has("vm CancelOutgoing"));
    EXPECT_FALSE(journal_.Has("ledger aborted"));
  }

  base::FakeClock clock_;
  testing::Journal journal_{clock_};
  FakeVm qemu_{{}, RunState::kRunning, Pace::kByItself, 1};
  testing::StagedVm vm_{qemu_, journal_};
  testing::FakeMover mover_{journal_};
  testing::FakeLedger ledger_{journal_};
  Board board_{clock_};
  SourceOptions options_{.channel_path = "/run/out.sock", .parameters = {}, .receipt = ""};
};

// ---- When all goes well

TEST_F(SourceTest, WritesEachStepDownBeforeItIsTaken) {
  PeerBecomesReady();
  PeerResumes();
  EXPECT_EQ(RunToCompleted().note, "");
  EXPECT_THAT(journal_.events(),
              ElementsAre("ledger delegated", "vm StartOutgoing", "vm ContinueSwitchover",
                          "ledger committed", "peer commit", "vm Quit", "ledger released"));
  EXPECT_EQ(*qemu_.State(), RunState::kGone);
}

TEST_F(SourceTest, GivesTheReceiptAwayWithTheCommitAndNotEarlier) {
  options_.receipt = "r1";
  PeerBecomesReady();
  PeerResumes();
  journal_.When("ledger committed", [this] { EXPECT_TRUE(mover_.sent().empty()); });
  RunToCompleted();
  ASSERT_EQ(mover_.sent().size(), 1U);
  EXPECT_EQ(mover_.sent()[0].type, PeerMessageType::kCommit);
  EXPECT_EQ(mover_.sent()[0].text, "r1");
}

TEST_F(SourceTest, GivesNoReceiptAwayWithAnAbort) {
  options_.receipt = "r1";
  RunToEnded();  // nobody becomes ready
  ASSERT_EQ(mover_.sent().size(), 1U);
  EXPECT_EQ(mover_.sent()[0].type, PeerMessageType::kAbort);
  EXPECT_THAT(mover_.sent()[0].text, Not(HasSubstr("r1")));
}

TEST_F(SourceTest, ShowsThePhaseItIsIn) {
  const auto expect = [this](PhaseName phase) {
    return [this, phase] { EXPECT_EQ(board_.Look().phase, phase); };
  };
  PeerBecomesReady();
  PeerResumes();
  journal_.When("ledger delegated", expect(PhaseName::kPreparing));
  journal_.When("vm ContinueSwitchover", expect(PhaseName::kSwitching));
  journal_.When("ledger committed", expect(PhaseName::kSwitching));
  journal_.When("peer commit", expect(PhaseName::kCommitted));
  journal_.When("vm Quit", expect(PhaseName::kCommitted));
  RunToCompleted();
  expect(PhaseName::kCompleted)();
}

TEST_F(SourceTest, GivesTheHypervisorItsSocketAndParameters) {
  options_.parameters = {.multifd_channels = 3, .downtime_limit = milliseconds(70)};
  PeerBecomesReady();
  PeerResumes();
  RunToCompleted();
  EXPECT_EQ(qemu_.Calls().front(), "StartOutgoing /run/out.sock");
  EXPECT_EQ(qemu_.parameters().multifd_channels, 3U);
  EXPECT_EQ(qemu_.parameters().downtime_limit, milliseconds(7));
}

TEST_F(SourceTest, UsesTheWholeDowntimeLimitAtOnceWhereWritesAreForgotten) {
  options_.parameters = {.downtime_limit = milliseconds(70)};
  options_.few_rounds = true;
  PeerBecomesReady();
  PeerResumes();
  RunToCompleted();
  EXPECT_EQ(qemu_.parameters().downtime_limit, milliseconds(70));
}

TEST_F(SourceTest, RaisesTheDowntimeLimitWithEachRoundThatWasNotEnough) {
  options_.parameters = {.downtime_limit = milliseconds(70)};
  qemu_.SetPace(Pace::kByTest);
  std::vector<std::int64_t> limits;
  const std::vector<std::uint64_t> rounds = {1, 1, 2, 2, 3, 4, 6, 7};
  std::size_t look = 0;
  std::function<void()> go_on = [&] {
    limits.push_back(qemu_.parameters().downtime_limit.count());
    if (look == rounds.size()) return mover_.Break("seen");
    hypervisor::OutgoingProgress progress;
    progress.ram_total_bytes = 100;
    progress.iterations = rounds[look++];
    qemu_.SetProgress(progress);
    journal_.When("wait for outgoing", go_on);
  };
  journal_.When("wait for outgoing", go_on);
  EXPECT_THAT(RunToEnded().reason, HasSubstr("seen"));
  EXPECT_THAT(limits, ElementsAre(7, 7, 7, 14, 14, 28, 56, 70, 70));
  EXPECT_THAT(qemu_.Calls(), Contains("SetDowntimeLimit 70 ms").Times(1));
}

TEST_F(SourceTest, ShowsTheProgressOfTheCopy) {
  qemu_.SetPace(Pace::kByTest);
  journal_.When("wait for outgoing", [this] {
    hypervisor::OutgoingProgress progress;
    progress.ram_total_bytes = 100;
    progress.ram_transferred_bytes = 60;
    progress.ram_remaining_bytes = 40;
    progress.dirty_bytes_per_second = 5;
    progress.iterations = 2;
    qemu_.SetProgress(progress);
    mover_.SetWireBytes(64);
    journal_.When("wait for outgoing", [this] {
      const Snapshot snapshot = board_.Look();
      EXPECT_EQ(snapshot.phase, PhaseName::kCopying);
      EXPECT_EQ(snapshot.ram_total_bytes, 100U);
      EXPECT_EQ(snapshot.ram_transferred_bytes, 60U);
      EXPECT_EQ(snapshot.ram_remaining_bytes, 40U);
      EXPECT_EQ(snapshot.dirty_bytes_per_second, 5U);
      EXPECT_EQ(snapshot.iterations, 2U);
      EXPECT_EQ(snapshot.wire_bytes, 64U);
      mover_.Break("seen");
    });
  });
  EXPECT_THAT(RunToEnded().reason, HasSubstr("seen"));
}

TEST_F(SourceTest, TheDowntimeIsFromTheStopToTheWordOfTheDestination) {
  PeerBecomesReady();
  journal_.When("vm ContinueSwitchover", [this] { clock_.Advance(milliseconds(40)); });
  journal_.When("peer commit", [this] {
    clock_.Advance(milliseconds(80));
    mover_.Say(PeerMessageType::kResumed);
  });
  RunToCompleted();
  EXPECT_EQ(board_.Look().downtime, milliseconds(120));
}

// ---- Preparing

TEST_F(SourceTest, WaitsUntilEveryStreamIsEstablished) {
  mover_.SetEstablished(false);
  journal_.When("wait for streams", [this] {
    EXPECT_THAT(journal_.events(), IsEmpty());
    journal_.When("wait for streams", [this] { mover_.SetEstablished(true); });
  });
  PeerBecomesReady();
  PeerResumes();
  RunToCompleted();
}

TEST_F(SourceTest, GivesUpWhenTheStreamsAreNotEstablishedInTime) {
  mover_.SetEstablished(false);
  const base::Duration start = clock_.SinceBoot();
  const Ended ended = RunToEnded();
  EXPECT_EQ(ended.why, Ended::Why::kFailed);
  EXPECT_THAT(ended.reason, HasSubstr("connect to the destination"));
  EXPECT_EQ(clock_.SinceBoot() - start, kEstablishLimit);
  EXPECT_FALSE(journal_.Has("vm StartOutgoing"));
  ExpectGuestRunsHere();
}

TEST_F(SourceTest, AMoverThatDiesWhileConnectingEndsTheMigration) {
  mover_.SetEstablished(false);
  journal_.When("wait for streams", [this] { mover_.Break("no route to host"); });
  EXPECT_THAT(RunToEnded().reason, HasSubstr("no route to host"));
  EXPECT_FALSE(journal_.Has("vm StartOutgoing"));
  ExpectGuestRunsHere();
}

TEST_F(SourceTest, CanBeCancelledWhileConnecting) {
  mover_.SetEstablished(false);
  journal_.When("wait for streams", [this] { ASSERT_TRUE(board_.RequestCancel().ok()); });
  EXPECT_EQ(RunToEnded().why, Ended::Why::kCancelled);
  EXPECT_EQ(board_.Look().phase, PhaseName::kCancelled);
  EXPECT_FALSE(journal_.Has("vm StartOutgoing"));
  ExpectGuestRunsHere();
}

TEST_F(SourceTest, DoesNotTouchTheGuestBeforeTheDelegationIsOnDisk) {
  ledger_.Fail(LedgerStep::kDelegated);
  EXPECT_THAT(RunToEnded().reason, HasSubstr("delegated"));
  EXPECT_FALSE(journal_.Has("vm StartOutgoing"));
  EXPECT_TRUE(journal_.Has("ledger resumed"));
  ExpectGuestRunsHere();
}

TEST_F(SourceTest, RollsBackWhenTheHypervisorDoesNotBegin) {
  qemu_.FailCall("StartOutgoing", absl::InternalError("no such capability"));
  EXPECT_THAT(RunToEnded().reason, HasSubstr("no such capability"));
  EXPECT_TRUE(journal_.Has("ledger resumed"));
  ExpectGuestRunsHere();
}

// ---- The direct engine

class DirectTest : public SourceTest {
 protected:
  DirectTest() {
    options_.engine = EngineName::kDirect;
    qemu_.SetTracking(true);
    journal_.When("mover BeginCopy", [this] { SetCopy(CopyProgress::Phase::kConverged); });
    journal_.When("mover FinishCopy", [this] { SetCopy(CopyProgress::Phase::kFinished); });
  }

  void SetCopy(CopyProgress::Phase phase, std::uint32_t stalls = 0) {
    CopyProgress progress;
    progress.phase = phase;
    progress.stalls = stalls;
    mover_.SetCopy(progress);
  }
  // The copy makes no headway, at every look, until the clock has come to `until`.
  void StallUntil(base::Duration until) {
    journal_.When("mover BeginCopy", [this] { SetCopy(CopyProgress::Phase::kCopying, 1); });
    auto stalls = std::make_shared<std::uint32_t>(1);
    look_ = [this, until, stalls] {
      if (clock_.SinceBoot() >= until) return SetCopy(CopyProgress::Phase::kConverged);
      SetCopy(CopyProgress::Phase::kCopying, ++*stalls);
      journal_.When("wait for copy", look_);
    };
    journal_.When("wait for copy", look_);
  }

  std::function<void()> look_;
};

TEST_F(DirectTest, CopiesMemoryFirstAndTheRestLast) {
  PeerBecomesReady();
  PeerResumes();
  EXPECT_EQ(RunToCompleted().note, "");
  EXPECT_THAT(
      journal_.events(),
      ElementsAre("ledger delegated", "vm BeginTracking", "mover BeginCopy", "vm DiskWriteBack",
                  "vm StartOutgoing", "mover FinishCopy", "vm ContinueSwitchover",
                  "ledger committed", "peer commit", "vm Quit", "ledger released"));
  EXPECT_TRUE(qemu_.parameters().ignore_shared);
  EXPECT_EQ(qemu_.parameters().multifd_channels, 0);
  // Nothing is gained by more rounds of what is no memory.
  EXPECT_EQ(qemu_.parameters().downtime_limit, options_.parameters.downtime_limit);
}

TEST_F(DirectTest, GivesTheGuestBackAsItWas) {
  journal_.When("vm StartOutgoing", [this] { ASSERT_TRUE(board_.RequestCancel().ok()); });
  EXPECT_EQ(RunToEnded().why, Ended::Why::kCancelled);
  EXPECT_THAT(journal_.events(),
              ElementsAre("ledger delegated", "vm BeginTracking", "mover BeginCopy",
                          "vm DiskWriteBack", "vm StartOutgoing", "peer abort", "mover kill",
                          "vm CancelOutgoing", "vm EndTracking", "ledger resumed"));
  ExpectGuestRunsHere();
}

// QEMU writes back what is left while the guest stands still.
TEST_F(DirectTest, DisksAreWrittenBackUntilThatIsQuick) {
  journal_.When("vm DiskWriteBack", [this] {
    clock_.Advance(seconds(20));
    journal_.When("vm DiskWriteBack", [this] { clock_.Advance(seconds(1)); });
  });
  PeerBecomesReady();
  PeerResumes();
  RunToCompleted();
  EXPECT_EQ(std::ranges::count(journal_.events(), "vm DiskWriteBack"), 3);
}

TEST_F(DirectTest, AGuestThatWritesItsDiskWithoutEndIsMovedAllTheSame) {
  std::function<void()> busy = [&] {
    clock_.Advance(seconds(1));
    journal_.When("vm DiskWriteBack", busy);
  };
  journal_.When("vm DiskWriteBack", busy);
  PeerBecomesReady();
  PeerResumes();
  RunToCompleted();
  EXPECT_EQ(std::ranges::count(journal_.events(), "vm DiskWriteBack"), kWriteBacks);
}

TEST_F(DirectTest, ADiskThatCannotBeWrittenBackIsLeftToTheHypervisor) {
  qemu_.FailCall("DiskWriteBack", absl::DataLossError("bad sector"));
  PeerBecomesReady();
  PeerResumes();
  EXPECT_EQ(RunToCompleted().note, "");
}

TEST_F(DirectTest, WithoutTrackingNothingIsCopied) {
  qemu_.FailCall("BeginTracking", absl::InternalError("the process is traced by another"));
  EXPECT_THAT(RunToEnded().reason, HasSubstr("traced by another"));
  EXPECT_FALSE(journal_.Has("mover BeginCopy"));
  ExpectGuestRunsHere();
}

TEST_F(DirectTest, ACancelEndsTheLastRound) {
  journal_.When("mover FinishCopy", [this] {
    SetCopy(CopyProgress::Phase::kConverged);
    ASSERT_TRUE(board_.RequestCancel().ok());
  });
  const base::Duration start = clock_.SinceBoot();
  EXPECT_EQ(RunToEnded().why, Ended::Why::kCancelled);
  EXPECT_EQ(clock_.SinceBoot(), start);
  ExpectGuestRunsHere();
}

TEST_F(DirectTest, TheHypervisorGetsWhatTheCopyHasLeftOfTheThreeSeconds) {
  journal_.When("mover FinishCopy", [this] { clock_.Advance(milliseconds(2900)); });
  RunToEnded();
  EXPECT_THAT(qemu_.Calls(), ::testing::Contains("ContinueSwitchover 100 ms"));
}

TEST_F(DirectTest, WhatWasNotConfirmedIsNotHandedOver) {
  journal_.When("mover FinishCopy", [this] { SetCopy(CopyProgress::Phase::kConverged); });
  EXPECT_THAT(RunToEnded().reason, HasSubstr("rest of the guest's memory was not sent in 3 s"));
  EXPECT_FALSE(journal_.Has("vm ContinueSwitchover"));
  ExpectNoCommit();
  ExpectGuestRunsHere();
}

TEST_F(DirectTest, AGuestThatWritesTooFastIsSlowedDownUntilItStops) {
  PeerBecomesReady();
  PeerResumes();
  StallUntil(clock_.SinceBoot() + seconds(5));
  journal_.When("wait for copy", [this] { ASSERT_TRUE(qemu_.WaitForCall("Suspend", kPatience)); });
  journal_.When("vm StartOutgoing", [this] { EXPECT_FALSE(qemu_.suspended()); });
  RunToCompleted();
}

TEST_F(DirectTest, ItsSlowingDownIsShownAndEndsWithACancel) {
  StallUntil(base::Duration::max());
  journal_.When("wait for copy", [this] { ASSERT_TRUE(qemu_.WaitForCall("Suspend", kPatience)); });
  journal_.When("wait for copy", [this] {
    journal_.When("wait for copy", [this] {
      EXPECT_THAT(board_.Look().detail, HasSubstr("slowed down by"));
      ASSERT_TRUE(board_.RequestCancel().ok());
    });
  });
  journal_.When("peer abort", [this] { EXPECT_FALSE(qemu_.suspended()); });
  EXPECT_EQ(RunToEnded().why, Ended::Why::kCancelled);
  EXPECT_FALSE(qemu_.suspended());
}

TEST_F(DirectTest, AGuestThatWritesTooFastIsLeftAloneIfSoAsked) {
  options_.on_no_convergence = NoConvergence::kFail;
  StallUntil(base::Duration::max());
  EXPECT_THAT(RunToEnded().reason, HasSubstr("faster than its memory can be copied"));
  EXPECT_FALSE(qemu_.WaitForCall("Suspend", seconds(0)));
  ExpectGuestRunsHere();
}

// ---- Copying

class CopyingTest : public SourceTest {
 protected:
  CopyingTest() { qemu_.SetPace(Pace::kByTest); }

  // Runs `action` while memory is being copied.
  void WhileCopying(std::function<void()> action) {
    journal_.When("wait for outgoing", std::move(action));
  }
};

TEST_F(CopyingTest, CopiesForAsLongAsItTakes) {
  const base::Duration start = clock_.SinceBoot();
  // Looks again and again; the last one ends it.
  std::function<void()> look = [&] {
    EXPECT_EQ(board_.Look().phase, PhaseName::kCopying);
    if (clock_.SinceBoot() - start > std::chrono::minutes(2)) return mover_.Break();
    mover_.SetWireBytes(mover_.wire_bytes() + 1);
    journal_.When("wait for outgoing", look);
  };
  WhileCopying(look);
  RunToEnded();
  EXPECT_GT(clock_.SinceBoot() - start, std::chrono::minutes(2));
}

// A lost connection alone is the mover's to give up.
// Its disk may have been full, and the hypervisor gives such a guest back as it was.
TEST_F(CopyingTest, AGuestThatHadStoppedByItselfIsLetGoOn) {
  WhileCopying([this] {
    ASSERT_TRUE(board_.RequestCancel().ok());
    journal_.When("vm CancelOutgoing", [this] { qemu_.SetState(RunState::kPaused); });
  });
  RunToEnded();
  EXPECT_TRUE(journal_.Has("vm Continue"));
  ExpectGuestRunsHere();
}

TEST_F(CopyingTest, AGuestWhoseDiskIsStillFullIsLeftToItself) {
  WhileCopying([this] {
    ASSERT_TRUE(board_.RequestCancel().ok());
    journal_.When("vm CancelOutgoing", [this] { qemu_.SetState(RunState::kIoError); });
  });
  RunToEnded();
  EXPECT_EQ(*qemu_.State(), RunState::kIoError);
  EXPECT_EQ(journal_.events().back(), "ledger resumed");
}

TEST_F(CopyingTest, ACopyThatStandsStillIsGivenUp) {
  const base::Duration start = clock_.SinceBoot();
  constexpr seconds kLastMove{20};
  std::function<void()> look = [&] {
    if (clock_.SinceBoot() - start > kLastMove) return;
    mover_.SetWireBytes(mover_.wire_bytes() + 1);
    journal_.When("wait for outgoing", look);
  };
  WhileCopying(look);
  EXPECT_THAT(RunToEnded().reason, HasSubstr("the copy has stood still for 70 s"));
  EXPECT_GT(clock_.SinceBoot() - start,
            kLastMove + testing::FakeMover::kReconnectLimit + kStandstillLimit);
  ExpectGuestRunsHere();
}

TEST_F(CopyingTest, ACancelRollsBackInThisOrder) {
  WhileCopying([this] { ASSERT_TRUE(board_.RequestCancel().ok()); });
  const Ended ended = RunToEnded();
  EXPECT_EQ(ended.why, Ended::Why::kCancelled);
  EXPECT_EQ(ended.reason, "cancelled on request");
  EXPECT_THAT(journal_.events(), ElementsAre("ledger delegated", "vm StartOutgoing", "peer abort",
                                             "mover kill", "vm CancelOutgoing", "ledger resumed"));
  ExpectGuestRunsHere();
}

TEST_F(CopyingTest, TheDestinationIsToldWhyItIsToDropTheGuest) {
  WhileCopying([this] { qemu_.SetOutgoing(MigrationState::kFailed, "out of memory"); });
  RunToEnded();
  ASSERT_EQ(mover_.sent().size(), 1U);
  EXPECT_EQ(mover_.sent()[0].type, PeerMessageType::kAbort);
  EXPECT_THAT(mover_.sent()[0].text, HasSubstr("out of memory"));
}

TEST_F(CopyingTest, RollsBackWhenTheMoverDies) {
  WhileCopying([this] { mover_.Break("stream 2 had no connection for 30 s"); });
  const Ended ended = RunToEnded();
  EXPECT_EQ(ended.why, Ended::Why::kFailed);
  EXPECT_EQ(ended.reason, "stream 2 had no connection for 30 s");
  EXPECT_EQ(board_.Look().phase, PhaseName::kFailed);
  EXPECT_EQ(board_.Look().detail, ended.reason);
  EXPECT_TRUE(journal_.Has("ledger resumed"));
  ExpectGuestRunsHere();
}

TEST_F(CopyingTest, SaysWhyTheHypervisorFailed) {
  WhileCopying([this] { qemu_.SetOutgoing(MigrationState::kFailed, "no route"); });
  EXPECT_EQ(RunToEnded().reason, "the hypervisor ended the migration: failed: no route");
  ExpectGuestRunsHere();
}

TEST_F(CopyingTest, NoticesThatSomebodyElseCancelled) {
  WhileCopying([this] { qemu_.SetOutgoing(MigrationState::kCancelled); });
  const Ended ended = RunToEnded();
  EXPECT_EQ(ended.why, Ended::Why::kFailed) << "nobody has asked us to";
  EXPECT_THAT(ended.reason, HasSubstr("cancelled"));
  ExpectGuestRunsHere();
}

TEST_F(CopyingTest, AHypervisorThatDidNotPauseBeforeTheSwitchOverIsRolledBack) {
  WhileCopying([this] { qemu_.SetOutgoing(MigrationState::kCompleted); });
  RunToEnded();
  ExpectNoCommit();
  ExpectGuestRunsHere();
}

TEST_F(CopyingTest, EndsWhenTheProcessDies) {
  WhileCopying([this] { qemu_.Die(hypervisor::Exit::kCrashed); });
  EXPECT_THAT(RunToEnded().reason, HasSubstr("the process is gone"));
  ExpectNoCommit();
}

// ---- Switching

class SwitchingTest : public SourceTest {
 protected:
  // Runs `action` once the guest's last state is on its way.
  void OnceSending(std::function<void()> action) {
    journal_.When("vm ContinueSwitchover", std::move(action));
  }
  // The time from the stop of the guest to now.
  base::Duration Stopped() { return clock_.SinceBoot() - stopped_at_; }

  base::Duration stopped_at_ = clock_.SinceBoot();  // nothing before takes time
};

TEST_F(SwitchingTest, RollsBackWhenTheHypervisorDoesNotGoOn) {
  qemu_.FailCall("ContinueSwitchover", absl::InternalError("wrong state"));
  EXPECT_THAT(RunToEnded().reason, HasSubstr("wrong state"));
  ExpectNoCommit();
  EXPECT_TRUE(journal_.Has("vm CancelOutgoing"));
  ExpectGuestRunsHere();
}

TEST_F(SwitchingTest, AGuestThatStandsStillIsNeverGivenUp) {
  qemu_.FailCall("ContinueSwitchover", absl::InternalError("wrong state"));
  qemu_.FailCall("CancelOutgoing", absl::DeadlineExceededError("it does not answer"));
  const base::Duration start = clock_.SinceBoot();
  std::function<void()> look = [&] {
    EXPECT_FALSE(journal_.Has("ledger resumed"));
    if (clock_.SinceBoot() - start > 4 * kRunLimit) {
      return qemu_.FailCall("CancelOutgoing", absl::OkStatus());
    }
    journal_.When("vm CancelOutgoing", look);
  };
  journal_.When("vm CancelOutgoing", look);
  RunToEnded();
  EXPECT_GT(clock_.SinceBoot() - start, 4 * kRunLimit);
  EXPECT_TRUE(journal_.Has("ledger resumed"));
  ExpectGuestRunsHere();
}

TEST_F(SwitchingTest, RollsBackWhenTheHypervisorFails) {
  OnceSending([this] { qemu_.SetOutgoing(MigrationState::kFailed); });
  EXPECT_THAT(RunToEnded().reason, HasSubstr("could not hand over"));
  ExpectNoCommit();
  ExpectGuestRunsHere();
}

TEST_F(SwitchingTest, RollsBackWhenTheHypervisorIsCancelled) {
  OnceSending([this] { qemu_.SetOutgoing(MigrationState::kCancelled); });
  EXPECT_THAT(RunToEnded().reason, HasSubstr("could not hand over"));
  ExpectNoCommit();
  ExpectGuestRunsHere();
}

TEST_F(SwitchingTest, RollsBackAHypervisorThatDoesNotFinishInThreeSeconds) {
  OnceSending([this] { qemu_.SetOutgoing(MigrationState::kDevice); });
  EXPECT_THAT(RunToEnded().reason, HasSubstr("not sent within 3 s"));
  EXPECT_EQ(Stopped(), kSwitchoverLimit);
  ExpectNoCommit();
  EXPECT_TRUE(journal_.Has("vm CancelOutgoing"));
  ExpectGuestRunsHere();
}

TEST_F(SwitchingTest, RollsBackWhenTheMoverDiesUnderTheHypervisor) {
  OnceSending([this] {
    qemu_.SetOutgoing(MigrationState::kDevice);
    mover_.Break();
  });
  EXPECT_THAT(RunToEnded().reason, HasSubstr("the mover crashed"));
  EXPECT_EQ(Stopped(), base::Duration::zero());
  ExpectNoCommit();
  ExpectGuestRunsHere();
}

TEST_F(SwitchingTest, RollsBackWhenTheProcessDies) {
  OnceSending([this] { qemu_.Die(hypervisor::Exit::kCrashed); });
  EXPECT_THAT(RunToEnded().reason, HasSubstr("the process is gone"));
  ExpectNoCommit();
}

// Its migration has completed, so there is nothing left to cancel.
TEST_F(SwitchingTest, ContinuesTheGuestWhenThePeerStaysSilentForThreeSeconds) {
  EXPECT_THAT(RunToEnded().reason, HasSubstr("switch-over"));
  EXPECT_EQ(Stopped(), kSwitchoverLimit);
  ExpectNoCommit();
  EXPECT_THAT(journal_.events(),
              ElementsAre("ledger delegated", "vm StartOutgoing", "vm ContinueSwitchover",
                          "peer abort", "mover kill", "vm Continue", "ledger resumed"));
  ExpectGuestRunsHere();
}

TEST_F(SwitchingTest, TheHypervisorAndThePeerShareTheThreeSeconds) {
  OnceSending([this] {
    qemu_.SetOutgoing(MigrationState::kDevice);
    clock_.Advance(milliseconds(2500));
    journal_.When("wait for outgoing", [this] { qemu_.SetOutgoing(MigrationState::kCompleted); });
  });
  RunToEnded();
  EXPECT_EQ(Stopped(), kSwitchoverLimit);
  ExpectGuestRunsHere();
}

TEST_F(SwitchingTest, TakesAPeerThatIsReadyAtTheLastMoment) {
  std::function<void()> look = [&] {
    if (Stopped() >= kSwitchoverLimit) return mover_.Say(PeerMessageType::kReady);
    journal_.When("wait for peer", look);
  };
  journal_.When("wait for peer", look);
  PeerResumes();
  RunToCompleted();
  EXPECT_GE(Stopped(), kSwitchoverLimit);
}

TEST_F(SwitchingTest, RollsBackWhenTheMoverDiesBeforeThePeerIsReady) {
  OnceSending([this] { mover_.Break(); });
  EXPECT_THAT(RunToEnded().reason, HasSubstr("the mover crashed"));
  ExpectNoCommit();
  ExpectGuestRunsHere();
}

TEST_F(SwitchingTest, RollsBackWhenTheMoverDiesAfterThePeerWasReady) {
  PeerBecomesReady();
  OnceSending([this] { mover_.Break(); });
  EXPECT_THAT(RunToEnded().reason, HasSubstr("the mover crashed"));
  ExpectNoCommit();
  ExpectGuestRunsHere();
}

TEST_F(SwitchingTest, CanBeCancelledUntilTheCommit) {
  PeerBecomesReady();
  OnceSending([this] { ASSERT_TRUE(board_.RequestCancel().ok()); });
  EXPECT_EQ(RunToEnded().why, Ended::Why::kCancelled);
  ExpectNoCommit();
  ExpectGuestRunsHere();
}

TEST_F(SwitchingTest, ACancelEndsTheWaitForThePeerSoon) {
  journal_.When("wait for peer", [this] { ASSERT_TRUE(board_.RequestCancel().ok()); });
  EXPECT_EQ(RunToEnded().why, Ended::Why::kCancelled);
  EXPECT_LE(Stopped(), milliseconds(100));
  ExpectGuestRunsHere();
}

TEST_F(SwitchingTest, ACancelEndsTheWaitForTheHypervisor) {
  OnceSending([this] {
    qemu_.SetOutgoing(MigrationState::kDevice);
    ASSERT_TRUE(board_.RequestCancel().ok());
  });
  EXPECT_EQ(RunToEnded().why, Ended::Why::kCancelled);
  EXPECT_EQ(Stopped(), base::Duration::zero());
  ExpectGuestRunsHere();
}

class OutOfTurnTest : public SwitchingTest,
                      public ::testing::WithParamInterface<PeerMessageType> {};

TEST_P(OutOfTurnTest, NoOtherAnswerIsTakenForReady) {
  OnceSending([this] { mover_.Say(GetParam()); });
  EXPECT_THAT(RunToEnded().reason, HasSubstr("out of turn"));
  ExpectNoCommit();
  ExpectGuestRunsHere();
}

INSTANTIATE_TEST_SUITE_P(Source, OutOfTurnTest,
                         ::testing::Values(PeerMessageType::kCommit, PeerMessageType::kAbort,
                                           PeerMessageType::kResumed));

TEST_F(SwitchingTest, ACommitThatWasNotWrittenIsToldToNobody) {
  PeerBecomesReady();
  ledger_.Fail(LedgerStep::kCommitted);
  EXPECT_THAT(RunToEnded().reason, HasSubstr("committed"));
  EXPECT_THAT(
      journal_.events(),
      ElementsAre("ledger delegated", "vm StartOutgoing", "vm ContinueSwitchover",
                  "ledger committed", "peer abort", "mover kill", "vm Continue", "ledger resumed"));
  ExpectGuestRunsHere();
}

// After a DATA_LOSS "committed" may be what a restart finds.
TEST_F(SwitchingTest, AfterACommitThatMayBeOnDiskTheGuestGoesOnOnlyWhenTheAbortIs) {
  PeerBecomesReady();
  ledger_.Fail(LedgerStep::kCommitted, 1, absl::StatusCode::kDataLoss);
  ledger_.Fail(LedgerStep::kAborted, 2);
  EXPECT_THAT(RunToEnded().reason, HasSubstr("committed"));
  EXPECT_THAT(journal_.events(),
              ElementsAre("ledger delegated", "vm StartOutgoing", "vm ContinueSwitchover",
                          "ledger committed", "ledger aborted", "ledger aborted", "ledger aborted",
                          "peer abort", "mover kill", "vm Continue", "ledger resumed"));
  ExpectGuestRunsHere();
}

// ---- Committed

class CommittedTest : public SourceTest {
 protected:
  CommittedTest() { PeerBecomesReady(); }

  // Runs `action` once the commit is written and told.
  void OnceCommitted(std::function<void()> action) {
    journal_.When("peer commit", std::move(action));
  }
};

TEST_F(CommittedTest, ACancelComesTooLate) {
  OnceCommitted([this] {
    EXPECT_EQ(board_.RequestCancel().code(), absl::StatusCode::kFailedPrecondition);
    mover_.Say(PeerMessageType::kResumed);
  });
  RunToCompleted();
  ExpectNeverRanAgain();
}

TEST_F(CommittedTest, ACancelBetweenTheCommitAndItsShowingChangesNothing) {
  journal_.When("ledger committed", [this] {
    EXPECT_EQ(board_.RequestCancel().code(), absl::StatusCode::kFailedPrecondition);
  });
  PeerResumes();
  RunToCompleted();
  ExpectNeverRanAgain();
}

TEST_F(CommittedTest, SaysWhatWentWrongAtTheDestinationAndMeasuresNoDowntime) {
  OnceCommitted([this] { mover_.Say(PeerMessageType::kResumed, "the guest does not run"); });
  EXPECT_EQ(RunToCompleted().note, "the guest does not run");
  EXPECT_EQ(board_.Look().downtime.count(), 0);
  ExpectNeverRanAgain();
}

TEST_F(CommittedTest, KeepsTheStoppedGuestUntilItHearsOfTheDestination) {
  OnceCommitted([this] { mover_.Break(); });
  const SourcePhase end = RunUntilToldOfTheDestination(Preparing{}, [this] {
    EXPECT_EQ(*qemu_.State(), RunState::kMigrated);
    EXPECT_EQ(board_.RequestCancel().code(), absl::StatusCode::kFailedPrecondition);
  });
  EXPECT_EQ(NameOf(end), PhaseName::kCompleted);
  EXPECT_TRUE(journal_.Has("ledger released"));
  EXPECT_EQ(*qemu_.State(), RunState::kGone);
  ExpectNeverRanAgain();
}

TEST_F(CommittedTest, WaitsAlsoWhenTheDestinationCouldNotBeTold) {
  journal_.When("ledger committed", [this] { mover_.Break(); });
  EXPECT_EQ(NameOf(RunUntilToldOfTheDestination()), PhaseName::kCompleted);
  EXPECT_THAT(mover_.sent(), IsEmpty());
  ExpectNeverRanAgain();
}

TEST_F(CommittedTest, WaitsWhenThePeerStaysSilent) {
  EXPECT_EQ(NameOf(RunUntilToldOfTheDestination()), PhaseName::kCompleted);
  ExpectNeverRanAgain();
}

TEST_F(CommittedTest, TakesNoOtherAnswerForTheWordOfTheDestination) {
  OnceCommitted([this] { mover_.Say(PeerMessageType::kReady); });
  EXPECT_EQ(NameOf(RunUntilToldOfTheDestination()), PhaseName::kCompleted);
  ExpectNeverRanAgain();
}

TEST_F(CommittedTest, HearsADestinationThatTakesItsTime) {
  const base::Duration start = clock_.SinceBoot();
  std::function<void()> look = [&] {
    if (clock_.SinceBoot() - start > std::chrono::minutes(2)) {
      EXPECT_THAT(board_.Look().detail, HasSubstr("waiting to hear"));
      return mover_.Say(PeerMessageType::kResumed);
    }
    journal_.When("wait for peer", look);
  };
  OnceCommitted([&] { journal_.When("wait for peer", look); });
  EXPECT_EQ(RunToCompleted().note, "");
  ExpectNeverRanAgain();
}

TEST_F(CommittedTest, AProcessThatCannotBeEndedIsTriedAgainAndNotReleasedBefore) {
  PeerResumes();
  qemu_.FailCall("Quit", absl::DeadlineExceededError("is its storage stuck?"));
  journal_.When("vm Quit", [this] {
    journal_.When("vm Quit", [this] {
      EXPECT_THAT(board_.Look().detail, HasSubstr("is its storage stuck?"));
      EXPECT_FALSE(journal_.Has("ledger released"));
      qemu_.FailCall("Quit", absl::OkStatus());
    });
  });
  EXPECT_EQ(RunToCompleted().note, "");
  EXPECT_EQ(*qemu_.State(), RunState::kGone);
  ExpectNeverRanAgain();
}

TEST_F(CommittedTest, AReleaseThatCannotBeWrittenIsTriedUntilItIs) {
  PeerResumes();
  ledger_.Fail(LedgerStep::kReleased, 2);
  journal_.When("ledger released", [this] {
    journal_.When("ledger released", [this] {
      EXPECT_THAT(board_.Look().detail, HasSubstr("no space to write 'released'"));
    });
  });
  EXPECT_EQ(RunToCompleted().note, "");
  EXPECT_EQ(std::ranges::count(journal_.events(), "ledger released"), 3);
  EXPECT_EQ(*qemu_.State(), RunState::kGone);
}

// ---- Rolling back

class RollBackTest : public CopyingTest {
 protected:
  RollBackTest() {
    WhileCopying([this] { ASSERT_TRUE(board_.RequestCancel().ok()); });
  }
};

// A restart that finds "delegated" rolls back.
TEST_F(RollBackTest, TheGuestGoesOnBeforeAnythingIsWritten) {
  journal_.When("ledger resumed", [this] { ExpectGuestRunsHere(); });
  RunToEnded();
  EXPECT_FALSE(journal_.Has("ledger aborted"));
}

TEST_F(RollBackTest, TheGuestGoesOnThoughThatCouldNotBeWritten) {
  ledger_.Fail(LedgerStep::kResumed);
  const Ended ended = RunToEnded();
  EXPECT_EQ(ended.why, Ended::Why::kCancelled);
  EXPECT_THAT(ended.reason, HasSubstr("resumed"));
  ExpectGuestRunsHere();
}

// A copy that cannot be recalled does not stop the guest, which runs on.
TEST_F(RollBackTest, ARunningGuestIsGivenBackThoughItsCopyCouldNotBeRecalled) {
  qemu_.FailCall("CancelOutgoing", absl::DeadlineExceededError("it does not answer"));
  EXPECT_THAT(RunToEnded().reason, HasSubstr("it does not answer"));
  EXPECT_TRUE(journal_.Has("ledger resumed"));
}

TEST_F(RollBackTest, AGuestThatDoesNotGoOnAtOnceIsTriedAgain) {
  qemu_.FailCall("CancelOutgoing", absl::DeadlineExceededError("it does not answer"));
  journal_.When("vm CancelOutgoing", [this] {
    journal_.When("vm CancelOutgoing",
                  [this] { qemu_.FailCall("CancelOutgoing", absl::OkStatus()); });
  });
  EXPECT_EQ(RunToEnded().reason, "cancelled on request");
  EXPECT_EQ(std::ranges::count(journal_.events(), "vm CancelOutgoing"), 3);
  EXPECT_TRUE(journal_.Has("ledger resumed"));
  ExpectGuestRunsHere();
}

TEST_F(RollBackTest, AVmWhoseProcessIsGoneIsGivenBackAllTheSame) {
  journal_.When("mover kill", [this] { qemu_.Die(hypervisor::Exit::kCrashed); });
  EXPECT_THAT(RunToEnded().reason, HasSubstr("resume at the source"));
  EXPECT_TRUE(journal_.Has("ledger resumed"));
}

// ---- Run from a later phase, as after a restart of the agent

class SourceRecoveryTest : public SourceTest {
 protected:
  SourceRecoveryTest() { mover_.Break("the agent was restarted"); }
};

class UnfinishedCopyTest : public SourceRecoveryTest,
                           public ::testing::WithParamInterface<MigrationState> {};

TEST_P(UnfinishedCopyTest, IsRolledBackWithoutItsMover) {
  qemu_.SetOutgoing(GetParam());
  EXPECT_THAT(RunToEnded(Copying{}).reason, HasSubstr("the agent was restarted"));
  ExpectNoCommit();
  EXPECT_TRUE(journal_.Has("ledger resumed"));
  ExpectGuestRunsHere();
}

INSTANTIATE_TEST_SUITE_P(Source, UnfinishedCopyTest,
                         ::testing::Values(MigrationState::kNone, MigrationState::kActive,
                                           MigrationState::kPreSwitchover, MigrationState::kDevice,
                                           MigrationState::kCompleted, MigrationState::kFailed,
                                           MigrationState::kCancelled));

TEST_F(SourceRecoveryTest, ACommittedGuestWaitsForWordOfTheDestination) {
  board_.Post([](Snapshot& snapshot) { snapshot.phase = PhaseName::kCommitted; });
  qemu_.SetOutgoing(MigrationState::kCompleted);
  const SourcePhase end = RunUntilToldOfTheDestination(
      Committed{clock_.SinceBoot()}, [this] { EXPECT_EQ(*qemu_.State(), RunState::kMigrated); });
  EXPECT_EQ(NameOf(end), PhaseName::kCompleted);
  EXPECT_EQ(*qemu_.State(), RunState::kGone);
  ExpectNeverRanAgain();
}

TEST_F(SourceRecoveryTest, ASwitchOverWhoseTimeIsUpIsRolledBack) {
  qemu_.SetPace(Pace::kByTest);
  qemu_.SetOutgoing(MigrationState::kPreSwitchover);
  RunToEnded(Switching{clock_.SinceBoot() - seconds(4)});
  ExpectNoCommit();
  ExpectGuestRunsHere();
}

TEST_F(SourceRecoveryTest, AnEndIsLeftAlone) {
  EXPECT_EQ(RunToEnded(Ended{Ended::Why::kCancelled, "then"}).reason, "then");
  EXPECT_EQ(RunToCompleted(Completed{"now"}).note, "now");
  EXPECT_THAT(journal_.events(), IsEmpty());
}

}  // namespace
}  // namespace sealift::migration
