#include "transport/stream.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "keys/testing.h"

namespace sealift::transport {
namespace {

using base::Bytes;
using base::ByteSpan;
using keys::Direction;
using keys::Protection;
using record::RecordType;
using testing::ElementsAre;
using testing::SizeIs;

constexpr std::uint16_t kStream = 3;
constexpr std::size_t kAcknowledgementBytes = record::AcknowledgementSealer::kSize;

keys::KeySchedule Schedule(std::uint8_t key = 1) {
  keys::testing::CountingRandom random(key);
  return keys::KeySchedule::Create(keys::MigrationKey::Generate(random).value(), keys::SpecHash{})
      .value();
}

// One end of a stream, and what arrived there.
class End {
 public:
  explicit End(Direction sending, Protection protection = Protection::kSealed, std::uint8_t key = 1)
      : End({record::AeadBackend::kOpenssl, kStream, sending, protection}, key) {}
  explicit End(const StreamOptions& options, std::uint8_t key = 1)
      : schedule_(std::make_unique<keys::KeySchedule>(Schedule(key))),
        stream_(Stream::Create(*schedule_, options).value()) {}

  void Send(std::string_view text, RecordType type = RecordType::kData) {
    std::ranges::copy(base::AsBytes(text), stream_.PayloadBuffer().begin());
    ASSERT_TRUE(stream_.Send(type, text.size()).ok());
  }
  void SendFinal() { Send("", RecordType::kFinal); }

  // Takes at most `limit` bytes for the socket.
  Bytes Take(std::size_t limit) {
    Bytes taken;
    for (ByteSpan out = stream_.Outgoing(); !out.empty() && taken.size() < limit;
         out = stream_.Outgoing()) {
      const ByteSpan piece = out.first(std::min(out.size(), limit - taken.size()));
      base::Append(taken, piece);
      stream_.Sent(piece.size());
    }
    return taken;
  }
  Bytes TakeAll() { return Take(SIZE_MAX); }

  // Puts bytes of the socket in and keeps what they deliver.
  absl::Status Put(ByteSpan bytes) {
    while (!bytes.empty()) {
      const base::MutableByteSpan buffer = stream_.ReceiveBuffer();
      EXPECT_FALSE(buffer.empty());
      const ByteSpan piece = bytes.first(std::min(bytes.size(), buffer.size()));
      std::ranges::copy(piece, buffer.begin());
      stream_.Received(piece.size());
      bytes = bytes.subspan(piece.size());
      if (absl::Status status = Drain(); !status.ok()) return status;
    }
    return absl::OkStatus();
  }

  Stream& stream() { return stream_; }
  const std::vector<std::string>& arrived() const { return arrived_; }
  std::string Text() const {
    std::string text;
    for (const std::string& piece : arrived_) text += piece;
    return text;
  }

 private:
  absl::Status Drain() {
    for (;;) {
      auto next = stream_.Next();
      if (!next.ok()) return next.status();
      if (!next->has_value()) return absl::OkStatus();
      arrived_.emplace_back(base::AsText((*next)->payload));
    }
  }

  std::unique_ptr<keys::KeySchedule> schedule_;  // the stream knows where it lives
  Stream stream_;
  std::vector<std::string> arrived_;
};

class StreamTest : public testing::Test {
 protected:
  // Connects both ends anew, each saying what it has received.
  void Connect(std::uint32_t generation) {
    ASSERT_TRUE(source_.stream().Attach(generation, destination_.stream().next_expected()).ok());
    ASSERT_TRUE(destination_.stream().Attach(generation, source_.stream().next_expected()).ok());
  }

  // Moves everything that is ready, `chunk` bytes at a time, until nothing moves any more.
  void Settle(std::size_t chunk = SIZE_MAX) {
    for (bool moved = true; moved;) {
      const Bytes there = source_.Take(chunk);
      ASSERT_TRUE(destination_.Put(there).ok());
      const Bytes back = destination_.Take(chunk);
      ASSERT_TRUE(source_.Put(back).ok());
      moved = !there.empty() || !back.empty();
    }
  }

  End source_{Direction::kToDestination};
  End destination_{Direction::kToSource};
};

TEST_F(StreamTest, CarriesBothDirectionsInOrderWhateverTheChunks) {
  for (std::size_t chunk = 1; chunk < 200; chunk += 3) {
    SCOPED_TRACE(chunk);
    source_ = End(Direction::kToDestination);
    destination_ = End(Direction::kToSource);
    Connect(1);
    for (const char* text : {"one", "two", "three"}) source_.Send(text);
    destination_.Send("back");
    Settle(chunk);
    EXPECT_THAT(destination_.arrived(), ElementsAre("one", "two", "three"));
    EXPECT_THAT(source_.arrived(), ElementsAre("back"));
  }
}

TEST_F(StreamTest, CarriesMegabytesOfFullRecords) {
  Connect(1);
  std::string sent;
  for (int i = 0; i < 100; ++i) {
    const std::string text(record::kPreferredPayload, static_cast<char>('a' + i % 26));
    ASSERT_TRUE(source_.stream().HasRoom());
    source_.Send(text);
    sent += text;
    Settle(100'003);
  }
  EXPECT_EQ(destination_.Text(), sent);
}

TEST_F(StreamTest, SendsFromWhereThePayloadLies) {
  constexpr std::size_t kSize = std::size_t{128} * 1024;
  StreamOptions options{record::AeadBackend::kOpenssl, kStream, Direction::kToDestination,
                        Protection::kSealed};
  options.payload_size = kSize;
  source_ = End(options);
  Connect(1);
  const std::string text(kSize, 'x');
  ASSERT_TRUE(source_.stream().SendFrom(RecordType::kData, base::AsBytes(text)).ok());
  source_.Send("and from the buffer");
  Settle();
  EXPECT_THAT(destination_.arrived(), ElementsAre(text, "and from the buffer"));
  EXPECT_EQ(source_.stream().payload_bytes(), kSize + 19);
  EXPECT_EQ(destination_.stream().payload_bytes(), kSize + 19);
}

TEST_F(StreamTest, TakesTheLargestRecordsOfAPeer) {
  Connect(1);
  const keys::KeySchedule schedule = Schedule();
  auto sealer = record::Sealer::Create(schedule, record::AeadBackend::kOpenssl, kStream,
                                       Direction::kToDestination, Protection::kSealed)
                    .value();
  Bytes payload(record::kMaxPayload, std::byte{'x'});
  Bytes out(record::kHeaderSize + payload.size() + record::kTagSize);
  for (int i = 0; i < 9; ++i) {
    ASSERT_TRUE(sealer.Seal(RecordType::kData, payload, out).ok());
    ASSERT_TRUE(destination_.Put(out).ok());
  }
  EXPECT_THAT(destination_.arrived(), SizeIs(9));
}

TEST_F(StreamTest, SaysNothingWithoutAConnection) {
  source_.Send("early");
  EXPECT_THAT(source_.TakeAll(), SizeIs(0));
  EXPECT_FALSE(source_.stream().Next().value().has_value());
  Connect(1);
  Settle();
  EXPECT_THAT(destination_.arrived(), ElementsAre("early"));
}

TEST_F(StreamTest, SendsPlainPayloadOnlyWhenAskedTo) {
  source_ = End(Direction::kToDestination, Protection::kPlain);
  destination_ = End(Direction::kToSource, Protection::kPlain);
  Connect(1);
  source_.Send("canary");
  source_.Send("sealed", RecordType::kControl);
  const Bytes wire = source_.TakeAll();
  EXPECT_THAT(std::string(base::AsText(wire)), testing::HasSubstr("canary"));
  EXPECT_THAT(std::string(base::AsText(wire)), testing::Not(testing::HasSubstr("sealed")));
  ASSERT_TRUE(destination_.Put(wire).ok());
  EXPECT_THAT(destination_.arrived(), ElementsAre("canary", "sealed"));
}

TEST_F(StreamTest, RefusesPlainPayloadOnASealedStream) {
  source_ = End(Direction::kToDestination, Protection::kPlain);
  Connect(1);
  source_.Send("canary");
  EXPECT_FALSE(destination_.Put(source_.TakeAll()).ok());
  EXPECT_THAT(destination_.arrived(), SizeIs(0));
}

// -- Retention and acknowledgements

TEST_F(StreamTest, HasRoomForABoundedNumberOfRecordsHoweverSmall) {
  Connect(1);
  std::size_t sent = 0;
  for (; source_.stream().HasRoom(); ++sent) source_.Send("x");
  EXPECT_EQ(sent, kMaxRetainedRecords);
  // Written to the socket is not received.
  const Bytes wire = source_.TakeAll();
  EXPECT_FALSE(source_.stream().HasRoom());
  ASSERT_TRUE(destination_.Put(wire).ok());
  ASSERT_TRUE(source_.Put(destination_.TakeAll()).ok());
  EXPECT_TRUE(source_.stream().HasRoom());
}

// However small the records are, a sender at its limit gets an acknowledgement.
TEST_F(StreamTest, NeverWaitsForEverWithSmallRecords) {
  Connect(1);
  for (std::size_t i = 0; i < 20 * kMaxRetainedRecords; ++i) {
    if (!source_.stream().HasRoom()) Settle();
    ASSERT_TRUE(source_.stream().HasRoom()) << i;
    source_.Send("x");
  }
  Settle();
  EXPECT_THAT(destination_.arrived(), SizeIs(20 * kMaxRetainedRecords));
}

TEST_F(StreamTest, AcknowledgesEveryEighthDataRecord) {
  Connect(1);
  for (std::size_t i = 1; i <= kAcknowledgeEvery; ++i) {
    EXPECT_THAT(destination_.TakeAll(), SizeIs(0));
    source_.Send("x");
    ASSERT_TRUE(destination_.Put(source_.TakeAll()).ok());
  }
  EXPECT_THAT(destination_.TakeAll(), SizeIs(kAcknowledgementBytes));
}

TEST_F(StreamTest, AcknowledgesControlAndFinalAtOnce) {
  Connect(1);
  source_.Send("ready", RecordType::kControl);
  ASSERT_TRUE(destination_.Put(source_.TakeAll()).ok());
  EXPECT_THAT(destination_.TakeAll(), SizeIs(kAcknowledgementBytes));
  source_.SendFinal();
  ASSERT_TRUE(destination_.Put(source_.TakeAll()).ok());
  EXPECT_THAT(destination_.TakeAll(), SizeIs(kAcknowledgementBytes));
}

TEST_F(StreamTest, OneWaitingAcknowledgementCoversAllRecordsSoFar) {
  Connect(1);
  for (int i = 0; i < 3; ++i) source_.Send("ready", RecordType::kControl);
  ASSERT_TRUE(destination_.Put(source_.TakeAll()).ok());
  EXPECT_THAT(destination_.TakeAll(), SizeIs(kAcknowledgementBytes));
}

TEST_F(StreamTest, FinishesTheRecordItBeganBeforeAnAcknowledgement) {
  Connect(1);
  source_.Send("ready", RecordType::kControl);
  destination_.Send("begun");
  const Bytes begun = destination_.Take(5);
  ASSERT_TRUE(destination_.Put(source_.TakeAll()).ok());
  const Bytes rest = destination_.TakeAll();
  ASSERT_TRUE(source_.Put(begun).ok());
  ASSERT_TRUE(source_.Put(rest).ok());
  EXPECT_THAT(source_.arrived(), ElementsAre("begun"));
}

TEST_F(StreamTest, FinishesTheAcknowledgementItBeganBeforeARecord) {
  Connect(1);
  source_.Send("ready", RecordType::kControl);
  ASSERT_TRUE(destination_.Put(source_.TakeAll()).ok());
  const Bytes begun = destination_.Take(5);
  destination_.Send("after");
  source_.Send("again", RecordType::kControl);
  ASSERT_TRUE(destination_.Put(source_.TakeAll()).ok());
  const Bytes rest = destination_.TakeAll();
  ASSERT_TRUE(source_.Put(begun).ok());
  ASSERT_TRUE(source_.Put(rest).ok());
  EXPECT_THAT(source_.arrived(), ElementsAre("after"));
}

// -- Ends

TEST_F(StreamTest, HasEndedWhenBothFinalsAreAcknowledged) {
  Connect(1);
  source_.Send("bye");
  source_.SendFinal();
  EXPECT_FALSE(source_.stream().HasRoom());
  EXPECT_FALSE(source_.stream().send_ended());
  Settle();
  EXPECT_TRUE(source_.stream().send_ended());
  EXPECT_TRUE(destination_.stream().receive_ended());
  // The other direction goes on.
  EXPECT_FALSE(destination_.stream().send_ended());
  EXPECT_FALSE(source_.stream().receive_ended());
  destination_.Send("still here");
  destination_.SendFinal();
  Settle();
  EXPECT_THAT(source_.arrived(), ElementsAre("still here", ""));
  EXPECT_TRUE(destination_.stream().send_ended());
  EXPECT_TRUE(source_.stream().receive_ended());
}

TEST_F(StreamTest, RefusesToSendAfterFinal) {
  Connect(1);
  source_.SendFinal();
  EXPECT_FALSE(source_.stream().Send(RecordType::kData, 1).ok());
}

// -- Reconnecting

// A connection is lost at every byte of a short exchange, in both directions; the next one
// completes it.
TEST_F(StreamTest, DeliversOnceWhereverTheConnectionIsLost) {
  bool complete = false;
  for (std::size_t cut = 0; !complete; ++cut) {
    SCOPED_TRACE(cut);
    source_ = End(Direction::kToDestination);
    destination_ = End(Direction::kToSource);
    for (int i = 0; i < 10; ++i) source_.Send(std::to_string(i));
    source_.Send("control", RecordType::kControl);
    source_.SendFinal();
    destination_.Send("pong");
    destination_.SendFinal();
    Connect(1);
    std::size_t left = cut;
    for (bool moved = true; moved;) {
      const Bytes there = source_.Take(std::min<std::size_t>(left, 7));
      left -= there.size();
      ASSERT_TRUE(destination_.Put(there).ok());
      const Bytes back = destination_.Take(std::min<std::size_t>(left, 11));
      left -= back.size();
      ASSERT_TRUE(source_.Put(back).ok());
      moved = !there.empty() || !back.empty();
    }
    complete = left > 0;
    // What the socket took on its way is lost.
    static_cast<void>(source_.Take(13));
    static_cast<void>(destination_.Take(13));
    source_.stream().Detach();
    destination_.stream().Detach();
    Connect(2);
    Settle();
    EXPECT_THAT(destination_.arrived(),
                ElementsAre("0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "control", ""));
    EXPECT_THAT(source_.arrived(), ElementsAre("pong", ""));
    EXPECT_TRUE(source_.stream().send_ended() && source_.stream().receive_ended());
    EXPECT_TRUE(destination_.stream().send_ended() && destination_.stream().receive_ended());
  }
}

// Every fourth record has a new sub-key, and a connection is lost at every byte: before, at and
// after each change, with records of up to four sub-keys waiting to be sent again.
class RekeyTest : public StreamTest, public testing::WithParamInterface<record::AeadBackend> {
 protected:
  void Begin() {
    const auto options = [](Direction sending) {
      return StreamOptions{GetParam(), kStream, sending, Protection::kSealed, {.rekey_shift = 2}};
    };
    source_ = End(options(Direction::kToDestination));
    destination_ = End(options(Direction::kToSource));
  }
};

TEST_P(RekeyTest, CrossesSubKeysWhereverTheConnectionIsLost) {
  if (!record::SelfTest(GetParam()).ok()) GTEST_SKIP() << "not on this CPU";
  std::vector<std::string> all;
  for (int i = 0; i < 15; ++i) all.push_back(std::to_string(i));
  bool complete = false;
  for (std::size_t cut = 0; !complete; cut += 5) {
    SCOPED_TRACE(cut);
    Begin();
    for (const std::string& text : all) source_.Send(text);
    source_.SendFinal();
    for (const std::string& text : all) destination_.Send(text);
    Connect(1);
    const Bytes there = source_.Take(cut);
    complete = there.size() < cut;
    ASSERT_TRUE(destination_.Put(there).ok());
    ASSERT_TRUE(source_.Put(destination_.Take(cut)).ok());
    Connect(2);
    Settle();
    EXPECT_EQ(source_.arrived(), all);
    std::vector<std::string> arrived = destination_.arrived();
    EXPECT_EQ(arrived.back(), "");
    arrived.pop_back();
    EXPECT_EQ(arrived, all);
  }
}

TEST_P(RekeyTest, GoesOnForManySubKeysAndConnections) {
  if (!record::SelfTest(GetParam()).ok()) GTEST_SKIP() << "not on this CPU";
  Begin();
  std::string sent;
  for (std::uint32_t generation = 1; generation <= 40; ++generation) {
    Connect(generation);
    for (int i = 0; i < 7; ++i) {
      source_.Send(std::to_string(generation * 10 + static_cast<std::uint32_t>(i)));
      sent += std::to_string(generation * 10 + static_cast<std::uint32_t>(i));
    }
    // The connection is lost in the middle of what was sent.
    ASSERT_TRUE(destination_.Put(source_.Take(150 + generation * 37 % 300)).ok());
  }
  Connect(41);
  Settle();
  EXPECT_EQ(destination_.Text(), sent);
  EXPECT_EQ(destination_.stream().next_expected(), 280U) << "70 sub-keys";
}

// One end with each backend: they agree on every sub-key.
TEST_F(StreamTest, BackendsCrossSubKeysTogether) {
  if (!record::SelfTest(record::AeadBackend::kIpsecMb).ok()) GTEST_SKIP() << "not on this CPU";
  source_ = End({record::AeadBackend::kIpsecMb,
                 kStream,
                 Direction::kToDestination,
                 Protection::kSealed,
                 {.rekey_shift = 1}});
  destination_ = End({record::AeadBackend::kOpenssl,
                      kStream,
                      Direction::kToSource,
                      Protection::kSealed,
                      {.rekey_shift = 1}});
  Connect(1);
  for (int i = 0; i < 20; ++i) {
    source_.Send("there");
    destination_.Send("back");
    Settle();
  }
  EXPECT_EQ(destination_.arrived(), std::vector<std::string>(20, "there"));
  EXPECT_EQ(source_.arrived(), std::vector<std::string>(20, "back"));
}

INSTANTIATE_TEST_SUITE_P(Backends, RekeyTest,
                         testing::Values(record::AeadBackend::kIpsecMb,
                                         record::AeadBackend::kOpenssl),
                         [](const auto& backend) {
                           return backend.param == record::AeadBackend::kIpsecMb ? "IpsecMb"
                                                                                 : "Openssl";
                         });

TEST_F(StreamTest, ResendsByteForByte) {
  Connect(1);
  for (const char* text : {"one", "two", "three"}) source_.Send(text);
  const Bytes first = source_.TakeAll();
  Connect(2);
  EXPECT_EQ(source_.TakeAll(), first);
}

TEST_F(StreamTest, ResendsOnlyWhatThePeerLacks) {
  Connect(1);
  source_.Send("one");
  ASSERT_TRUE(destination_.Put(source_.TakeAll()).ok());
  source_.Send("two");
  const Bytes lost = source_.TakeAll();
  Connect(2);
  EXPECT_EQ(source_.TakeAll(), lost);
}

TEST_F(StreamTest, APayloadOutlivesItsConnection) {
  Connect(1);
  source_.Send("payload");
  source_.Send("next");
  const Bytes wire = source_.TakeAll();
  std::ranges::copy(wire, destination_.stream().ReceiveBuffer().begin());
  destination_.stream().Received(wire.size());
  const Delivery delivery = destination_.stream().Next().value().value();
  Connect(2);
  EXPECT_EQ(base::AsText(delivery.payload), "payload");
  Settle();
  EXPECT_THAT(destination_.arrived(), ElementsAre("next"));
}

TEST_F(StreamTest, OpensWhereThePayloadIsWanted) {
  Connect(1);
  source_.Send("payload");
  const Bytes wire = source_.TakeAll();
  std::ranges::copy(wire, destination_.stream().ReceiveBuffer().begin());
  destination_.stream().Received(wire.size());
  Bytes wanted(7);
  const Delivery delivery = destination_.stream().Next(wanted).value().value();
  EXPECT_EQ(delivery.payload.data(), wanted.data());
  EXPECT_EQ(base::AsText(wanted), "payload");
}

TEST_F(StreamTest, ForgetsHalfARecordOfTheOldConnection) {
  Connect(1);
  source_.Send("one");
  ASSERT_TRUE(destination_.Put(source_.Take(25)).ok());
  Connect(2);
  Settle();
  EXPECT_THAT(destination_.arrived(), ElementsAre("one"));
}

TEST_F(StreamTest, RefusesAnAcknowledgementOfTheOldConnection) {
  Connect(1);
  source_.Send("ready", RecordType::kControl);
  ASSERT_TRUE(destination_.Put(source_.TakeAll()).ok());
  const Bytes old = destination_.TakeAll();
  Connect(2);
  EXPECT_FALSE(source_.Put(old).ok());
}

TEST_F(StreamTest, RefusesAGenerationTwice) {
  Connect(1);
  EXPECT_FALSE(source_.stream().Attach(1, 0).ok());
}

TEST_F(StreamTest, RefusesAnImpossibleNextExpected) {
  Connect(1);
  source_.Send("one", RecordType::kControl);
  source_.Send("two", RecordType::kControl);
  ASSERT_TRUE(destination_.Put(source_.TakeAll()).ok());
  EXPECT_FALSE(source_.stream().Attach(2, 3).ok()) << "never sent";
  ASSERT_TRUE(source_.Put(destination_.TakeAll()).ok());
  EXPECT_FALSE(source_.stream().Attach(3, 1).ok()) << "taken back";
  // Nothing has changed: the old connection goes on.
  source_.Send("three");
  Settle();
  EXPECT_THAT(destination_.arrived(), ElementsAre("one", "two", "three"));
}

TEST_F(StreamTest, RefusesTheAcknowledgementOfWhatWasNotSent) {
  Connect(1);
  source_.Send("one");
  source_.Send("two");
  const Bytes first = source_.Take(record::kHeaderSize + 3 + record::kTagSize);
  // A peer with the right keys that lies about what it has.
  const keys::KeySchedule schedule = Schedule();
  auto liar = record::AcknowledgementSealer::Create(schedule, record::AeadBackend::kOpenssl,
                                                    kStream, Direction::kToSource, 1)
                  .value();
  Bytes lie(kAcknowledgementBytes);
  ASSERT_TRUE(liar.Seal(1, lie).ok());
  EXPECT_TRUE(source_.Put(lie).ok());
  ASSERT_TRUE(liar.Seal(2, lie).ok());
  EXPECT_FALSE(source_.Put(lie).ok());
}

TEST_F(StreamTest, RefusesAnAcknowledgementBelowThatOfTheHello) {
  source_.Send("one");
  source_.Send("two");
  ASSERT_TRUE(source_.stream().Attach(1, 2).ok());
  const keys::KeySchedule schedule = Schedule();
  auto liar = record::AcknowledgementSealer::Create(schedule, record::AeadBackend::kOpenssl,
                                                    kStream, Direction::kToSource, 1)
                  .value();
  Bytes lie(kAcknowledgementBytes);
  ASSERT_TRUE(liar.Seal(1, lie).ok());
  EXPECT_FALSE(source_.Put(lie).ok());
}

TEST_F(StreamTest, ARejectedRecordKillsOnlyTheConnection) {
  Connect(1);
  source_.Send("one");
  Bytes wire = source_.TakeAll();
  wire.back() ^= std::byte{1};
  EXPECT_EQ(destination_.Put(wire).code(), absl::StatusCode::kPermissionDenied);
  // Sticky: the right bytes come too late for this connection.
  wire.back() ^= std::byte{1};
  EXPECT_FALSE(destination_.Put(wire).ok());
  EXPECT_THAT(destination_.arrived(), SizeIs(0));
  Connect(2);
  Settle();
  EXPECT_THAT(destination_.arrived(), ElementsAre("one"));
}

TEST_F(StreamTest, RefusesAReplayOnTheSameConnection) {
  Connect(1);
  source_.Send("one");
  const Bytes wire = source_.TakeAll();
  ASSERT_TRUE(destination_.Put(wire).ok());
  EXPECT_FALSE(destination_.Put(wire).ok());
  EXPECT_THAT(destination_.arrived(), ElementsAre("one"));
}

TEST_F(StreamTest, RefusesAPeerWithAnotherKey) {
  source_ = End(Direction::kToDestination, Protection::kSealed, 2);
  Connect(1);
  source_.Send("one");
  EXPECT_FALSE(destination_.Put(source_.TakeAll()).ok());
}

TEST_F(StreamTest, TreatsBytesAfterTheFinalAsAnAttack) {
  Connect(1);
  source_.SendFinal();
  Settle();
  EXPECT_FALSE(destination_.Put(base::AsBytes("xx")).ok());
}

}  // namespace
}  // namespace sealift::transport
