#include "keys/key_schedule.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "keys/hkdf.h"
#include "keys/testing.h"

namespace sealift::keys {
namespace {

using testing::CountingRandom;
using testing::Hex;
using testing::Secret;

// The inputs of RFC 5869 appendix A, tests 1 to 3, with SHA-512 instead of SHA-256. The outputs are
// from Python's cryptography 38.0.4:
//   python3 -c 'from cryptography.hazmat.primitives import hashes, hmac
//   from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
//   h = hmac.HMAC(SALT or bytes(64), hashes.SHA512()); h.update(IKM); prk = h.finalize()
//   print(prk.hex(), HKDFExpand(hashes.SHA512(), LENGTH, INFO).derive(prk).hex())'
struct HkdfAnswer {
  std::string_view input_key, salt, info, pseudo_random_key, output;
};
constexpr HkdfAnswer kHkdfAnswers[] = {
    {"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "000102030405060708090a0b0c",
     "f0f1f2f3f4f5f6f7f8f9",
     "665799823737ded04a88e47e54a5890bb2c3d247c7a4254a8e61350723590a26"
     "c36238127d8661b88cf80ef802d57e2f7cebcf1e00e083848be19929c61b4237",
     "832390086cda71fb47625bb5ceb168e4c8e26a1a16ed34d9fc7fe92c1481579338da362cb8d9f925d7cb"},
    {"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
     "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f"
     "404142434445464748494a4b4c4d4e4f",
     "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f"
     "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"
     "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf",
     "b0b1b2b3b4b5b6b7b8b9babbbcbdbebfc0c1c2c3c4c5c6c7c8c9cacbcccdcecf"
     "d0d1d2d3d4d5d6d7d8d9dadbdcdddedfe0e1e2e3e4e5e6e7e8e9eaebecedeeef"
     "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
     "35672542907d4e142c00e84499e74e1de08be86535f924e022804ad775dde27e"
     "c86cd1e5b7d178c74489bdbeb30712beb82d4f97416c5a94ea81ebdf3e629e4a",
     "ce6c97192805b346e6161e821ed165673b84f400a2b514b2fe23d84cd189ddf1"
     "b695b48cbd1c8388441137b3ce28f16aa64ba33ba466b24df6cfcb021ecff235"
     "f6a2056ce3af1de44d572097a8505d9e7a93"},
    {"0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b", "", "",
     "fd200c4987ac491313bd4a2a13287121247239e11c9ef82802044b66ef357e5b"
     "194498d0682611382348572a7b1611de54764094286320578a863f36562b0df6",
     "f5fa02b18298a72a8c23898a8703472c6eb179dc204c03425c970e3b164bf90fff22d04836d0e2343bac"},
};

TEST(Hkdf, GivesTheKnownAnswers) {
  for (const HkdfAnswer& answer : kHkdfAnswers) {
    const SecretBytes prk = HkdfExtract(Hex(answer.salt), {Hex(answer.input_key)}).value();
    EXPECT_EQ(base::ToHex(prk.bytes()), answer.pseudo_random_key);
    const SecretBytes output = HkdfExpand(prk, Hex(answer.info), answer.output.size() / 2).value();
    EXPECT_EQ(base::ToHex(output.bytes()), answer.output);
  }
}

TEST(Hkdf, ExtractsFromTheConcatenationOfTheParts) {
  const base::ByteSpan salt = base::AsBytes("salt");
  const SecretBytes whole = HkdfExtract(salt, {base::AsBytes("input key")}).value();
  const SecretBytes parts =
      HkdfExtract(salt, {base::AsBytes("input"), {}, base::AsBytes(" key")}).value();
  EXPECT_TRUE(ConstantTimeEqual(whole.bytes(), parts.bytes()));
}

TEST(Hkdf, RefusesSizesThatRfc5869Forbids) {
  const SecretBytes prk = HkdfExtract({}, {base::AsBytes("key")}).value();
  EXPECT_TRUE(absl::IsInvalidArgument(HkdfExpand(prk, {}, 0).status()));
  EXPECT_TRUE(HkdfExpand(prk, {}, 255 * kSha512Size).ok());
  EXPECT_TRUE(absl::IsInvalidArgument(HkdfExpand(prk, {}, 255 * kSha512Size + 1).status()));
}

// RFC 4231 §4.2, HMAC-SHA-512 cut to 32 bytes.
TEST(Mac, GivesTheKnownAnswer) {
  const SecretBytes key = Secret(base::Bytes(20, std::byte{0x0b}));
  EXPECT_EQ(base::ToHex(Mac(key, base::AsBytes("Hi There"))),
            "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde");
}

SpecHash HashOf(std::string_view text) {
  SpecHash hash{};
  std::ranges::copy(base::AsBytes(text), hash.begin());
  return hash;
}

KeySchedule Schedule(std::uint8_t first_key_byte = 0, const SpecHash& hash = HashOf("spec")) {
  CountingRandom random(first_key_byte);
  return KeySchedule::Create(MigrationKey::Generate(random).value(), hash).value();
}

std::string DeriveHex(const KeySchedule& schedule, const SubKeyId& id) {
  return base::ToHex(schedule.Derive(id, kAesKeySize).value().bytes());
}

constexpr SubKeyId kId{Purpose::kRecords, Direction::kToDestination, 3, 0};

// From Python's cryptography 38.0.4:
//   HKDF(hashes.SHA512(), 32, salt=bytes(range(0xa0, 0xa8)), info=b"sealift/1" +
//   hashlib.sha512(b"spec").digest() + bytes.fromhex("0102" "0304" "05060708090a0b0c")
//   ).derive(bytes(range(32))).hex()
TEST(KeySchedule, GivesTheKnownAnswer) {
  MigrationKey key{
      Secret(Hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
                 "a0a1a2a3a4a5a6a7"))};
  SpecHash hash;
  std::ranges::copy(Hex("3a78e7ea17f0d0ac1ba5c13825c61514bc83f36af00081051b20a5cc775a8d34"
                        "dea731709ea6c2541e8b86319e4e23c0020dafa348c595b10c5af2cb34375315"),
                    hash.begin());
  KeySchedule schedule = KeySchedule::Create(std::move(key), hash).value();
  const SubKeyId id{Purpose::kRecords, Direction::kToSource, 0x0304, 0x05060708090a0b0c};
  EXPECT_EQ(DeriveHex(schedule, id),
            "606e57d0b743d3b48c05d4ab2d7fa43fa54ddc4fa8f2cf03b8f1f6b0237fa8fa");
}

TEST(KeySchedule, TakesTheKeyAway) {
  CountingRandom random;
  MigrationKey key = MigrationKey::Generate(random).value();
  ASSERT_TRUE(KeySchedule::Create(std::move(key), HashOf("spec")).ok());
  EXPECT_EQ(key.bytes.size(), 0U);  // NOLINT(bugprone-use-after-move): the promise under test
}

TEST(KeySchedule, RefusesAKeyOfAnotherSize) {
  for (const std::size_t size : {0U, 32U, 39U, 41U}) {
    MigrationKey key{Secret(base::Bytes(size))};
    const auto schedule = KeySchedule::Create(std::move(key), HashOf("spec"));
    EXPECT_TRUE(absl::IsInvalidArgument(schedule.status())) << size;
  }
}

TEST(KeySchedule, SeparatesEverythingThatNamesASubKey) {
  const KeySchedule schedule = Schedule();
  const std::set<std::string> keys = {
      DeriveHex(schedule, kId),
      DeriveHex(schedule, {Purpose::kAcknowledgement, kId.direction, 3, 0}),
      DeriveHex(schedule, {Purpose::kHello, kId.direction, 3, 0}),
      DeriveHex(schedule, {kId.purpose, Opposite(kId.direction), 3, 0}),
      DeriveHex(schedule, {kId.purpose, kId.direction, 4, 0}),
      DeriveHex(schedule, {kId.purpose, kId.direction, 3, 1}),
      DeriveHex(schedule, {kId.purpose, kId.direction, 0, std::uint64_t{3} << 48}),
      DeriveHex(Schedule(1), kId),
      DeriveHex(Schedule(0, HashOf("Spec")), kId),
  };
  EXPECT_EQ(keys.size(), 9U);
}

TEST(KeySchedule, DerivesTheSameOnBothSides) {
  EXPECT_EQ(DeriveHex(Schedule(), kId), DeriveHex(Schedule(), kId));
}

TEST(KeySchedule, GivesASealingKeyAwayOnce) {
  const KeySchedule schedule = Schedule();
  EXPECT_TRUE(schedule.DeriveForSealing(kId, kAesKeySize).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(schedule.DeriveForSealing(kId, kAesKeySize).status()));
  SubKeyId next = kId;
  ++next.index;
  EXPECT_TRUE(schedule.DeriveForSealing(next, kAesKeySize).ok());
  EXPECT_TRUE(schedule.Derive(kId, kAesKeySize).ok()) << "opening is not limited";
}

TEST(KeySchedule, GivesASealingKeyToOneOfManyThreads) {
  const KeySchedule schedule = Schedule();
  std::atomic<int> winners = 0;
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i) {
      threads.emplace_back(
          [&] { winners += schedule.DeriveForSealing(kId, kAesKeySize).ok() ? 1 : 0; });
    }
  }
  EXPECT_EQ(winners, 1);
}

TEST(MigrationKey, IsFortyBytesFromTheRandomSource) {
  CountingRandom random(7);
  const MigrationKey key = MigrationKey::Generate(random).value();
  EXPECT_EQ(base::ToHex(key.bytes.bytes()),
            "0708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e");
}

class BrokenRandom final : public RandomSource {
 public:
  absl::Status Fill(base::MutableByteSpan) override { return absl::InternalError("no entropy"); }
};

TEST(MigrationKey, IsNotMadeWithoutRandomness) {
  BrokenRandom random;
  EXPECT_FALSE(MigrationKey::Generate(random).ok());
}

}  // namespace
}  // namespace sealift::keys
