#include "mover/relay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <condition_variable>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include "mover/testing.h"

namespace sealift::mover {
namespace {

using keys::Direction;
using keys::Protection;
using testing::kPatience;
using testing::ReceiveUpTo;
using testing::Schedule;
using testing::SendAll;
using testing::SocketPair;
using testing::Spec;
using testing::Text;

// Remembers what a relay said.
class Listener final : public RelayEvents {
 public:
  void OnDisconnected(std::uint16_t /*stream*/, std::uint32_t generation,
                      const std::string& /*why*/) override {
    const std::lock_guard lock(mutex_);
    disconnected_.insert(generation);
    changed_.notify_all();
  }
  void OnEnded(std::uint16_t /*stream*/) override {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
  }
  void OnFailed(std::uint16_t /*stream*/, const absl::Status& /*why*/) override {
    const std::lock_guard lock(mutex_);
    failed_ = true;
    changed_.notify_all();
  }

  bool WaitDisconnected(std::uint32_t generation) {
    return Wait([&] { return disconnected_.contains(generation); });
  }
  bool WaitEnded() {
    return Wait([&] { return ended_; });
  }
  bool WaitFailed() {
    return Wait([&] { return failed_; });
  }
  bool ended() {
    const std::lock_guard lock(mutex_);
    return ended_;
  }
  std::size_t disconnections() {
    const std::lock_guard lock(mutex_);
    return disconnected_.size();
  }

 private:
  template <typename Condition>
  bool Wait(const Condition& condition) {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, kPatience, condition);
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::set<std::uint32_t> disconnected_;
  bool ended_ = false;
  bool failed_ = false;
};

// One relay, the other end of its channel, and the key schedule it seals with.
class Host {
 public:
  explicit Host(Direction sending, ChannelKind kind = ChannelKind::kBytes, std::uint8_t key = 1)
      : schedule_(Schedule(Spec(Protection::kSealed, 1), key)),
        sockets_(kind == ChannelKind::kBytes ? SOCK_STREAM : SOCK_SEQPACKET),
        relay_(1,
               transport::Stream::Create(
                   schedule_, {record::AeadBackend::kOpenssl, 1, sending, Protection::kSealed})
                   .value(),
               listener_),
        kind_(kind) {}

  // Connects the channel; until then nobody takes what arrives.
  void Open() { relay_.SetChannel(std::make_unique<SocketChannel>(std::move(sockets_.b), kind_)); }

  Relay& relay() { return relay_; }
  Listener& listener() { return listener_; }
  // The local program's end: QEMU or the agent.
  base::UniqueFd& local() { return sockets_.a; }

 private:
  keys::KeySchedule schedule_;
  SocketPair sockets_;
  Listener listener_;
  Relay relay_;
  ChannelKind kind_;
};

class RelayTest : public ::testing::Test {
 protected:
  void Make(ChannelKind kind = ChannelKind::kBytes) {
    source_ = std::make_unique<Host>(Direction::kToDestination, kind);
    destination_ = std::make_unique<Host>(Direction::kToSource, kind);
    source_->Open();
    destination_->Open();
    Connect(1);
  }

  // Joins both relays by a new connection, as the movers do after a hello.
  void Connect(std::uint32_t generation) {
    SocketPair connection;
    const std::uint64_t at_source = source_->relay().StopReceiving();
    const std::uint64_t at_destination = destination_->relay().StopReceiving();
    ASSERT_TRUE(
        source_->relay().SetConnection(std::move(connection.a), generation, at_destination).ok());
    ASSERT_TRUE(
        destination_->relay().SetConnection(std::move(connection.b), generation, at_source).ok());
  }

  int SourceEnd() { return source_->local().get(); }
  int DestinationEnd() { return destination_->local().get(); }

  std::unique_ptr<Host> source_;
  std::unique_ptr<Host> destination_;
};

TEST_F(RelayTest, CarriesBytesBothWaysAtOnce) {
  Make();
  const std::string there = Text(5'000'000, 1);
  const std::string back = Text(3'000'000, 2);
  std::thread sender([&] { EXPECT_TRUE(SendAll(SourceEnd(), there)); });
  std::thread back_sender([&] { EXPECT_TRUE(SendAll(DestinationEnd(), back)); });
  std::string came_back;
  std::thread back_receiver([&] { came_back = ReceiveUpTo(SourceEnd(), back.size()); });
  EXPECT_TRUE(ReceiveUpTo(DestinationEnd(), there.size()) == there);
  sender.join();
  back_sender.join();
  back_receiver.join();
  EXPECT_TRUE(came_back == back);
  EXPECT_EQ(source_->relay().payload_bytes(), there.size() + back.size());
  EXPECT_GT(source_->relay().wire_bytes(), source_->relay().payload_bytes());
}

TEST_F(RelayTest, CarriesTheEndOfOneDirectionAlone) {
  Make();
  ASSERT_TRUE(SendAll(SourceEnd(), "last words"));
  shutdown(SourceEnd(), SHUT_WR);
  EXPECT_EQ(ReceiveUpTo(DestinationEnd(), 100), "last words");
  // The way back is still open.
  ASSERT_TRUE(SendAll(DestinationEnd(), "answer"));
  EXPECT_EQ(ReceiveUpTo(SourceEnd(), 6), "answer");
  EXPECT_FALSE(source_->listener().ended());
  shutdown(DestinationEnd(), SHUT_WR);
  EXPECT_EQ(ReceiveUpTo(SourceEnd(), 1), "");
  EXPECT_TRUE(source_->listener().WaitEnded());
  EXPECT_TRUE(destination_->listener().WaitEnded());
}

TEST_F(RelayTest, KeepsMessagesApart) {
  Make(ChannelKind::kMessages);
  for (const char* text : {"ready", "commit"}) ASSERT_TRUE(SendAll(SourceEnd(), text));
  EXPECT_EQ(ReceiveUpTo(DestinationEnd(), 5), "ready");
  EXPECT_EQ(ReceiveUpTo(DestinationEnd(), 6), "commit");
}

TEST_F(RelayTest, ASlowReaderStopsTheWriter) {
  Make();
  const int flags = MSG_NOSIGNAL | MSG_DONTWAIT;
  const std::string piece(100'000, 'x');
  std::size_t taken = 0;
  // Write until nothing moves for a while although the reader has not read a byte.
  pollfd writable{SourceEnd(), POLLOUT, 0};
  while (poll(&writable, 1, 500) == 1) {
    const ssize_t sent = send(SourceEnd(), piece.data(), piece.size(), flags);
    if (sent > 0) taken += static_cast<std::size_t>(sent);
    ASSERT_LT(taken, 64U << 20);
  }
  // Kept for resending, the receive buffer, and what four kernel buffers hold.
  EXPECT_LT(taken, transport::kMaxRetainedRecords * record::kPreferredPayload +
                       transport::kReceiveBufferSize + (4U << 20));
  EXPECT_EQ(ReceiveUpTo(DestinationEnd(), taken).size(), taken);
}

TEST_F(RelayTest, ReconnectsWhileDataFlows) {
  Make();
  const std::string text = Text(20'000'000);
  std::thread sender([&] { EXPECT_TRUE(SendAll(SourceEnd(), text)); });
  std::string received;
  for (std::uint32_t generation = 2; received.size() < text.size(); ++generation) {
    received += ReceiveUpTo(DestinationEnd(),
                            std::min<std::size_t>(1'000'000, text.size() - received.size()));
    Connect(generation);
  }
  sender.join();
  EXPECT_TRUE(received == text);
  EXPECT_EQ(source_->listener().disconnections(), 0) << "replaced, not lost";
}

// The payload that the channel has not taken yet when the connection is replaced is neither lost
// nor in the way of the new connection.
TEST_F(RelayTest, ReconnectsWhileTheReaderIsSlow) {
  Make();
  const std::string text = Text(3'000'000);
  ASSERT_TRUE(SendAll(SourceEnd(), text));
  ASSERT_TRUE(testing::Readable(DestinationEnd()));
  Connect(2);
  EXPECT_TRUE(ReceiveUpTo(DestinationEnd(), text.size()) == text);
}

TEST_F(RelayTest, SaysWhenAConnectionIsLostAndGoesOnWithTheNext) {
  Make();
  SocketPair dying;
  ASSERT_TRUE(source_->relay().SetConnection(std::move(dying.a), 2, 0).ok());
  dying.b.reset();
  EXPECT_TRUE(source_->listener().WaitDisconnected(2));
  ASSERT_TRUE(SendAll(SourceEnd(), "written while there is no connection"));
  Connect(3);
  EXPECT_EQ(ReceiveUpTo(DestinationEnd(), 36), "written while there is no connection");
}

TEST_F(RelayTest, GarbageEndsTheConnectionOnly) {
  Make();
  SocketPair hostile;
  ASSERT_TRUE(destination_->relay().SetConnection(std::move(hostile.a), 2, 0).ok());
  ASSERT_TRUE(SendAll(hostile.b.get(), Text(1000)));
  EXPECT_TRUE(destination_->listener().WaitDisconnected(2));
  Connect(3);
  ASSERT_TRUE(SendAll(SourceEnd(), "fine"));
  EXPECT_EQ(ReceiveUpTo(DestinationEnd(), 4), "fine");
}

TEST_F(RelayTest, RefusesAConnectionWhosePeerClaimsTheImpossible) {
  Make();
  SocketPair connection;
  EXPECT_FALSE(source_->relay().SetConnection(std::move(connection.a), 2, 99).ok());
  EXPECT_EQ(ReceiveUpTo(connection.b.get(), 1), "") << "closed";
  Connect(3);
  ASSERT_TRUE(SendAll(SourceEnd(), "fine"));
  EXPECT_EQ(ReceiveUpTo(DestinationEnd(), 4), "fine");
}

TEST_F(RelayTest, WhatWasReceivedStaysTrueUntilTheNextConnection) {
  Make();
  const std::string text = Text(20'000'000);
  std::thread sender([&] { EXPECT_TRUE(SendAll(SourceEnd(), text)); });
  std::string received = ReceiveUpTo(DestinationEnd(), 1'000'000);
  const std::uint64_t next = destination_->relay().StopReceiving();
  // The source went on sending until it learned.
  EXPECT_TRUE(source_->listener().WaitDisconnected(1));
  EXPECT_EQ(destination_->relay().StopReceiving(), next);
  Connect(2);
  received += ReceiveUpTo(DestinationEnd(), text.size() - received.size());
  sender.join();
  EXPECT_TRUE(received == text);
}

// A relay that has everything but could not say so is needed once more.
TEST_F(RelayTest, HasNotEndedBeforeItsLastAcknowledgementLeft) {
  Make();
  shutdown(DestinationEnd(), SHUT_WR);
  ASSERT_EQ(ReceiveUpTo(SourceEnd(), 1), "");
  shutdown(SourceEnd(), SHUT_WR);
  ASSERT_TRUE(source_->listener().WaitEnded());
  ASSERT_TRUE(destination_->listener().WaitEnded());
}

// The peer hangs up as soon as it has nothing left to say; what is left to say to it still leaves.
TEST_F(RelayTest, HasEndedThoughThePeerHangsUpAfterItsLastWord) {
  const keys::KeySchedule schedule = Schedule(Spec(Protection::kSealed, 1));
  std::array<std::byte, record::kHeaderSize + record::kTagSize> final_record{};
  ASSERT_TRUE(record::Sealer::Create(schedule, record::AeadBackend::kOpenssl, 1,
                                     Direction::kToDestination, Protection::kSealed)
                  .value()
                  .Seal(record::RecordType::kFinal, {}, final_record)
                  .ok());
  std::array<std::byte, record::AcknowledgementSealer::kSize> acknowledgement{};
  ASSERT_TRUE(record::AcknowledgementSealer::Create(schedule, record::AeadBackend::kOpenssl, 1,
                                                    Direction::kToDestination, 1)
                  .value()
                  .Seal(1, acknowledgement)
                  .ok());
  SocketPair connection;
  ASSERT_TRUE(SendAll(connection.a.get(), base::AsText(final_record)));
  ASSERT_TRUE(SendAll(connection.a.get(), base::AsText(acknowledgement)));
  shutdown(connection.a.get(), SHUT_WR);

  destination_ = std::make_unique<Host>(Direction::kToSource);
  shutdown(DestinationEnd(), SHUT_WR);
  destination_->Open();
  ASSERT_TRUE(destination_->relay().SetConnection(std::move(connection.b), 1, 0).ok());
  EXPECT_TRUE(destination_->listener().WaitEnded());
  EXPECT_EQ(destination_->listener().disconnections(), 0U);
}

TEST_F(RelayTest, NothingIsTakenFromTheNetworkBeforeTheChannelIsThere) {
  source_ = std::make_unique<Host>(Direction::kToDestination);
  destination_ = std::make_unique<Host>(Direction::kToSource);
  source_->Open();
  Connect(1);
  ASSERT_TRUE(SendAll(SourceEnd(), "early"));
  destination_->Open();
  EXPECT_EQ(ReceiveUpTo(DestinationEnd(), 5), "early");
}

TEST_F(RelayTest, ALocalProgramThatStopsReadingDoesNotStopTheOtherDirection) {
  Make();
  shutdown(DestinationEnd(), SHUT_RD);
  const std::string text = Text(2'000'000);
  ASSERT_TRUE(SendAll(SourceEnd(), text));
  ASSERT_TRUE(SendAll(DestinationEnd(), "still writing"));
  EXPECT_EQ(ReceiveUpTo(SourceEnd(), 13), "still writing");
}

TEST_F(RelayTest, FailsOnARecordThatHasNoPlaceThere) {
  // Bytes where messages belong: a peer of another mind, whatever the connection.
  source_ = std::make_unique<Host>(Direction::kToDestination, ChannelKind::kBytes);
  destination_ = std::make_unique<Host>(Direction::kToSource, ChannelKind::kMessages);
  source_->Open();
  destination_->Open();
  Connect(1);
  ASSERT_TRUE(SendAll(SourceEnd(), "bytes"));
  EXPECT_TRUE(destination_->listener().WaitFailed());
}

}  // namespace
}  // namespace sealift::mover
