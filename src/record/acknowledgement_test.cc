#include <gtest/gtest.h>

#include "record/testing.h"

namespace sealift::record {
namespace {

constexpr std::uint32_t kGeneration = 7;

Opened OpenCopy(AcknowledgementOpener& opener, base::Bytes copy) {
  Opened opened = opener.Open(copy);
  opened.payload = {};
  return opened;
}

AcknowledgementSealer MakeAcknowledger(const keys::KeySchedule& schedule,
                                       std::uint16_t stream = kStream,
                                       keys::Direction direction = kBackward,
                                       std::uint32_t generation = kGeneration,
                                       Sequencing sequencing = {}) {
  return AcknowledgementSealer::Create(schedule, BestBackend().value(), stream, direction,
                                       generation, sequencing)
      .value();
}

AcknowledgementOpener MakeAcknowledgementOpener(const keys::KeySchedule& schedule,
                                                Sequencing sequencing = {}) {
  return AcknowledgementOpener::Create(schedule, BestBackend().value(), kStream, kBackward,
                                       kGeneration, sequencing)
      .value();
}

base::Bytes SealValue(AcknowledgementSealer& sealer, std::uint64_t value) {
  base::Bytes out(AcknowledgementSealer::kSize);
  EXPECT_TRUE(sealer.Seal(value, out).ok());
  return out;
}

class AcknowledgementTest : public ::testing::Test {
 protected:
  void ExpectOpens(const base::Bytes& bytes, std::uint64_t value) {
    const Opened opened = OpenCopy(opener_, bytes);
    EXPECT_EQ(opened.verdict, Verdict::kOpened);
    EXPECT_EQ(opened.type, RecordType::kAcknowledgement);
    EXPECT_EQ(opened.size, AcknowledgementSealer::kSize);
    EXPECT_EQ(opened.acknowledged, value);
  }
  void ExpectRejected(const base::Bytes& bytes) {
    EXPECT_EQ(OpenCopy(opener_, bytes).verdict, Verdict::kRejected);
  }
  // For loops over many lies: an acknowledgement opener has no Reset.
  void ExpectRejectedByAFreshOpener(const base::Bytes& bytes) {
    opener_ = MakeAcknowledgementOpener(schedule_);
    ExpectRejected(bytes);
  }

  const keys::KeySchedule schedule_ = MakeSchedule();
  AcknowledgementSealer sealer_ = MakeAcknowledger(schedule_);
  AcknowledgementOpener opener_ = MakeAcknowledgementOpener(schedule_);
};

TEST_F(AcknowledgementTest, CarriesValuesThatDoNotFall) {
  for (const std::uint64_t value : {0UL, 5UL, 5UL, 1UL << 40, ~0UL}) {
    ExpectOpens(SealValue(sealer_, value), value);
  }
}

TEST_F(AcknowledgementTest, NeedsMoreForEveryShortPrefix) {
  const base::Bytes record = SealValue(sealer_, 5);
  for (std::size_t size = 0; size < record.size(); ++size) {
    const Opened opened =
        OpenCopy(opener_, base::Bytes(record.begin(), record.begin() + std::ptrdiff_t(size)));
    EXPECT_EQ(opened.verdict, Verdict::kNeedMore) << size;
    EXPECT_EQ(opened.size, size < kHeaderSize ? kHeaderSize : record.size()) << size;
  }
  ExpectOpens(record, 5);
}

TEST_F(AcknowledgementTest, RejectsEveryFlippedBit) {
  const base::Bytes record = SealValue(sealer_, 5);
  for (std::size_t bit = 0; bit < record.size() * 8; ++bit) {
    base::Bytes damaged = record;
    FlipBit(damaged, bit);
    SCOPED_TRACE(bit);
    ExpectRejectedByAFreshOpener(damaged);
  }
}

TEST_F(AcknowledgementTest, RejectsAReplay) {
  const base::Bytes record = SealValue(sealer_, 5);
  ExpectOpens(record, 5);
  ExpectRejected(record);
}

TEST_F(AcknowledgementTest, RejectsAGap) {
  (void)SealValue(sealer_, 5);
  ExpectRejected(SealValue(sealer_, 6));
}

TEST_F(AcknowledgementTest, RejectsAFallingValue) {
  ExpectOpens(SealValue(sealer_, 5), 5);
  ExpectRejected(SealValue(sealer_, 4));
}

TEST_F(AcknowledgementTest, RejectsAnotherGeneration) {
  AcknowledgementSealer other = MakeAcknowledger(schedule_, kStream, kBackward, kGeneration + 1);
  ExpectRejected(SealValue(other, 5));
}

TEST_F(AcknowledgementTest, RejectsAnotherStream) {
  AcknowledgementSealer other = MakeAcknowledger(schedule_, kStream + 1);
  base::Bytes record = SealValue(other, 5);
  ExpectRejectedByAFreshOpener(record);
  record[5] = std::byte{kStream};
  ExpectRejectedByAFreshOpener(record);
}

TEST_F(AcknowledgementTest, RejectsAnotherDirection) {
  AcknowledgementSealer other = MakeAcknowledger(schedule_, kStream, kForward);
  ExpectRejected(SealValue(other, 5));
}

TEST_F(AcknowledgementTest, RejectsARecord) {
  Sealer sealer = Sealer::Create(schedule_, BestBackend().value(), kStream, kBackward,
                                 keys::Protection::kSealed)
                      .value();
  base::Bytes record = SealRecord(sealer, RecordType::kControl, "8 bytes.");
  ExpectRejectedByAFreshOpener(record);
  record[1] = std::byte{4};  // the same, called an acknowledgement
  ExpectRejectedByAFreshOpener(record);
}

TEST_F(AcknowledgementTest, RejectsOtherLengthsBeforeTheBodyCame) {
  for (const std::uint32_t length : {0U, 7U, 9U, 0xffffffffU}) {
    ExpectRejectedByAFreshOpener(
        HeaderBytesOf({RecordType::kAcknowledgement, 0, kStream, 0, length}));
  }
}

TEST_F(AcknowledgementTest, RejectsThePlainFlag) {
  ExpectRejected(HeaderBytesOf({RecordType::kAcknowledgement, kFlagPlain, kStream, 0, 8}));
}

TEST_F(AcknowledgementTest, StaysRejected) {
  const base::Bytes record = SealValue(sealer_, 5);
  ExpectRejected(base::Bytes(100));
  ExpectRejected(record);
}

TEST_F(AcknowledgementTest, HasOneSealerPerConnection) {
  const auto second = AcknowledgementSealer::Create(schedule_, BestBackend().value(), kStream,
                                                    kBackward, kGeneration);
  EXPECT_TRUE(absl::IsAlreadyExists(second.status()));
}

TEST_F(AcknowledgementTest, EndsAtTheLimitOnBothSides) {
  const Sequencing last{.first = kMaxAcknowledgements - 1};
  const keys::KeySchedule same = MakeSchedule();
  AcknowledgementSealer sealer = MakeAcknowledger(same, kStream, kBackward, kGeneration, last);
  opener_ = MakeAcknowledgementOpener(schedule_, last);
  ExpectOpens(SealValue(sealer, 5), 5);
  base::Bytes out(AcknowledgementSealer::kSize);
  EXPECT_TRUE(absl::IsResourceExhausted(sealer.Seal(6, out)));
  EXPECT_TRUE(absl::IsResourceExhausted(sealer.Seal(6, out)));
  ExpectRejected(HeaderBytesOf(
      {RecordType::kAcknowledgement, 0, kStream, kMaxAcknowledgements, kAcknowledgementSize}));
}

TEST(IsAcknowledgement, LooksAtTheType) {
  EXPECT_TRUE(IsAcknowledgement(keys::testing::Hex("0104")));
  EXPECT_FALSE(IsAcknowledgement(keys::testing::Hex("0103")));
  EXPECT_FALSE(IsAcknowledgement(keys::testing::Hex("01")));
  EXPECT_FALSE(IsAcknowledgement({}));
}

}  // namespace
}  // namespace sealift::record
