// Plays a hello under a fixed key in which one of the three messages is changed on the way. Each
// side may believe exactly what the other has said.
//
// The input: one byte that names the message and how it is changed, then the change. Either it
// takes the place of the message, or its bytes are combined with the message's by XOR, so that a
// change of one bit of a valid message is one bit of input.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/bytes.h"
#include "base/check.h"
#include "keys/testing.h"
#include "transport/hello.h"

namespace {

using namespace sealift;
using base::Bytes;
using base::ByteSpan;
using transport::HelloAcceptor;
using transport::HelloConnector;
using transport::HelloKind;

constexpr std::uint8_t kMessageBits = 0x03;  // 0: none is changed; else a HelloKind
constexpr std::uint8_t kXorBit = 0x04;

constexpr std::uint64_t kConnectorExpects = 7;
constexpr std::uint64_t kAcceptorExpects = 42;

const transport::HelloOpen& Opening() {
  static const transport::HelloOpen open = [] {
    transport::HelloOpen made{{}, 2, 5};
    made.id.fill(std::byte{0x5a});
    return made;
  }();
  return open;
}

const keys::KeySchedule& Schedule() {
  static const keys::KeySchedule schedule = [] {
    keys::testing::CountingRandom random(1);
    return keys::KeySchedule::Create(keys::MigrationKey::Generate(random).value(), keys::SpecHash{})
        .value();
  }();
  return schedule;
}

// The network: passes what is said on, changed or not.
class Network {
 public:
  Network(std::uint8_t settings, ByteSpan change)
      : changed_(static_cast<HelloKind>(settings & kMessageBits)),
        combine_((settings & kXorBit) != 0),
        change_(change) {}

  Bytes Pass(HelloKind kind, ByteSpan said) const {
    Bytes message(said.begin(), said.end());
    if (kind != changed_) return message;
    if (!combine_) return {change_.begin(), change_.end()};
    message.resize(std::max(message.size(), change_.size()));
    for (std::size_t i = 0; i < change_.size(); ++i) message[i] ^= change_[i];
    return message;
  }

 private:
  HelloKind changed_;
  bool combine_;
  ByteSpan change_;
};

void Play(const Network& network) {
  keys::testing::CountingRandom random(0x40);
  HelloConnector connector =
      HelloConnector::Create(Schedule(), random, Opening(), kConnectorExpects).value();
  const Bytes said_open(connector.Open().begin(), connector.Open().end());
  const Bytes heard_open = network.Pass(HelloKind::kOpen, said_open);
  const auto parsed = transport::ParseHelloOpen(heard_open);
  auto acceptor = HelloAcceptor::Create(Schedule(), heard_open);
  SEALIFT_CHECK(acceptor.ok() == (heard_open == said_open));
  if (!acceptor.ok()) return;
  SEALIFT_CHECK(parsed.ok() && parsed->id == Opening().id);

  const Bytes said_reply = acceptor->Reply(random, kAcceptorExpects).value();
  const Bytes heard_reply = network.Pass(HelloKind::kReply, said_reply);
  const auto said_finish = connector.Finish(heard_reply);
  SEALIFT_CHECK(said_finish.ok() == (heard_reply == said_reply));
  if (!said_finish.ok()) return;
  SEALIFT_CHECK(connector.peer_next_expected() == kAcceptorExpects);

  const Bytes heard_finish = network.Pass(HelloKind::kFinish, *said_finish);
  const bool accepted = acceptor->Finish(heard_finish).ok();
  SEALIFT_CHECK(accepted == (heard_finish == *said_finish));
  SEALIFT_CHECK(!accepted || acceptor->peer_next_expected() == kConnectorExpects);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  Play(Network(data[0], std::as_bytes(std::span(data + 1, size - 1))));
  return 0;
}
