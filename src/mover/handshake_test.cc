#include "mover/handshake.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <vector>

#include "mover/testing.h"

namespace sealift::mover {
namespace {

using base::Bytes;
using testing::Schedule;
using testing::SocketPair;
using testing::Spec;
using transport::HelloOpen;

class FakeAdmission final : public Admission {
 public:
  absl::Status Admit(const HelloOpen& open) const override {
    return open.generation > generation_ ? absl::OkStatus() : absl::PermissionDeniedError("old");
  }
  std::uint64_t StopReceiving(std::uint16_t stream) override {
    stopped_.push_back(stream);
    return 42;
  }

  std::uint32_t generation_ = 4;  // last joined
  std::vector<std::uint16_t> stopped_;
};

class HandshakeTest : public ::testing::Test {
 protected:
  HandshakeTest() { Start(5); }

  // Begins a hello of a stream's connection `generation` on a new pair of sockets.
  void Start(std::uint32_t generation) {
    SocketPair sockets;
    const HelloOpen open{spec_.id, 2, generation};
    auto hello = transport::HelloConnector::Create(schedule_, random_, open, 7).value();
    connector_ = Handshake::Connect(std::move(sockets.a), std::move(hello), open).value();
    acceptor_ = Handshake::Accept(std::move(sockets.b));
  }

  absl::StatusOr<bool> Advance(std::optional<Handshake>& side) {
    return side->Advance(schedule_, random_, admission_);
  }

  const keys::MigrationSpec spec_ = Spec(keys::Protection::kSealed, 2);
  const keys::KeySchedule schedule_ = Schedule(spec_);
  keys::testing::CountingRandom random_;
  FakeAdmission admission_;
  std::optional<Handshake> connector_;
  std::optional<Handshake> acceptor_;
};

TEST_F(HandshakeTest, CompletesInThreeMessages) {
  EXPECT_TRUE(connector_->connecting());
  EXPECT_FALSE(acceptor_->connecting());
  EXPECT_FALSE(Advance(connector_).value()) << "nothing has come";
  EXPECT_FALSE(Advance(acceptor_).value()) << "replied, not convinced";
  EXPECT_TRUE(Advance(connector_).value());
  EXPECT_TRUE(Advance(acceptor_).value());
  EXPECT_EQ(connector_->peer_next_expected(), 42);
  EXPECT_EQ(acceptor_->peer_next_expected(), 7);
  EXPECT_EQ(acceptor_->open().stream, 2);
  EXPECT_EQ(acceptor_->open().generation, 5);
  EXPECT_THAT(admission_.stopped_, ::testing::ElementsAre(2));
}

TEST_F(HandshakeTest, LeavesWhatFollowsToTheStream) {
  ASSERT_FALSE(Advance(acceptor_).value());
  ASSERT_TRUE(Advance(connector_).value());
  const base::UniqueFd ours = connector_->TakeConnection();
  ASSERT_TRUE(testing::SendAll(ours.get(), "record"));
  ASSERT_TRUE(Advance(acceptor_).value());
  const base::UniqueFd theirs = acceptor_->TakeConnection();
  EXPECT_EQ(testing::ReceiveUpTo(theirs.get(), 6), "record");
}

TEST_F(HandshakeTest, TakesAMessageByteByByte) {
  SocketPair sockets;
  acceptor_ = Handshake::Accept(std::move(sockets.b));
  auto hello = transport::HelloConnector::Create(schedule_, random_, {spec_.id, 2, 5}, 7).value();
  const Bytes open(hello.Open().begin(), hello.Open().end());
  for (const std::byte byte : open) {
    EXPECT_FALSE(testing::Readable(sockets.a.get(), std::chrono::milliseconds(0)));
    ASSERT_EQ(send(sockets.a.get(), &byte, 1, 0), 1);
    ASSERT_FALSE(Advance(acceptor_).value());
  }
  EXPECT_EQ(testing::ReceiveUpTo(sockets.a.get(), transport::kHelloReplySize).size(),
            transport::kHelloReplySize);
}

TEST_F(HandshakeTest, GarbageGetsNoAnswerAndStopsNoStream) {
  SocketPair sockets;
  acceptor_ = Handshake::Accept(std::move(sockets.b));
  ASSERT_TRUE(testing::SendAll(sockets.a.get(), std::string(transport::kHelloOpenSize, 'x')));
  EXPECT_FALSE(Advance(acceptor_).ok());
  EXPECT_FALSE(testing::Readable(sockets.a.get(), std::chrono::milliseconds(0)));
  EXPECT_THAT(admission_.stopped_, ::testing::IsEmpty());
}

TEST_F(HandshakeTest, AWrongProofStopsNoStream) {
  SocketPair sockets;
  acceptor_ = Handshake::Accept(std::move(sockets.b));
  const keys::KeySchedule wrong = Schedule(spec_, 2);
  auto hello = transport::HelloConnector::Create(wrong, random_, {spec_.id, 2, 5}, 7).value();
  ASSERT_TRUE(testing::SendAll(sockets.a.get(), base::AsText(hello.Open())));
  EXPECT_FALSE(Advance(acceptor_).ok());
  EXPECT_FALSE(testing::Readable(sockets.a.get(), std::chrono::milliseconds(0)));
  EXPECT_THAT(admission_.stopped_, ::testing::IsEmpty());
}

TEST_F(HandshakeTest, RefusesAnOldGeneration) {
  Start(4);
  EXPECT_FALSE(Advance(acceptor_).ok());
  EXPECT_THAT(admission_.stopped_, ::testing::IsEmpty());
}

TEST_F(HandshakeTest, RefusesAGenerationThatWasJoinedMeanwhile) {
  ASSERT_FALSE(Advance(acceptor_).value());
  ASSERT_TRUE(Advance(connector_).value());
  admission_.generation_ = 5;
  EXPECT_FALSE(Advance(acceptor_).ok());
}

TEST_F(HandshakeTest, EndsWithItsConnection) {
  static_cast<void>(acceptor_->TakeConnection());
  EXPECT_EQ(Advance(connector_).status().code(), absl::StatusCode::kUnavailable);
  Start(6);
  static_cast<void>(connector_->TakeConnection());
  ASSERT_FALSE(Advance(acceptor_).ok()) << "the opening message came, the reply has no reader";
}

TEST_F(HandshakeTest, CannotBeginOnADeadConnection) {
  SocketPair sockets;
  sockets.b.reset();
  auto hello = transport::HelloConnector::Create(schedule_, random_, {spec_.id, 2, 5}, 7).value();
  EXPECT_FALSE(Handshake::Connect(std::move(sockets.a), std::move(hello), {spec_.id, 2, 5}).ok());
}

}  // namespace
}  // namespace sealift::mover
