#include "migration/board.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

namespace sealift::migration {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Nothing is waited for that long unless the test has failed.
constexpr seconds kPatience{20};
constexpr base::Duration kNoTime{0};

class BoardTest : public ::testing::Test {
 protected:
  void PostWireBytes(std::uint64_t bytes) {
    board_.Post([&](Snapshot& snapshot) { snapshot.wire_bytes = bytes; });
  }
  void PostPhase(PhaseName phase) {
    board_.Post([&](Snapshot& snapshot) { snapshot.phase = phase; });
  }
  std::uint64_t Version() { return board_.WaitForChange(0, kNoTime); }

  base::FakeClock clock_;
  Board board_{clock_};
};

TEST_F(BoardTest, ShowsWhatWasPostedLast) {
  board_.Post([](Snapshot& snapshot) { snapshot.ram_total_bytes = 7; });
  board_.Post([](Snapshot& snapshot) { snapshot.detail = "waiting"; });
  EXPECT_EQ(board_.Look().ram_total_bytes, 7U);
  EXPECT_EQ(board_.Look().detail, "waiting");
}

TEST_F(BoardTest, BeginsInPreparing) { EXPECT_EQ(board_.Look().phase, PhaseName::kPreparing); }

TEST_F(BoardTest, ElapsedIsTheTimeUntilTheLastPost) {
  clock_.Advance(milliseconds(1500));
  PostWireBytes(0);
  clock_.Advance(seconds(5));
  EXPECT_EQ(board_.Look().elapsed, milliseconds(1500));
}

TEST_F(BoardTest, TheRateIsThatOfTheLastInterval) {
  clock_.Advance(seconds(1));
  PostWireBytes(1'000'000);
  EXPECT_EQ(board_.Look().bytes_per_second, 1'000'000U);
  clock_.Advance(seconds(2));
  PostWireBytes(7'000'000);
  EXPECT_EQ(board_.Look().bytes_per_second, 3'000'000U);
}

TEST_F(BoardTest, PostsInQuickSuccessionDoNotMakeTheRateJump) {
  clock_.Advance(milliseconds(500));
  PostWireBytes(1000);
  ASSERT_EQ(board_.Look().bytes_per_second, 2000U);
  clock_.Advance(milliseconds(499));
  PostWireBytes(900'000);
  EXPECT_EQ(board_.Look().bytes_per_second, 2000U);
  // What was left out then counts as soon as the interval is long enough.
  clock_.Advance(milliseconds(1));
  PostWireBytes(901'000);
  EXPECT_EQ(board_.Look().bytes_per_second, 1'800'000U);
}

TEST_F(BoardTest, AStandStillHasNoRate) {
  clock_.Advance(seconds(1));
  PostWireBytes(1000);
  clock_.Advance(seconds(1));
  PostWireBytes(1000);
  EXPECT_EQ(board_.Look().bytes_per_second, 0U);
}

TEST_F(BoardTest, AWatcherThatIsBehindDoesNotWait) {
  PostWireBytes(1);
  const std::uint64_t seen = Version();
  PostWireBytes(2);
  EXPECT_GT(board_.WaitForChange(seen, kPatience), seen);
}

TEST_F(BoardTest, AWatcherWaitsForTheNextPost) {
  PostWireBytes(1);
  const std::uint64_t seen = Version();
  auto changed =
      std::async(std::launch::async, [&] { return board_.WaitForChange(seen, kPatience); });
  PostWireBytes(2);
  EXPECT_GT(changed.get(), seen);
  EXPECT_EQ(board_.Look().wire_bytes, 2U);
}

TEST_F(BoardTest, AWatcherIsToldWhenNothingHasChanged) {
  PostWireBytes(1);
  const std::uint64_t seen = Version();
  EXPECT_EQ(board_.WaitForChange(seen, milliseconds(1)), seen);
}

TEST_F(BoardTest, ACancelIsTakenUntilTheCommit) {
  for (const PhaseName phase :
       {PhaseName::kPreparing, PhaseName::kCopying, PhaseName::kSwitching}) {
    Board board(clock_);
    board.Post([&](Snapshot& snapshot) { snapshot.phase = phase; });
    EXPECT_FALSE(board.cancel().stop_requested());
    EXPECT_TRUE(board.RequestCancel().ok());
    EXPECT_TRUE(board.cancel().stop_requested());
  }
}

TEST_F(BoardTest, ACancelIsRefusedAfterTheCommit) {
  for (const PhaseName phase :
       {PhaseName::kCommitted, PhaseName::kCompleted, PhaseName::kFailed, PhaseName::kCancelled}) {
    PostPhase(phase);
    EXPECT_EQ(board_.RequestCancel().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_FALSE(board_.cancel().stop_requested());
  }
}

TEST_F(BoardTest, NobodyHasDecidedAtFirst) {
  EXPECT_EQ(board_.WaitForDecision(kNoTime), std::nullopt);
  EXPECT_EQ(board_.WaitForDecision(milliseconds(1)), std::nullopt);
}

TEST_F(BoardTest, ADecisionWakesWhoWaitsForIt) {
  auto told = std::async(std::launch::async, [&] { return board_.WaitForDecision(kPatience); });
  board_.Tell(Decision::kAbort);
  EXPECT_EQ(told.get(), Decision::kAbort);
}

TEST_F(BoardTest, ACancelWakesWhoWaitsWithIt) {
  std::promise<void> woken;
  const std::stop_callback callback(board_.cancel(), [&] { woken.set_value(); });
  ASSERT_TRUE(board_.RequestCancel().ok());
  EXPECT_EQ(woken.get_future().wait_for(kNoTime), std::future_status::ready);
}

TEST_F(BoardTest, ADecisionStays) {
  board_.Tell(Decision::kCommit);
  board_.Tell(Decision::kAbort);
  EXPECT_EQ(board_.WaitForDecision(kNoTime), Decision::kCommit);
  EXPECT_EQ(board_.WaitForDecision(kNoTime), Decision::kCommit);
}

TEST_F(BoardTest, APostIsNoDecision) {
  auto told = std::async(std::launch::async, [&] { return board_.WaitForDecision(kPatience); });
  for (int i = 0; i < 100; ++i) PostWireBytes(1);
  ASSERT_TRUE(board_.RequestCancel().ok());
  board_.Tell(Decision::kCommit);
  EXPECT_EQ(told.get(), Decision::kCommit);
}

}  // namespace
}  // namespace sealift::migration
