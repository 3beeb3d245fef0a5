// Two ends of one stream under a fixed key, and a network between them that loses, repeats, changes
// and invents bytes and replaces the connection, as the input says. Each end may deliver only what
// the other has sent, in order and once; what one end has let go of, the other has; and once the
// network is good, everything arrives.
//
// The input is a small program: one byte of settings, then operations of one byte and their
// arguments.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "keys/key_schedule.h"
#include "keys/testing.h"
#include "transport/stream.h"

namespace {

using namespace sealift;
using base::Bytes;
using base::ByteSpan;
using record::RecordType;
using transport::Stream;

constexpr std::uint16_t kStream = 1;
constexpr std::size_t kMaxOperations = 400;
constexpr std::uint8_t kPlainSetting = 0x01;

// Operations: the lowest three bits say what, the highest which end.
enum class Operation : std::uint8_t {
  kSend,         // a data record; its size
  kSendSpecial,  // 0 a control record, else the final one
  kWrite,        // puts bytes on the wire; at most how many
  kDeliver,      // hands bytes of the wire over; at most how many
  kFlip,         // a bit on the wire; its place, two bytes
  kReplay,       // bytes that were on the wire before; from where, two bytes, and how many
  kInvent,       // a byte
  kReconnect,    // the next connection
};
constexpr std::uint8_t kOperationBits = 0x07;
constexpr std::uint8_t kEndBit = 0x80;

// Reads the input; past its end there are zeros.
class Input {
 public:
  explicit Input(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  bool empty() const { return bytes_.empty(); }
  std::uint8_t Byte() {
    if (bytes_.empty()) return 0;
    const std::uint8_t byte = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return byte;
  }
  std::size_t Number() {
    const std::size_t high = Byte();
    return high * 256 + Byte();
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

struct SentRecord {
  RecordType type;
  Bytes payload;
};

keys::KeySchedule MakeSchedule() {
  keys::testing::CountingRandom random;
  return keys::KeySchedule::Create(keys::MigrationKey::Generate(random).value(), keys::SpecHash{})
      .value();
}

// One end, and the wire that leads away from it.
class End {
 public:
  End(keys::Direction sending, keys::Protection protection)
      : protection_(protection),
        schedule_(MakeSchedule()),
        stream_(
            Stream::Create(schedule_, {record::AeadBackend::kOpenssl, kStream, sending, protection})
                .value()) {}
  End(const End&) = delete;
  End& operator=(const End&) = delete;

  void Send(RecordType type, std::size_t size) {
    if (!stream_.HasRoom()) return;
    const base::MutableByteSpan payload = stream_.PayloadBuffer().first(size);
    std::ranges::fill(payload, static_cast<std::byte>(sent_.size() + 1));
    sent_.push_back({type, Bytes(payload.begin(), payload.end())});
    SEALIFT_CHECK(stream_.Send(type, size).ok());
  }
  // False: there was nothing to write.
  bool Write(std::size_t limit) {
    const ByteSpan out = stream_.Outgoing();
    const ByteSpan piece = out.first(std::min(limit, out.size()));
    base::Append(wire_, piece);
    base::Append(history_, piece);
    if (!piece.empty()) stream_.Sent(piece.size());
    return !piece.empty();
  }

  // -- What the network does to the wire.

  void Flip(std::size_t bit) {
    if (bit / 8 < wire_.size()) wire_[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
  }
  void Replay(std::size_t from, std::size_t size) {
    const ByteSpan rest = ByteSpan(history_).subspan(std::min(from, history_.size()));
    base::Append(wire_, rest.first(std::min(size, rest.size())));
  }
  void Invent(std::uint8_t byte) { wire_.push_back(std::byte{byte}); }
  Bytes Take(std::size_t limit) {
    const auto end = wire_.begin() + static_cast<std::ptrdiff_t>(std::min(limit, wire_.size()));
    Bytes taken(wire_.begin(), end);
    wire_.erase(wire_.begin(), end);
    return taken;
  }

  // Receives bytes of the other end's wire. False: the connection is to be dropped.
  bool Receive(ByteSpan bytes, const End& from) {
    const base::MutableByteSpan buffer = stream_.ReceiveBuffer();
    SEALIFT_CHECK(buffer.size() >= bytes.size());
    std::ranges::copy(bytes, buffer.begin());
    stream_.Received(bytes.size());
    for (;;) {
      const auto next = stream_.Next();
      if (!next.ok()) return false;
      if (!next->has_value()) return true;
      CheckDelivered(**next, from);
    }
  }

  void Detach() {
    stream_.Detach();
    wire_.clear();
  }
  // False: the other end cannot be at the place where it says it is.
  bool Attach(std::uint32_t generation, const End& other) {
    const bool attached = stream_.Attach(generation, other.stream_.next_expected()).ok();
    SEALIFT_CHECK(attached || plain());
    return attached;
  }
  void CheckHasAll(const End& other) const { SEALIFT_CHECK(delivered_ == other.sent_.size()); }
  void CheckEnds(const End& other) const {
    SEALIFT_CHECK(stream_.next_expected() == delivered_);
    SEALIFT_CHECK(!stream_.send_ended() || other.stream_.receive_ended() || plain());
  }

 private:
  bool plain() const { return protection_ == keys::Protection::kPlain; }
  void CheckDelivered(const transport::Delivery& delivery, const End& from) {
    const std::size_t place = delivered_++;
    // Guest payload in the clear is all that an attacker can invent, and only in plain mode.
    if (delivery.type == RecordType::kData && plain()) return;
    SEALIFT_CHECK(place < from.sent_.size());
    SEALIFT_CHECK(delivery.type == from.sent_[place].type);
    SEALIFT_CHECK(std::ranges::equal(delivery.payload, from.sent_[place].payload));
  }

  const keys::Protection protection_;
  const keys::KeySchedule schedule_;
  Stream stream_;
  std::vector<SentRecord> sent_;
  std::size_t delivered_ = 0;
  Bytes wire_;
  Bytes history_;  // all that was ever written
};

class Network {
 public:
  explicit Network(keys::Protection protection)
      : ends_{End(keys::Direction::kToDestination, protection),
              End(keys::Direction::kToSource, protection)} {
    Reconnect();
  }

  void Apply(Input& input) {
    const std::uint8_t code = input.Byte();
    const std::size_t which = (code & kEndBit) != 0 ? 1 : 0;
    End& end = ends_[which];
    End& other = ends_[1 - which];
    switch (static_cast<Operation>(code & kOperationBits)) {
      case Operation::kSend:
        end.Send(RecordType::kData, input.Byte());
        break;
      case Operation::kSendSpecial:
        SendSpecial(end, input.Byte());
        break;
      case Operation::kWrite:
        end.Write(input.Byte());
        break;
      case Operation::kDeliver:
        Deliver(end, other, input.Byte());
        break;
      case Operation::kFlip:
        end.Flip(input.Number());
        break;
      case Operation::kReplay: {
        const std::size_t from = input.Number();
        end.Replay(from, input.Byte());
        break;
      }
      case Operation::kInvent:
        end.Invent(input.Byte());
        break;
      case Operation::kReconnect:
        Reconnect();
        break;
    }
    end.CheckEnds(other);
    other.CheckEnds(end);
  }

  // What is left to say arrives over a new connection that nobody touches.
  void CheckArrives() {
    Reconnect();
    for (bool moved = true; moved;) {
      moved = ends_[0].Write(SIZE_MAX) || ends_[1].Write(SIZE_MAX);
      Deliver(ends_[0], ends_[1], SIZE_MAX);
      Deliver(ends_[1], ends_[0], SIZE_MAX);
    }
    SEALIFT_CHECK(connected_);
    ends_[0].CheckHasAll(ends_[1]);
    ends_[1].CheckHasAll(ends_[0]);
  }

 private:
  static void SendSpecial(End& end, std::uint8_t kind) {
    if (kind == 0) {
      end.Send(RecordType::kControl, 3);
    } else {
      end.Send(RecordType::kFinal, 0);
    }
  }
  void Deliver(End& from, End& to, std::size_t limit) {
    const Bytes bytes = from.Take(limit);
    if (connected_ && !to.Receive(bytes, from)) Disconnect();
  }
  void Disconnect() {
    connected_ = false;
    for (End& end : ends_) end.Detach();
  }
  void Reconnect() {
    Disconnect();
    ++generation_;
    connected_ = ends_[0].Attach(generation_, ends_[1]) && ends_[1].Attach(generation_, ends_[0]);
    if (!connected_) Disconnect();
  }

  std::array<End, 2> ends_;
  std::uint32_t generation_ = 0;
  bool connected_ = false;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input({data, size});
  const bool plain = (input.Byte() & kPlainSetting) != 0;
  Network network(plain ? keys::Protection::kPlain : keys::Protection::kSealed);
  for (std::size_t i = 0; !input.empty() && i < kMaxOperations; ++i) network.Apply(input);
  // In plain mode an invented record takes the place of one that was sent.
  if (!plain) network.CheckArrives();
  return 0;
}
