#include "record/sealer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>

#include "base/sanitizers.h"
#include "record/allocation_counter.h"
#include "record/testing.h"

namespace sealift::record {
namespace {

constexpr auto kPlain = keys::Protection::kPlain;
constexpr auto kSealed = keys::Protection::kSealed;

class SealerTest : public ::testing::Test {
 protected:
  const keys::KeySchedule schedule_ = MakeSchedule();
};

TEST_F(SealerTest, WritesTheHeaderOfTheFormat) {
  Sealer sealer = MakeSealer(schedule_);
  (void)SealRecord(sealer, RecordType::kData, "first");
  const base::Bytes record = SealRecord(sealer, RecordType::kControl, "second");
  EXPECT_EQ(record.size(), kHeaderSize + 6 + kTagSize);
  EXPECT_EQ(base::ToHex(base::ByteSpan(record).first(kHeaderSize)),
            "01"                // version
            "02"                // control
            "00"                // flags
            "00"                // zero
            "0003"              // stream
            "0000"              // zero
            "0000000000000001"  // sequence
            "00000006");        // length
}

TEST_F(SealerTest, HidesThePayloadOfEveryType) {
  Sealer sealer = MakeSealer(schedule_);
  for (const RecordType type : {RecordType::kData, RecordType::kControl}) {
    const base::Bytes record = SealRecord(sealer, type, "canary");
    EXPECT_EQ(base::AsText(record).find("canary"), std::string_view::npos);
  }
}

TEST_F(SealerTest, NeverGivesTheSameBytesTwice) {
  Sealer sealer = MakeSealer(schedule_);
  const base::Bytes first = SealRecord(sealer, RecordType::kData, "same");
  const base::Bytes second = SealRecord(sealer, RecordType::kData, "same");
  EXPECT_FALSE(std::equal(first.begin() + kHeaderSize, first.end(), second.begin() + kHeaderSize));
}

TEST_F(SealerTest, SealsInPlaceAsElsewhere) {
  Sealer sealer = MakeSealer(schedule_);
  const base::Bytes elsewhere = SealRecord(sealer, RecordType::kData, "payload");
  const keys::KeySchedule same = MakeSchedule();
  Sealer in_place = MakeSealer(same);
  base::Bytes out(elsewhere.size());
  const base::MutableByteSpan payload = base::MutableByteSpan(out).subspan(kHeaderSize, 7);
  std::ranges::copy(base::AsBytes("payload"), payload.begin());
  EXPECT_EQ(in_place.Seal(RecordType::kData, payload, out).value(), out.size());
  EXPECT_EQ(out, elsewhere);
}

TEST_F(SealerTest, LeavesOnlyDataInTheClearInPlainMode) {
  Sealer sealer = MakeSealer(schedule_, kPlain);
  const base::Bytes data = SealRecord(sealer, RecordType::kData, "canary");
  EXPECT_EQ(data.size(), kHeaderSize + 6);
  EXPECT_EQ(data[2], std::byte{kFlagPlain});
  EXPECT_EQ(base::AsText(data).substr(kHeaderSize), "canary");
  const base::Bytes control = SealRecord(sealer, RecordType::kControl, "canary");
  EXPECT_EQ(control[2], std::byte{0});
  EXPECT_EQ(base::AsText(control).find("canary"), std::string_view::npos);
  EXPECT_EQ(SealRecord(sealer, RecordType::kFinal, "").size(), kHeaderSize + kTagSize);
}

TEST_F(SealerTest, LeavesDataInPlaceInPlainMode) {
  Sealer sealer = MakeSealer(schedule_, kPlain);
  base::Bytes out(kHeaderSize + 4 + kTagSize, std::byte{'x'});
  const base::ByteSpan payload = base::ByteSpan(out).subspan(kHeaderSize, 4);
  EXPECT_EQ(sealer.Seal(RecordType::kData, payload, out).value(), kHeaderSize + 4);
  EXPECT_EQ(base::AsText(out).substr(kHeaderSize, 4), "xxxx");
}

TEST_F(SealerTest, CountsEveryRecord) {
  Sealer sealer = MakeSealer(schedule_, kPlain);
  EXPECT_EQ(sealer.next_sequence(), 0U);
  (void)SealRecord(sealer, RecordType::kData, "plain");
  (void)SealRecord(sealer, RecordType::kControl, "sealed");
  EXPECT_EQ(sealer.next_sequence(), 2U);
}

TEST_F(SealerTest, TakesTheLargestPayload) {
  Sealer sealer = MakeSealer(schedule_);
  EXPECT_EQ(SealRecord(sealer, RecordType::kData, std::string(kMaxPayload, 'x')).size(),
            kHeaderSize + kMaxPayload + kTagSize);
}

// Whatever made Seal fail, it fails from then on.
void ExpectDead(Sealer& sealer) {
  base::Bytes out(kHeaderSize + kTagSize);
  const std::uint64_t sequence = sealer.next_sequence();
  EXPECT_FALSE(sealer.Seal(RecordType::kData, {}, out).ok());
  EXPECT_FALSE(sealer.Seal(RecordType::kFinal, {}, out).ok());
  EXPECT_EQ(sealer.next_sequence(), sequence);
}

TEST_F(SealerTest, SealsNothingAfterTheFinalRecord) {
  Sealer sealer = MakeSealer(schedule_);
  (void)SealRecord(sealer, RecordType::kFinal, "");
  ExpectDead(sealer);
}

TEST_F(SealerTest, RefusesAPayloadOverTheLimit) {
  Sealer sealer = MakeSealer(schedule_);
  const base::Bytes payload(kMaxPayload + 1);
  base::Bytes out(kHeaderSize + payload.size() + kTagSize);
  const auto sealed = sealer.Seal(RecordType::kData, payload, out);
  EXPECT_TRUE(absl::IsInvalidArgument(sealed.status()));
  EXPECT_EQ(out, base::Bytes(out.size())) << "nothing may be written";
  ExpectDead(sealer);
}

TEST_F(SealerTest, RefusesAFinalRecordWithAPayload) {
  Sealer sealer = MakeSealer(schedule_);
  base::Bytes out(kHeaderSize + 1 + kTagSize);
  const auto sealed = sealer.Seal(RecordType::kFinal, base::AsBytes("x"), out);
  EXPECT_TRUE(absl::IsInvalidArgument(sealed.status()));
  ExpectDead(sealer);
}

TEST_F(SealerTest, RefusesToWrapTheSequence) {
  constexpr std::uint64_t kLast = std::numeric_limits<std::uint64_t>::max();
  Sealer sealer = MakeSealer(schedule_, kSealed, {.first = kLast - 1});
  (void)SealRecord(sealer, RecordType::kData, "last");
  base::Bytes out(kHeaderSize + kTagSize);
  EXPECT_TRUE(absl::IsResourceExhausted(sealer.Seal(RecordType::kData, {}, out).status()));
  ExpectDead(sealer);
}

TEST_F(SealerTest, RefusesASecondSealerOfTheSameStream) {
  const AeadBackend backend = BestBackend().value();
  const auto create = [&](std::uint16_t stream, keys::Direction direction) {
    return Sealer::Create(schedule_, backend, stream, direction, kSealed).status();
  };
  EXPECT_TRUE(create(kStream, kForward).ok());
  EXPECT_TRUE(absl::IsAlreadyExists(create(kStream, kForward)));
  EXPECT_TRUE(create(kStream, kBackward).ok());
  EXPECT_TRUE(create(kStream + 1, kForward).ok());
}

TEST_F(SealerTest, AllocatesNothingPerRecord) {
#if defined(SEALIFT_THREAD_SANITIZER)
  GTEST_SKIP() << "allocations are not counted";
#endif
  Sealer sealer = MakeSealer(schedule_);
  AcknowledgementSealer acknowledger =
      AcknowledgementSealer::Create(schedule_, BestBackend().value(), kStream, kBackward, 1)
          .value();
  const base::Bytes payload(4096);
  base::Bytes out(kHeaderSize + payload.size() + kTagSize);
  const std::size_t before = Allocations();
  EXPECT_GT(before, 0U) << "the count itself does not work";
  bool sealed = true;
  for (int i = 0; i < 100; ++i) {
    sealed = sealed && sealer.Seal(RecordType::kData, payload, out).ok();
    sealed = sealed && acknowledger.Seal(1, out).ok();
  }
  const std::size_t after = Allocations();
  EXPECT_TRUE(sealed);
  EXPECT_EQ(after, before);
}

using SealerDeathTest = SealerTest;

TEST_F(SealerDeathTest, AbortsOnABufferThatIsTooSmall) {
  Sealer sealer = MakeSealer(schedule_);
  base::Bytes out(kHeaderSize + 5 + kTagSize - 1);
  EXPECT_DEATH((void)sealer.Seal(RecordType::kData, base::AsBytes("hello"), out), "check failed");
}

TEST_F(SealerDeathTest, AbortsOnAnAcknowledgement) {
  Sealer sealer = MakeSealer(schedule_);
  base::Bytes out(100);
  EXPECT_DEATH((void)sealer.Seal(RecordType::kAcknowledgement, {}, out), "check failed");
}

}  // namespace
}  // namespace sealift::record
