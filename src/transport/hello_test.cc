#include "transport/hello.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "keys/testing.h"

namespace sealift::transport {
namespace {

using base::Bytes;
using base::ByteSpan;
using keys::testing::CountingRandom;

// Fails like a kernel without randomness.
class NoRandom final : public keys::RandomSource {
 public:
  absl::Status Fill(base::MutableByteSpan /*bytes*/) override {
    return absl::UnavailableError("no randomness");
  }
};

keys::MigrationSpec Spec() {
  keys::MigrationSpec spec;
  spec.id.fill(std::byte{0x11});
  spec.vm = "web";
  spec.source = "spiffe://sealift/host/a";
  spec.destination = "spiffe://sealift/host/b";
  spec.streams = 3;
  return spec;
}

keys::KeySchedule Schedule(const keys::MigrationSpec& spec, std::uint8_t key = 1) {
  CountingRandom random(key);
  return keys::KeySchedule::Create(keys::MigrationKey::Generate(random).value(),
                                   keys::HashSpec(spec))
      .value();
}

Bytes Copy(ByteSpan bytes) { return {bytes.begin(), bytes.end()}; }

class HelloTest : public testing::Test {
 protected:
  // One side of a hello with random bytes of its own; the connector has received 7 records, the
  // acceptor 42.
  HelloConnector Connector(std::uint8_t random_first = 0x40) {
    CountingRandom random(random_first);
    return HelloConnector::Create(schedule_, random, open_, 7).value();
  }
  HelloAcceptor Acceptor(ByteSpan open) { return HelloAcceptor::Create(schedule_, open).value(); }
  Bytes Reply(HelloAcceptor& acceptor, std::uint8_t random_first = 0x80) {
    CountingRandom random(random_first);
    return acceptor.Reply(random, 42).value();
  }

  // Plays a hello whose open, reply or finish message passes through `change`. Returns whether both
  // sides end up convinced.
  template <typename Change>
  bool Plays(HelloKind changed, const Change& change) {
    const auto pass = [&](HelloKind kind, Bytes message) {
      if (kind == changed) change(message);
      return message;
    };
    HelloConnector connector = Connector();
    auto acceptor =
        HelloAcceptor::Create(schedule_, pass(HelloKind::kOpen, Copy(connector.Open())));
    if (!acceptor.ok()) return false;
    const auto finish = connector.Finish(pass(HelloKind::kReply, Reply(*acceptor)));
    if (!finish.ok()) return false;
    return acceptor->Finish(pass(HelloKind::kFinish, *finish)).ok();
  }

  const keys::MigrationSpec spec_ = Spec();
  const HelloOpen open_{spec_.id, 2, 5};
  const keys::KeySchedule schedule_ = Schedule(spec_);
};

TEST_F(HelloTest, TellsBothSidesWhatTheOtherHasReceived) {
  HelloConnector connector = Connector();
  EXPECT_EQ(connector.Open().size(), kHelloOpenSize);
  HelloAcceptor acceptor = Acceptor(connector.Open());
  const Bytes reply = Reply(acceptor);
  EXPECT_EQ(reply.size(), kHelloReplySize);
  const Bytes finish = connector.Finish(reply).value();
  EXPECT_EQ(finish.size(), kHelloFinishSize);
  ASSERT_TRUE(acceptor.Finish(finish).ok());
  EXPECT_EQ(connector.peer_next_expected(), 42);
  EXPECT_EQ(acceptor.peer_next_expected(), 7);
}

TEST_F(HelloTest, ReadsWhoIsOpening) {
  const HelloConnector connector = Connector();
  const HelloOpen open = ParseHelloOpen(connector.Open()).value();
  EXPECT_EQ(open.id, spec_.id);
  EXPECT_EQ(open.stream, 2);
  EXPECT_EQ(open.generation, 5);
}

TEST_F(HelloTest, PassesWhenNothingIsChanged) {
  EXPECT_TRUE(Plays(HelloKind::kOpen, [](Bytes&) {}));
}

class HelloMessageTest : public HelloTest, public testing::WithParamInterface<HelloKind> {
 protected:
  static std::size_t Size() {
    switch (GetParam()) {
      case HelloKind::kOpen:
        return kHelloOpenSize;
      case HelloKind::kReply:
        return kHelloReplySize;
      default:
        return kHelloFinishSize;
    }
  }
};

TEST_P(HelloMessageTest, RefusesEveryFlippedBit) {
  for (std::size_t bit = 0; bit < 8 * Size(); ++bit) {
    EXPECT_FALSE(Plays(
        GetParam(),
        [bit](Bytes& message) { message[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8)); }))
        << "bit " << bit;
  }
}

TEST_P(HelloMessageTest, RefusesEveryTruncation) {
  for (std::size_t size = 0; size < Size(); ++size) {
    EXPECT_FALSE(Plays(GetParam(), [size](Bytes& message) { message.resize(size); })) << size;
  }
}

TEST_P(HelloMessageTest, RefusesAByteTooMany) {
  EXPECT_FALSE(Plays(GetParam(), [](Bytes& message) { message.push_back(std::byte{0}); }));
}

INSTANTIATE_TEST_SUITE_P(Hello, HelloMessageTest,
                         testing::Values(HelloKind::kOpen, HelloKind::kReply, HelloKind::kFinish));

TEST_F(HelloTest, AReplayedOpenGetsNoFurtherThanTheReply) {
  HelloConnector connector = Connector();
  const Bytes open = Copy(connector.Open());
  HelloAcceptor first = Acceptor(open);
  const Bytes finish = connector.Finish(Reply(first)).value();
  ASSERT_TRUE(first.Finish(finish).ok());
  // The acceptor draws other random bytes, so the old finish proves nothing.
  HelloAcceptor second = Acceptor(open);
  static_cast<void>(Reply(second, 0x90));
  EXPECT_FALSE(second.Finish(finish).ok());
}

TEST_F(HelloTest, RefusesAReplyToAnotherOpen) {
  HelloConnector old = Connector();
  HelloAcceptor acceptor = Acceptor(old.Open());
  const Bytes reply = Reply(acceptor);
  EXPECT_FALSE(Connector(0x41).Finish(reply).ok());
}

TEST_F(HelloTest, RefusesItsOwnMessagesReflected) {
  HelloConnector connector = Connector();
  HelloAcceptor acceptor = Acceptor(connector.Open());
  const Bytes reply = Reply(acceptor);
  EXPECT_FALSE(acceptor.Finish(ByteSpan(reply).first(kHelloFinishSize)).ok());
  EXPECT_FALSE(connector.Finish(connector.Open().first(kHelloReplySize)).ok());
}

TEST_F(HelloTest, RefusesAnotherKey) {
  const HelloConnector connector = Connector();
  EXPECT_FALSE(HelloAcceptor::Create(Schedule(spec_, 2), connector.Open()).ok());
}

TEST_F(HelloTest, RefusesAnotherSpec) {
  keys::MigrationSpec other = spec_;
  other.protection = keys::Protection::kPlain;
  const HelloConnector connector = Connector();
  EXPECT_FALSE(HelloAcceptor::Create(Schedule(other), connector.Open()).ok());
}

TEST_F(HelloTest, RefusesAProofMadeForAnotherStreamGenerationOrMigration) {
  CountingRandom random;
  // `claimed` is what an attacker writes over the fields of an honest opening message.
  const auto accepts = [&](const HelloOpen& claimed) {
    HelloConnector connector = Connector();
    Bytes message = Copy(connector.Open());
    const Bytes other = Copy(HelloConnector::Create(schedule_, random, claimed, 7).value().Open());
    std::copy_n(other.begin(), kHelloPrefixSize + claimed.id.size(), message.begin());
    EXPECT_TRUE(ParseHelloOpen(message).ok());
    return HelloAcceptor::Create(schedule_, message).ok();
  };
  EXPECT_TRUE(accepts(open_));
  EXPECT_FALSE(accepts({open_.id, 3, open_.generation}));
  EXPECT_FALSE(accepts({open_.id, open_.stream, 6}));
  EXPECT_FALSE(accepts({keys::MigrationId{}, open_.stream, open_.generation}));
}

TEST_F(HelloTest, RefusesAFinishOfAnotherGeneration) {
  HelloConnector connector = Connector();
  HelloAcceptor acceptor = Acceptor(connector.Open());
  static_cast<void>(Reply(acceptor));
  CountingRandom random(0x40);
  HelloConnector next =
      HelloConnector::Create(schedule_, random, {open_.id, open_.stream, 6}, 7).value();
  HelloAcceptor next_acceptor = Acceptor(next.Open());
  const Bytes finish = next.Finish(Reply(next_acceptor)).value();
  EXPECT_FALSE(acceptor.Finish(finish).ok());
  EXPECT_TRUE(next_acceptor.Finish(finish).ok());
}

TEST_F(HelloTest, RefusesGenerationZero) {
  CountingRandom random;
  const HelloConnector connector =
      HelloConnector::Create(schedule_, random, {open_.id, open_.stream, 0}, 7).value();
  EXPECT_FALSE(ParseHelloOpen(connector.Open()).ok());
}

TEST_F(HelloTest, AllRefusalsLookAlike) {
  HelloConnector connector = Connector();
  Bytes open = Copy(connector.Open());
  HelloAcceptor acceptor = Acceptor(open);
  Bytes reply = Reply(acceptor);
  open.back() ^= std::byte{1};
  reply.front() ^= std::byte{1};
  const absl::Status bad = ParseHelloOpen({}).status();
  EXPECT_EQ(bad.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(HelloAcceptor::Create(schedule_, open).status(), bad);
  EXPECT_EQ(connector.Finish(reply).status(), bad);
  EXPECT_EQ(acceptor.Finish({}), bad);
}

TEST_F(HelloTest, SaysNothingWithoutRandomness) {
  NoRandom none;
  EXPECT_FALSE(HelloConnector::Create(schedule_, none, open_, 0).ok());
  HelloAcceptor acceptor = Acceptor(Connector().Open());
  EXPECT_FALSE(acceptor.Reply(none, 0).ok());
}

}  // namespace
}  // namespace sealift::transport
