// Compares the code with the worked example of docs/protocol.md.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "keys/hkdf.h"
#include "record/testing.h"

namespace sealift::record {
namespace {

// The entries of the example: a line with the name, then lines of two spaces and hex digits.
std::map<std::string, std::string> ReadExample() {
  std::ifstream page(SEALIFT_SOURCE_DIR "/docs/protocol.md");
  std::map<std::string, std::string> example;
  std::string line;
  while (std::getline(page, line) && line != "### A worked example") continue;
  while (std::getline(page, line) && line != "```") continue;
  std::string name;
  while (std::getline(page, line) && line != "```") {
    if (line.starts_with("  ")) {
      example[name] += line.substr(2);
    } else {
      name = line;
    }
  }
  return example;
}

keys::MigrationSpec ExampleSpec() {
  keys::MigrationSpec spec;
  for (std::size_t i = 0; i < spec.id.size(); ++i) spec.id[i] = static_cast<std::byte>(0x10 + i);
  spec.vm = "web-1";
  spec.source = "spiffe://example/host/a";
  spec.destination = "spiffe://example/host/b";
  spec.streams = 4;
  return spec;
}

class ProtocolExample : public ::testing::Test {
 protected:
  static constexpr std::uint16_t kExampleStream = 1;
  static constexpr std::uint32_t kGeneration = 1;

  // The bytes under a name. Each name is to be asked for, so that no entry goes unchecked.
  std::string Hex(const std::string& name) {
    asked_.insert(name);
    return example_[name];
  }

  keys::KeySchedule Schedule() {
    keys::MigrationKey key{keys::testing::Secret(keys::testing::Hex(Hex("migration key")))};
    return keys::KeySchedule::Create(std::move(key), keys::HashSpec(ExampleSpec())).value();
  }

  static std::string DeriveHex(const keys::KeySchedule& schedule, const keys::SubKeyId& id,
                               std::size_t size) {
    return base::ToHex(schedule.Derive(id, size).value().bytes());
  }

  void CheckSpec();
  void CheckKeys();
  void CheckIv();
  void CheckRecords(AeadBackend backend);
  void CheckAcknowledgement(AeadBackend backend);

  std::map<std::string, std::string> example_ = ReadExample();
  std::set<std::string> asked_;
};

void ProtocolExample::CheckSpec() {
  EXPECT_EQ(base::ToHex(keys::CanonicalEncoding(ExampleSpec())), Hex("spec"));
  EXPECT_EQ(base::ToHex(keys::HashSpec(ExampleSpec())), Hex("spec hash"));
}

void ProtocolExample::CheckKeys() {
  const base::Bytes key = keys::testing::Hex(Hex("migration key"));
  const base::ByteSpan span(key);
  EXPECT_EQ(base::ToHex(keys::HkdfExtract(span.subspan(32), {span.first(32)}).value().bytes()),
            Hex("pseudo-random key"));
  const keys::KeySchedule schedule = Schedule();
  const auto forward = keys::Direction::kToDestination;
  EXPECT_EQ(DeriveHex(schedule, {keys::Purpose::kRecords, forward, 1, 0}, keys::kAesKeySize),
            Hex("record key, to the destination, stream 1, index 0"));
  EXPECT_EQ(DeriveHex(schedule, {keys::Purpose::kRecords, forward, 1, 1}, keys::kAesKeySize),
            Hex("record key, to the destination, stream 1, index 1"));
  EXPECT_EQ(DeriveHex(schedule,
                      {keys::Purpose::kAcknowledgement, keys::Direction::kToSource, 1, kGeneration},
                      keys::kAesKeySize),
            Hex("acknowledgement key, to the source, stream 1, generation 1"));
  const keys::SecretBytes hello =
      schedule.Derive({keys::Purpose::kHello, forward, 1, kGeneration}, keys::kMacKeySize).value();
  EXPECT_EQ(base::ToHex(hello.bytes()),
            Hex("hello key, to the destination, stream 1, generation 1"));
  EXPECT_EQ(base::ToHex(keys::Mac(hello, base::AsBytes("hello"))),
            Hex("MAC under it of \"hello\""));
}

void ProtocolExample::CheckRecords(AeadBackend backend) {
  const auto seal = [&](keys::Protection protection, Sequencing sequencing, RecordType type,
                        std::string_view payload) {
    const keys::KeySchedule schedule = Schedule();
    Sealer sealer =
        Sealer::Create(schedule, backend, kExampleStream, kForward, protection, sequencing).value();
    return base::ToHex(SealRecord(sealer, type, payload));
  };
  const auto sealed = keys::Protection::kSealed;
  EXPECT_EQ(seal(sealed, {}, RecordType::kData, "hello"),
            Hex("data record, sequence 0, \"hello\""));
  EXPECT_EQ(seal(sealed, {.first = 1}, RecordType::kFinal, ""), Hex("final record, sequence 1"));
  EXPECT_EQ(seal(sealed, {.first = kRecordsPerKey}, RecordType::kControl, "rekeyed"),
            Hex("control record, sequence 1048576, \"rekeyed\""));
  EXPECT_EQ(seal(keys::Protection::kPlain, {}, RecordType::kData, "hello"),
            Hex("plain data record, sequence 0, \"hello\""));
}

void ProtocolExample::CheckAcknowledgement(AeadBackend backend) {
  const keys::KeySchedule schedule = Schedule();
  AcknowledgementSealer sealer =
      AcknowledgementSealer::Create(schedule, backend, kExampleStream, kBackward, kGeneration)
          .value();
  base::Bytes out(AcknowledgementSealer::kSize);
  ASSERT_TRUE(sealer.Seal(2, out).ok());
  EXPECT_EQ(base::ToHex(out), Hex("acknowledgement, sequence 0, of everything before 2"));
}

// The IV is not visible outside of a sealer: open the record with it.
void ProtocolExample::CheckIv() {
  const base::Bytes key =
      keys::testing::Hex(Hex("record key, to the destination, stream 1, index 0"));
  base::Bytes record = keys::testing::Hex(Hex("data record, sequence 0, \"hello\""));
  const base::MutableByteSpan payload = base::MutableByteSpan(record).subspan(kHeaderSize, 5);
  const auto aead = MakeAead(AeadBackend::kOpenssl, keys::testing::Secret(key)).value();
  EXPECT_TRUE(aead->Open(keys::testing::Hex(Hex("IV of its sequence 0")),
                         base::ByteSpan(record).first(kHeaderSize), payload,
                         base::ByteSpan(record).last(kTagSize), payload));
  EXPECT_EQ(base::AsText(payload), "hello");
}

TEST_F(ProtocolExample, IsWhatTheCodeDoes) {
  ASSERT_FALSE(example_.empty()) << "no example found in docs/protocol.md";
  CheckSpec();
  CheckKeys();
  CheckIv();
  for (const AeadBackend backend : {BestBackend().value(), AeadBackend::kOpenssl}) {
    CheckRecords(backend);
    CheckAcknowledgement(backend);
  }
  for (const auto& [name, value] : example_) EXPECT_TRUE(asked_.contains(name)) << name;
}

}  // namespace
}  // namespace sealift::record
