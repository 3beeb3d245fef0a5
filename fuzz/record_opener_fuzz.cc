// Fuzzes RecordOpener and AcknowledgementOpener with valid records, damaged and rearranged as the
// input says.
//
// The input is a small program: two bytes of settings, then operations that seal records under a
// fixed key and edit the bytes on the wire. Whatever the wire looks like, the openers may only
// deliver what was sealed, at the place where it was sealed.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/check.h"
#include "keys/key_schedule.h"
#include "keys/testing.h"
#include "record/opener.h"
#include "record/sealer.h"

namespace {

using namespace sealift;
using record::Opened;
using record::RecordType;
using record::Verdict;

constexpr std::uint16_t kStream = 1;
constexpr std::uint32_t kGeneration = 1;
constexpr auto kDirection = keys::Direction::kToDestination;
constexpr std::size_t kMaxWire = 1 << 16;

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
  std::size_t Number() { return Byte() * 256U + Byte(); }

 private:
  std::span<const std::uint8_t> bytes_;
};

struct SealedRecord {
  RecordType type;
  base::Bytes payload;
};

record::AeadBackend BackendFor(std::uint8_t settings) {
  const bool fast = (settings & 2) != 0 && record::SelfTest(record::AeadBackend::kIpsecMb).ok();
  return fast ? record::AeadBackend::kIpsecMb : record::AeadBackend::kOpenssl;
}

keys::KeySchedule MakeSchedule() {
  keys::testing::CountingRandom random;
  return keys::KeySchedule::Create(keys::MigrationKey::Generate(random).value(), keys::SpecHash{})
      .value();
}

// The sending side, and what an attacker makes of its bytes.
class Wire {
 public:
  Wire(const keys::KeySchedule& schedule, record::AeadBackend backend, keys::Protection protection)
      : sealer_(record::Sealer::Create(schedule, backend, kStream, kDirection, protection,
                                       {.first = 0, .rekey_shift = 2})
                    .value()),
        acknowledger_(record::AcknowledgementSealer::Create(schedule, backend, kStream, kDirection,
                                                            kGeneration)
                          .value()) {}

  void Apply(Input& input) {
    const std::uint8_t operation = input.Byte();
    const bool send = (operation & 0x80) == 0;
    switch (operation & 7) {
      case 0:
        return Seal(RecordType::kData, input.Byte(), send);
      case 1:
        return Seal(RecordType::kControl, input.Byte(), send);
      case 2:
        return Acknowledge(input.Byte(), send);
      case 3:
        return Seal(RecordType::kFinal, 0, send);
      case 4:
        return Replay(input.Number(), input.Byte());
      case 5:
        return Flip(input.Number());
      case 6:
        return Truncate(input.Byte());
      default:
        bytes.push_back(std::byte{input.Byte()});
    }
  }

  base::Bytes bytes;                            // as the receiver gets them
  std::vector<SealedRecord> records;            // as sealed, by sequence
  std::vector<std::uint64_t> acknowledgements;  // as sealed, by sequence

 private:
  void Seal(RecordType type, std::size_t size, bool send) {
    const base::Bytes payload(size, static_cast<std::byte>(records.size() + 1));
    base::Bytes out(record::kHeaderSize + size + record::kTagSize);
    const auto written = sealer_.Seal(type, payload, out);
    if (!written.ok()) return;
    records.push_back({type, payload});
    Append(base::ByteSpan(out).first(*written), send);
  }

  void Acknowledge(std::uint64_t value, bool send) {
    base::Bytes out(record::AcknowledgementSealer::kSize);
    SEALIFT_CHECK(acknowledger_.Seal(value, out).ok());
    acknowledgements.push_back(value);
    Append(out, send);
  }

  void Append(base::ByteSpan record, bool send) {
    base::Append(history_, record);
    if (send) base::Append(bytes, record);
  }

  void Replay(std::size_t from, std::size_t size) {
    const base::ByteSpan history(history_);
    const base::ByteSpan piece = history.subspan(std::min(from, history.size()));
    base::Append(bytes, piece.first(std::min(size, piece.size())));
  }

  void Flip(std::size_t bit) {
    if (bit / 8 < bytes.size()) bytes[bit / 8] ^= static_cast<std::byte>(1U << (bit % 8));
  }

  void Truncate(std::size_t size) { bytes.resize(bytes.size() - std::min(size, bytes.size())); }

  record::Sealer sealer_;
  record::AcknowledgementSealer acknowledger_;
  base::Bytes history_;  // every record that was ever sealed, sent or not
};

// The receiving side, which checks every verdict.
class Receiver {
 public:
  Receiver(const keys::KeySchedule& schedule, record::AeadBackend backend,
           keys::Protection protection)
      : protection_(protection),
        records_(record::RecordOpener::Create(schedule, backend, kStream, kDirection, protection,
                                              {.first = 0, .rekey_shift = 2})
                     .value()),
        acknowledgements_(record::AcknowledgementOpener::Create(schedule, backend, kStream,
                                                                kDirection, kGeneration)
                              .value()) {}

  // Opens what it can of `buffer`, as the transport does. Returns how many bytes are done with, or
  // all of them once the connection is dead.
  std::size_t Receive(base::MutableByteSpan buffer, const Wire& wire) {
    std::size_t done = 0;
    while (buffer.size() - done >= 2) {
      const base::MutableByteSpan rest = buffer.subspan(done);
      const Opened opened =
          record::IsAcknowledgement(rest) ? acknowledgements_.Open(rest) : records_.Open(rest);
      if (opened.verdict == Verdict::kRejected) {
        CheckDead(rest);
        return buffer.size();
      }
      if (opened.verdict == Verdict::kNeedMore) {
        CheckNeed(opened, rest.size());
        break;
      }
      SEALIFT_CHECK(opened.size <= rest.size());
      CheckDelivered(opened, wire);
      done += opened.size;
    }
    return done;
  }

 private:
  void CheckDead(base::MutableByteSpan rest) {
    const std::uint64_t sequence = records_.next_sequence();
    const Opened again =
        record::IsAcknowledgement(rest) ? acknowledgements_.Open(rest) : records_.Open(rest);
    SEALIFT_CHECK(again.verdict == Verdict::kRejected);
    SEALIFT_CHECK(records_.next_sequence() == sequence);
  }

  static void CheckNeed(const Opened& opened, std::size_t have) {
    SEALIFT_CHECK(opened.size > have);
    SEALIFT_CHECK(opened.size <= record::kHeaderSize + record::kMaxPayload + record::kTagSize);
  }

  void CheckDelivered(const Opened& opened, const Wire& wire) {
    if (opened.type == RecordType::kAcknowledgement) {
      SEALIFT_CHECK(acknowledgements_seen_ < wire.acknowledgements.size());
      SEALIFT_CHECK(opened.acknowledged == wire.acknowledgements[acknowledgements_seen_++]);
      return;
    }
    const std::size_t place = records_seen_++;
    SEALIFT_CHECK(records_.next_sequence() == records_seen_);
    SEALIFT_CHECK(records_.ended() == (opened.type == RecordType::kFinal));
    // Guest payload in the clear is all that an attacker can invent, and only in plain mode.
    if (opened.type == RecordType::kData && protection_ == keys::Protection::kPlain) return;
    SEALIFT_CHECK(place < wire.records.size());
    SEALIFT_CHECK(opened.type == wire.records[place].type);
    SEALIFT_CHECK(std::ranges::equal(opened.payload, wire.records[place].payload));
  }

  keys::Protection protection_;
  record::RecordOpener records_;
  record::AcknowledgementOpener acknowledgements_;
  std::size_t records_seen_ = 0;
  std::size_t acknowledgements_seen_ = 0;
};

// Hands the wire's bytes over in pieces of `chunk`, and what was left of the last piece again.
void Deliver(const Wire& wire, std::size_t chunk, Receiver& receiver) {
  base::Bytes buffer;
  for (std::size_t at = 0; at < wire.bytes.size(); at += chunk) {
    const base::ByteSpan rest = base::ByteSpan(wire.bytes).subspan(at);
    base::Append(buffer, rest.first(std::min(chunk, rest.size())));
    const std::size_t done = receiver.Receive(buffer, wire);
    buffer.erase(buffer.begin(), buffer.begin() + static_cast<std::ptrdiff_t>(done));
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Input input({data, size});
  const std::uint8_t settings = input.Byte();
  const auto backend = BackendFor(settings);
  const auto protection =
      (settings & 1) != 0 ? keys::Protection::kPlain : keys::Protection::kSealed;
  const std::size_t chunk = std::size_t{input.Byte()} + 1;

  const keys::KeySchedule schedule = MakeSchedule();
  Wire wire(schedule, backend, protection);
  while (!input.empty() && wire.bytes.size() < kMaxWire) wire.Apply(input);
  Receiver receiver(schedule, backend, protection);
  Deliver(wire, chunk, receiver);
  return 0;
}
