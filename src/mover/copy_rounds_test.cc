#include "mover/copy_rounds.h"

#include <gtest/gtest.h>

namespace sealift::mover {
namespace {

using std::chrono::milliseconds;

constexpr std::uint64_t kMegabyte = 1'000'000;
constexpr milliseconds kLimit{300};

// A copy of a guest that writes `dirty` MB/s (never more than `guest` MB in all) over a link of
// `link` MB/s.
class Copy {
 public:
  Copy(std::uint64_t guest, std::uint64_t link, std::uint64_t dirty, milliseconds limit = kLimit)
      : guest_(guest * kMegabyte), link_(link), dirty_(dirty), rounds_(limit) {
    rounds_.Begin(now_);
  }

  // Until the phase changes or `rounds` have passed.
  void Run(std::uint32_t rounds = 100) {
    while (rounds_.phase() == CopyPhase::kCopying && rounds_.round() <= rounds) RunOne();
  }
  // One round at the speed of the link.
  void RunOne() {
    const std::uint64_t bytes = rounds_.round() == 1 ? guest_ : written_;
    const auto took = milliseconds(1 + bytes / kMegabyte * 1000 / link_);
    now_ += took;
    written_ = Written(took);
    rounds_.RoundApplied(now_, {bytes, 0});
  }
  void Wait(milliseconds time) {
    now_ += time;
    written_ += Written(time);
    rounds_.Tick(now_);
  }
  void Stop() {
    dirty_ = 0;
    rounds_.Finish(now_);
  }
  void SlowDown(std::uint64_t dirty) { dirty_ = dirty; }

  CopyRounds& rounds() { return rounds_; }

 private:
  [[nodiscard]] std::uint64_t Written(milliseconds time) const {
    return std::min(guest_, dirty_ * kMegabyte * static_cast<std::uint64_t>(time.count()) / 1000);
  }

  const std::uint64_t guest_;
  const std::uint64_t link_;
  std::uint64_t dirty_;
  base::Duration now_ = std::chrono::seconds(5);
  std::uint64_t written_ = 0;
  CopyRounds rounds_;
};

TEST(CopyRounds, AGuestThatDoesNothingTakesTwoRounds) {
  Copy copy(1000, 1000, 0);
  copy.Run();
  EXPECT_EQ(copy.rounds().phase(), CopyPhase::kConverged);
  EXPECT_EQ(copy.rounds().round(), 2);
}

TEST(CopyRounds, GoesOnWhileItPays) {
  Copy copy(1000, 1000, 90);
  copy.Run();
  EXPECT_EQ(copy.rounds().phase(), CopyPhase::kConverged);
  // 1000, 90 MB and a rest of 8: the 90 MB would have fitted the limit, too.
  EXPECT_EQ(copy.rounds().round(), 2);
  EXPECT_LE(copy.rounds().expected_bytes(), 10 * kMegabyte);
  EXPECT_EQ(copy.rounds().stalls(), 0);
  EXPECT_NEAR(static_cast<double>(copy.rounds().dirty_bytes_per_second()), 90e6, 20e6);
}

TEST(CopyRounds, GoesOnUntilTheRestFitsTheLimit) {
  Copy copy(1000, 1000, 100, milliseconds(5));
  copy.Run();
  EXPECT_EQ(copy.rounds().phase(), CopyPhase::kConverged);
  EXPECT_LE(copy.rounds().expected_bytes(), 5 * kMegabyte);
}

TEST(CopyRounds, AGuestThatWritesAsFastAsTheLinkStalls) {
  Copy copy(4000, 1000, 1100);
  copy.Run(20);
  EXPECT_EQ(copy.rounds().phase(), CopyPhase::kCopying);
  EXPECT_GE(copy.rounds().stalls(), 2);
}

TEST(CopyRounds, AGuestThatIsSlowedDownConverges) {
  Copy copy(4000, 1000, 1100);
  copy.Run(10);
  copy.SlowDown(200);
  copy.Run();
  EXPECT_EQ(copy.rounds().phase(), CopyPhase::kConverged);
}

TEST(CopyRounds, ARestThatNeverShrinksButFitsTheLimitIsTaken) {
  // Always the same 100 MB, however short the round is.
  Copy copy(100, 1000, 100'000);
  copy.Run();
  EXPECT_EQ(copy.rounds().phase(), CopyPhase::kConverged);
}

// It costs no bytes of the link, and time all the same.
TEST(CopyRounds, AGuestThatClearsMuchMemoryIsNotStopped) {
  CopyRounds rounds(kLimit);
  base::Duration now = std::chrono::seconds(1);
  rounds.Begin(now);
  rounds.RoundApplied(now += milliseconds(1000), {1000 * kMegabyte, 0});
  const std::uint64_t zeros = 2000 * kMegabyte;
  for (int round = 0; round < 3; ++round) {
    rounds.RoundApplied(now += milliseconds(1000), {0, zeros});
    EXPECT_EQ(rounds.phase(), CopyPhase::kCopying);
  }
  EXPECT_NEAR(static_cast<double>(rounds.dirty_bytes_per_second()), 2e9, 1e8);
  EXPECT_GE(rounds.stalls(), 2U);
  rounds.RoundApplied(now += milliseconds(1000), {0, zeros / 10});
  EXPECT_EQ(rounds.phase(), CopyPhase::kConverged);
}

TEST(CopyRounds, TheSpeedIsThatOfDataAlone) {
  CopyRounds rounds(kLimit);
  base::Duration now = std::chrono::seconds(1);
  rounds.Begin(now);
  rounds.RoundApplied(now += milliseconds(10), {0, 0});
  // 10 MB in a twentieth of a second; the rest of it went for zeros.
  rounds.RoundApplied(now += milliseconds(1000), {10 * kMegabyte, 1900 * kMegabyte});
  EXPECT_EQ(rounds.phase(), CopyPhase::kCopying);
  rounds.RoundApplied(now += milliseconds(1000), {7 * kMegabyte, 0});
  EXPECT_EQ(rounds.phase(), CopyPhase::kConverged) << "7 MB take 35 ms";
}

TEST(CopyRounds, KeepsTheRestSmallUntilTheGuestStops) {
  Copy copy(1000, 1000, 0);
  copy.Run();
  const std::uint32_t round = copy.rounds().round();
  copy.Wait(milliseconds(50));
  EXPECT_EQ(copy.rounds().round(), round);
  copy.Wait(milliseconds(50));
  EXPECT_EQ(copy.rounds().round(), round + 1);
  copy.Wait(milliseconds(200));
  EXPECT_EQ(copy.rounds().round(), round + 1) << "one at a time";
}

TEST(CopyRounds, TheLastRoundBeginsAfterTheStop) {
  Copy copy(1000, 1000, 10);
  copy.Run();
  const std::uint32_t round = copy.rounds().round();
  copy.Stop();
  EXPECT_EQ(copy.rounds().round(), round + 1);
  EXPECT_EQ(copy.rounds().phase(), CopyPhase::kConverged);
  copy.RunOne();
  EXPECT_EQ(copy.rounds().phase(), CopyPhase::kFinished);
  EXPECT_EQ(copy.rounds().expected_bytes(), 0);
}

// What was scanned before the stop is not the last word.
TEST(CopyRounds, ARoundThatWasUnderWayAtTheStopIsNotTheLast) {
  Copy copy(1000, 1000, 10);
  copy.Run();
  copy.Wait(kIdleRound);
  const std::uint32_t under_way = copy.rounds().round();
  copy.Stop();
  EXPECT_EQ(copy.rounds().round(), under_way);
  copy.RunOne();
  EXPECT_EQ(copy.rounds().round(), under_way + 1);
  EXPECT_EQ(copy.rounds().phase(), CopyPhase::kConverged);
  copy.RunOne();
  EXPECT_EQ(copy.rounds().phase(), CopyPhase::kFinished);
}

}  // namespace
}  // namespace sealift::mover
