#include "controller/migration_queue.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace sealift::controller {
namespace {

class MigrationQueueTest : public ::testing::Test {
 protected:
  using Turn = std::unique_ptr<MigrationQueue::Turn>;

  // How many a migration waits for now.
  static std::size_t Ahead(const Turn& turn) {
    return turn->Wait(std::nullopt, {}, [] { return true; });
  }

  MigrationQueue queue_{{.total = 3, .per_host = 2}};
};

TEST_F(MigrationQueueTest, AsManyAsAHostCarriesBeginAtOnce) {
  const Turn first = queue_.Join("a", "b");
  const Turn second = queue_.Join("a", "b");
  const Turn third = queue_.Join("a", "b");
  EXPECT_EQ(Ahead(first), 0U);
  EXPECT_EQ(Ahead(second), 0U);
  EXPECT_EQ(Ahead(third), 2U);
}

TEST_F(MigrationQueueTest, AHostCountsAsSourceAndAsDestination) {
  const Turn first = queue_.Join("a", "b");
  const Turn second = queue_.Join("c", "a");
  const Turn third = queue_.Join("a", "d");
  EXPECT_EQ(Ahead(second), 0U);
  EXPECT_EQ(Ahead(third), 2U);
}

TEST_F(MigrationQueueTest, TheNextBeginsWhenOneHasEnded) {
  Turn first = queue_.Join("a", "b");
  const Turn second = queue_.Join("a", "b");
  const Turn third = queue_.Join("a", "b");
  const Turn fourth = queue_.Join("a", "b");
  std::thread waiter([&] { EXPECT_EQ(third->Wait(2, {}, [] { return false; }), 0U); });
  first.reset();
  waiter.join();
  EXPECT_EQ(Ahead(fourth), 2U);
}

TEST_F(MigrationQueueTest, OthersHostsDoNotWaitForOneThatWaits) {
  const Turn first = queue_.Join("a", "b");
  const Turn second = queue_.Join("a", "b");
  const Turn third = queue_.Join("a", "c");
  const Turn other = queue_.Join("d", "e");
  EXPECT_EQ(Ahead(third), 2U);
  EXPECT_EQ(Ahead(other), 0U);
}

// Else a steady stream of others could keep it waiting for ever.
TEST_F(MigrationQueueTest, NobodyOvertakesOneThatWaitsForTheSameHost) {
  Turn first = queue_.Join("a", "b");
  const Turn second = queue_.Join("a", "b");
  const Turn third = queue_.Join("a", "c");
  const Turn fourth = queue_.Join("c", "d");
  EXPECT_EQ(Ahead(fourth), 1U) << "host c is kept for the one before";
  first.reset();
  EXPECT_EQ(Ahead(third), 0U);
  EXPECT_EQ(Ahead(fourth), 0U);
}

TEST_F(MigrationQueueTest, AllTogetherAreLimitedToo) {
  const Turn first = queue_.Join("a", "b");
  const Turn second = queue_.Join("c", "d");
  Turn third = queue_.Join("e", "f");
  const Turn fourth = queue_.Join("g", "h");
  EXPECT_EQ(Ahead(fourth), 1U);
  third.reset();
  EXPECT_EQ(Ahead(fourth), 0U);
}

TEST_F(MigrationQueueTest, WhatIsUnderWayIsCountedButNeverWaits) {
  const Turn first = queue_.Resume("a", "b");
  const Turn second = queue_.Resume("a", "b");
  const Turn third = queue_.Resume("a", "b");
  EXPECT_EQ(Ahead(third), 0U);
  EXPECT_EQ(Ahead(queue_.Join("b", "c")), 3U);
}

TEST_F(MigrationQueueTest, OneThatGivesUpStopsWaiting) {
  const Turn first = queue_.Join("a", "b");
  const Turn second = queue_.Join("a", "b");
  const Turn third = queue_.Join("a", "b");
  std::atomic<bool> given_up = false;
  std::thread waiter([&] { EXPECT_EQ(third->Wait(2, {}, [&] { return given_up.load(); }), 2U); });
  given_up = true;
  queue_.Wake();
  waiter.join();
}

TEST_F(MigrationQueueTest, AStopEndsTheWait) {
  const Turn first = queue_.Join("a", "b");
  const Turn second = queue_.Join("a", "b");
  const Turn third = queue_.Join("a", "b");
  std::stop_source stop;
  std::thread waiter(
      [&] { EXPECT_EQ(third->Wait(2, stop.get_token(), [] { return false; }), 2U); });
  stop.request_stop();
  waiter.join();
}

}  // namespace
}  // namespace sealift::controller
