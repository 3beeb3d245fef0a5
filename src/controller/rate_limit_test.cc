#include "controller/rate_limit.h"

#include <gtest/gtest.h>

namespace sealift::controller {
namespace {

using std::chrono::milliseconds;

int AllowedOf(RateLimit& limit, const std::string& peer, int tries) {
  int allowed = 0;
  for (int i = 0; i < tries; ++i) allowed += limit.Allow(peer) ? 1 : 0;
  return allowed;
}

TEST(RateLimitTest, LetsThroughItsNumberAtOnceAndNoMore) {
  base::FakeClock clock;
  RateLimit limit(clock, {.peer = 5, .overall = 8});
  EXPECT_EQ(AllowedOf(limit, "p", 20), 5);
}

TEST(RateLimitTest, FillsUpWithTime) {
  base::FakeClock clock;
  RateLimit limit(clock, {.peer = 5, .overall = 8});
  ASSERT_EQ(AllowedOf(limit, "p", 5), 5);
  clock.Advance(milliseconds(399));
  EXPECT_EQ(AllowedOf(limit, "p", 5), 1);
  clock.Advance(std::chrono::hours(1));
  EXPECT_EQ(AllowedOf(limit, "p", 20), 5);
}

TEST(RateLimitTest, CountsAllPeersTogether) {
  base::FakeClock clock;
  RateLimit limit(clock, {.peer = 5, .overall = 8});
  ASSERT_EQ(AllowedOf(limit, "p", 20), 5);
  EXPECT_EQ(AllowedOf(limit, "q", 20), 3);
}

TEST(RateLimitTest, APeerThatKnocksTooOftenLeavesTheRestToOthers) {
  base::FakeClock clock;
  RateLimit limit(clock, {.peer = 5, .overall = 8});
  EXPECT_EQ(AllowedOf(limit, "p", 1000), 5);
  EXPECT_EQ(AllowedOf(limit, "q", 1000), 3);
  clock.Advance(std::chrono::seconds(1));
  EXPECT_EQ(AllowedOf(limit, "p", 1000), 5);
  EXPECT_EQ(AllowedOf(limit, "q", 1000), 3);
}

TEST(RateLimitTest, GoesOnWithManyPeers) {
  base::FakeClock clock;
  RateLimit limit(clock, {.peer = 5, .overall = 8});
  for (int i = 0; i < 5000; ++i) {
    clock.Advance(milliseconds(200));
    EXPECT_TRUE(limit.Allow(std::to_string(i)));
  }
}

}  // namespace
}  // namespace sealift::controller
