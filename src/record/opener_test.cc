#include "record/opener.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "record/testing.h"

namespace sealift::record {
namespace {

constexpr auto kPlain = keys::Protection::kPlain;
constexpr auto kSealed = keys::Protection::kSealed;

base::Bytes Join(const std::vector<base::Bytes>& parts) {
  base::Bytes all;
  for (const base::Bytes& part : parts) base::Append(all, part);
  return all;
}

// Opens a copy, so that the bytes given stay as they are.
Opened OpenCopy(RecordOpener& opener, base::Bytes copy) {
  Opened opened = opener.Open(copy);
  opened.payload = {};
  return opened;
}

std::string OpenText(RecordOpener& opener, base::Bytes copy) {
  const Opened opened = opener.Open(copy);
  EXPECT_EQ(opened.verdict, Verdict::kOpened);
  return std::string(base::AsText(opened.payload));
}

// One sealer, one opener, and three records between them.
class OpenerTest : public ::testing::Test {
 protected:
  explicit OpenerTest(keys::Protection protection = kSealed)
      : sealer_(MakeSealer(schedule_, protection)), opener_(MakeOpener(schedule_, protection)) {}

  void ExpectRejected(const base::Bytes& bytes) {
    const std::uint64_t sequence = opener_.next_sequence();
    EXPECT_EQ(OpenCopy(opener_, bytes).verdict, Verdict::kRejected);
    EXPECT_EQ(opener_.next_sequence(), sequence);
  }

  // The bytes are rejected, at the latest when all that they ask for has come.
  void ExpectRejectedInTheEnd(base::Bytes bytes) {
    const Opened opened = OpenCopy(opener_, bytes);
    if (opened.verdict == Verdict::kNeedMore) {
      ASSERT_GT(opened.size, bytes.size());
      bytes.resize(opened.size);
    }
    ExpectRejected(bytes);
  }

  const keys::KeySchedule schedule_ = MakeSchedule();
  Sealer sealer_;
  RecordOpener opener_;
  const base::Bytes first_ = SealRecord(sealer_, RecordType::kData, "first");
  const base::Bytes second_ = SealRecord(sealer_, RecordType::kControl, "second");
  const base::Bytes third_ = SealRecord(sealer_, RecordType::kData, "");
};

class PlainOpenerTest : public OpenerTest {
 protected:
  PlainOpenerTest() : OpenerTest(kPlain) {}
};

// ---- What is accepted ----

TEST_F(OpenerTest, OpensEachRecordOnceInOrder) {
  EXPECT_EQ(OpenText(opener_, first_), "first");
  EXPECT_EQ(OpenText(opener_, second_), "second");
  EXPECT_EQ(OpenText(opener_, third_), "");
  EXPECT_EQ(opener_.next_sequence(), 3U);
  EXPECT_FALSE(opener_.ended());
}

TEST_F(OpenerTest, OpensManyRecordsFromOneBuffer) {
  base::Bytes buffer = Join({first_, second_, third_});
  base::MutableByteSpan rest(buffer);
  for (const RecordType type : {RecordType::kData, RecordType::kControl, RecordType::kData}) {
    const Opened opened = opener_.Open(rest);
    ASSERT_EQ(opened.verdict, Verdict::kOpened);
    EXPECT_EQ(opened.type, type);
    EXPECT_EQ(opened.payload.data(), rest.data() + kHeaderSize) << "decrypted in place";
    rest = rest.subspan(opened.size);
  }
  EXPECT_TRUE(rest.empty());
}

// Opens `record` with 8 bytes to open it into, and says whether it went there.
bool GoesElsewhere(RecordOpener& opener, base::Bytes record, std::string_view text) {
  base::Bytes elsewhere(8, std::byte{0x55});
  const Opened opened = opener.Open(record, elsewhere);
  EXPECT_EQ(opened.verdict, Verdict::kOpened);
  EXPECT_EQ(base::AsText(opened.payload), text);
  const bool there = opened.payload.data() == elsewhere.data();
  const std::size_t taken = there ? text.size() : 0;
  EXPECT_TRUE(std::all_of(elsewhere.begin() + std::ptrdiff_t(taken), elsewhere.end(),
                          [](std::byte b) { return b == std::byte{0x55}; }));
  return there;
}

TEST_F(OpenerTest, OpensDataThatFitsWhereItIsWanted) {
  EXPECT_TRUE(GoesElsewhere(opener_, first_, "first"));
  EXPECT_FALSE(GoesElsewhere(opener_, second_, "second")) << "control stays in the buffer";
  EXPECT_TRUE(GoesElsewhere(opener_, third_, ""));
  EXPECT_FALSE(
      GoesElsewhere(opener_, SealRecord(sealer_, RecordType::kData, "too large"), "too large"));
}

TEST_F(PlainOpenerTest, OpensDataThatFitsWhereItIsWanted) {
  EXPECT_TRUE(GoesElsewhere(opener_, first_, "first"));
  EXPECT_FALSE(GoesElsewhere(opener_, second_, "second"));
}

TEST_F(OpenerTest, OpensTheLargestPayload) {
  const std::string payload(kMaxPayload, 'x');
  const keys::KeySchedule schedule = MakeSchedule();
  Sealer sealer = MakeSealer(schedule);
  EXPECT_EQ(OpenText(opener_, SealRecord(sealer, RecordType::kData, payload)), payload);
}

TEST_F(OpenerTest, OpensTheEnd) {
  for (const base::Bytes& record : {first_, second_, third_}) (void)OpenText(opener_, record);
  EXPECT_EQ(OpenText(opener_, SealRecord(sealer_, RecordType::kFinal, "")), "");
  EXPECT_TRUE(opener_.ended());
}

TEST_F(OpenerTest, NeedsMoreForEveryShortPrefix) {
  for (std::size_t size = 0; size < first_.size(); ++size) {
    const Opened opened =
        OpenCopy(opener_, base::Bytes(first_.begin(), first_.begin() + std::ptrdiff_t(size)));
    EXPECT_EQ(opened.verdict, Verdict::kNeedMore) << size;
    EXPECT_EQ(opened.size, size < kHeaderSize ? kHeaderSize : first_.size()) << size;
  }
  EXPECT_EQ(OpenText(opener_, first_), "first");
}

TEST_F(PlainOpenerTest, NeedsMoreForEveryShortPrefix) {
  ASSERT_EQ(first_.size(), kHeaderSize + 5);
  for (std::size_t size = 0; size < first_.size(); ++size) {
    const Opened opened =
        OpenCopy(opener_, base::Bytes(first_.begin(), first_.begin() + std::ptrdiff_t(size)));
    EXPECT_EQ(opened.verdict, Verdict::kNeedMore) << size;
    EXPECT_EQ(opened.size, size < kHeaderSize ? kHeaderSize : first_.size()) << size;
  }
}

TEST_F(PlainOpenerTest, OpensDataInTheClearAndControlSealed) {
  EXPECT_EQ(OpenText(opener_, first_), "first");
  EXPECT_EQ(OpenText(opener_, second_), "second");
  EXPECT_EQ(OpenText(opener_, third_), "");
}

// ---- The ways the wire can lie: damage ----

TEST_F(OpenerTest, RejectsEveryFlippedHeaderBit) {
  for (std::size_t bit = 0; bit < kHeaderSize * 8; ++bit) {
    base::Bytes damaged = first_;
    FlipBit(damaged, bit);
    SCOPED_TRACE(bit);
    ExpectRejectedInTheEnd(damaged);
    opener_.Reset();
  }
  EXPECT_EQ(OpenText(opener_, first_), "first");
}

TEST_F(OpenerTest, RejectsEveryFlippedPayloadBit) {
  for (std::size_t bit = kHeaderSize * 8; bit < (first_.size() - kTagSize) * 8; ++bit) {
    base::Bytes damaged = first_;
    FlipBit(damaged, bit);
    ExpectRejected(damaged);
    opener_.Reset();
  }
  EXPECT_EQ(OpenText(opener_, first_), "first");
}

TEST_F(OpenerTest, RejectsEveryFlippedTagBit) {
  for (std::size_t bit = (first_.size() - kTagSize) * 8; bit < first_.size() * 8; ++bit) {
    base::Bytes damaged = first_;
    FlipBit(damaged, bit);
    ExpectRejected(damaged);
    opener_.Reset();
  }
  EXPECT_EQ(OpenText(opener_, first_), "first");
}

TEST_F(PlainOpenerTest, RejectsEveryFlippedHeaderBitButThoseOfTheLength) {
  for (std::size_t bit = 0; bit < 16 * 8; ++bit) {
    base::Bytes damaged = first_;
    FlipBit(damaged, bit);
    SCOPED_TRACE(bit);
    ExpectRejectedInTheEnd(damaged);
    opener_.Reset();
  }
}

TEST_F(PlainOpenerTest, RejectsWhatFollowsDataOfAChangedLength) {
  base::Bytes longer = Join({first_, second_});
  FlipBit(longer, 19 * 8 + 1);  // 5 becomes 7
  const Opened opened = OpenCopy(opener_, longer);
  ASSERT_EQ(opened.verdict, Verdict::kOpened);
  longer.erase(longer.begin(), longer.begin() + std::ptrdiff_t(opened.size));
  ExpectRejected(longer);
}

TEST_F(OpenerTest, ShowsNothingOfAForgery) {
  base::Bytes damaged = first_;
  damaged.back() ^= std::byte{1};
  const Opened opened = opener_.Open(damaged);
  EXPECT_TRUE(opened.payload.empty());
  EXPECT_TRUE(std::all_of(damaged.begin() + kHeaderSize, damaged.end() - kTagSize,
                          [](std::byte b) { return b == std::byte{0}; }));
}

TEST_F(OpenerTest, ShowsNothingOfAForgeryWhereItWasWanted) {
  base::Bytes damaged = first_;
  damaged.back() ^= std::byte{1};
  base::Bytes elsewhere(first_.size(), std::byte{0x55});
  EXPECT_EQ(opener_.Open(damaged, elsewhere).verdict, Verdict::kRejected);
  EXPECT_TRUE(std::all_of(elsewhere.begin(), elsewhere.begin() + 5,
                          [](std::byte b) { return b == std::byte{0}; }));
  opener_.Reset();
  EXPECT_TRUE(GoesElsewhere(opener_, first_, "first")) << "the same record, come again";
}

TEST_F(OpenerTest, RejectsARecordCutShort) {
  base::Bytes cut(first_.begin(), first_.end() - 1);
  ExpectRejected(Join({cut, second_}));
}

TEST_F(OpenerTest, RejectsBytesBetweenRecords) {
  EXPECT_EQ(OpenText(opener_, first_), "first");
  ExpectRejected(Join({{std::byte{0}}, second_}));
}

TEST_F(OpenerTest, RejectsARecordMadeLonger) {
  base::Bytes longer = first_;
  longer.insert(longer.end() - kTagSize, std::byte{0});
  longer[kHeaderSize - 1] ^= std::byte{5 ^ 6};
  ExpectRejected(longer);
}

TEST_F(OpenerTest, RejectsARecordMadeShorter) {
  base::Bytes shorter = first_;
  shorter.erase(shorter.begin() + kHeaderSize + 4);
  shorter[kHeaderSize - 1] ^= std::byte{5 ^ 4};
  ExpectRejected(shorter);
}

// ---- Order ----

TEST_F(OpenerTest, RejectsAReplay) {
  EXPECT_EQ(OpenText(opener_, first_), "first");
  ExpectRejected(first_);
}

TEST_F(OpenerTest, RejectsAGap) {
  EXPECT_EQ(OpenText(opener_, first_), "first");
  ExpectRejected(third_);
}

TEST_F(OpenerTest, RejectsSwappedRecords) { ExpectRejected(Join({second_, first_})); }

TEST_F(OpenerTest, RejectsARenumberedReplay) {
  EXPECT_EQ(OpenText(opener_, first_), "first");
  base::Bytes renumbered = first_;
  renumbered[15] = std::byte{1};
  ExpectRejected(renumbered);
}

TEST_F(PlainOpenerTest, RejectsAReplay) {
  EXPECT_EQ(OpenText(opener_, first_), "first");
  ExpectRejected(first_);
}

TEST_F(PlainOpenerTest, RejectsAGap) { ExpectRejected(third_); }

// ---- Somebody else's records ----

TEST_F(OpenerTest, RejectsAnotherStream) {
  Sealer other =
      Sealer::Create(schedule_, BestBackend().value(), kStream + 1, kForward, kSealed).value();
  base::Bytes record = SealRecord(other, RecordType::kData, "first");
  ExpectRejected(record);
  opener_.Reset();
  record[5] = std::byte{kStream};  // the same, with our number on it
  ExpectRejected(record);
}

TEST_F(OpenerTest, RejectsAnotherDirection) {
  Sealer other =
      Sealer::Create(schedule_, BestBackend().value(), kStream, kBackward, kSealed).value();
  ExpectRejected(SealRecord(other, RecordType::kData, "first"));
}

TEST_F(OpenerTest, RejectsAnotherMigrationsKey) {
  const keys::KeySchedule other = MakeSchedule(1);
  Sealer sealer = MakeSealer(other);
  ExpectRejected(SealRecord(sealer, RecordType::kData, "first"));
}

TEST_F(OpenerTest, RejectsAnotherMigrationsSpec) {
  const keys::KeySchedule other = MakeSchedule(0, "another vm");
  Sealer sealer = MakeSealer(other);
  ExpectRejected(SealRecord(sealer, RecordType::kData, "first"));
}

// ---- Forms that are not allowed ----

TEST_F(OpenerTest, RejectsOtherVersions) {
  for (const int version : {0, 2, 255}) {
    base::Bytes record = first_;
    record[0] = static_cast<std::byte>(version);
    ExpectRejected(record);
    opener_.Reset();
  }
}

TEST_F(OpenerTest, RejectsUnknownTypes) {
  for (int type = 0; type < 256; ++type) {
    if (type >= 1 && type <= 3) continue;
    const RecordHeader header{static_cast<RecordType>(type), 0, kStream, 0, 0};
    ExpectRejected(HeaderBytesOf(header));
    opener_.Reset();
  }
}

TEST_F(OpenerTest, RejectsZeros) { ExpectRejected(base::Bytes(100)); }

TEST_F(OpenerTest, RejectsAnOversizeLengthBeforeItsBodyCame) {
  for (const std::uint32_t length : {std::uint32_t{kMaxPayload} + 1, 0x80000000U, 0xffffffffU}) {
    ExpectRejected(HeaderBytesOf({RecordType::kData, 0, kStream, 0, length}));
    opener_.Reset();
  }
  const Opened largest =
      OpenCopy(opener_, HeaderBytesOf({RecordType::kData, 0, kStream, 0, kMaxPayload}));
  EXPECT_EQ(largest.verdict, Verdict::kNeedMore);
  EXPECT_EQ(largest.size, kHeaderSize + kMaxPayload + kTagSize);
}

TEST_F(PlainOpenerTest, RejectsAnOversizeLengthBeforeItsBodyCame) {
  ExpectRejected(HeaderBytesOf({RecordType::kData, kFlagPlain, kStream, 0, kMaxPayload + 1}));
}

TEST_F(OpenerTest, RejectsAFinalRecordWithAPayload) {
  ExpectRejected(HeaderBytesOf({RecordType::kFinal, 0, kStream, 0, 1}));
}

TEST_F(OpenerTest, RejectsAnAcknowledgement) {
  AcknowledgementSealer acknowledger =
      AcknowledgementSealer::Create(schedule_, BestBackend().value(), kStream, kForward, 0).value();
  base::Bytes out(AcknowledgementSealer::kSize);
  ASSERT_TRUE(acknowledger.Seal(0, out).ok());
  ExpectRejected(out);
  opener_.Reset();
  out[1] = std::byte{1};  // the same, called data
  ExpectRejected(out);
}

TEST_F(OpenerTest, RejectsPlainData) {
  const keys::KeySchedule same = MakeSchedule();
  Sealer plain = MakeSealer(same, kPlain);
  ExpectRejected(SealRecord(plain, RecordType::kData, "first"));
}

TEST_F(PlainOpenerTest, RejectsSealedData) {
  const keys::KeySchedule same = MakeSchedule();
  Sealer sealed = MakeSealer(same, kSealed);
  ExpectRejected(SealRecord(sealed, RecordType::kData, "first"));
}

TEST_F(PlainOpenerTest, RejectsPlainControlAndPlainEnd) {
  ExpectRejected(HeaderBytesOf({RecordType::kControl, kFlagPlain, kStream, 0, 0}));
  opener_.Reset();
  ExpectRejected(HeaderBytesOf({RecordType::kFinal, kFlagPlain, kStream, 0, 0}));
}

// ---- State ----

TEST_F(OpenerTest, RejectsAnythingAfterTheEnd) {
  for (const base::Bytes& record : {first_, second_, third_}) (void)OpenText(opener_, record);
  (void)OpenText(opener_, SealRecord(sealer_, RecordType::kFinal, ""));
  EXPECT_EQ(OpenCopy(opener_, {}).verdict, Verdict::kNeedMore) << "nothing is not a lie";
  ExpectRejected({std::byte{1}});
  opener_.Reset();
  ExpectRejected(HeaderBytesOf({RecordType::kData, 0, kStream, 4, 0}));
  EXPECT_TRUE(opener_.ended());
}

TEST_F(OpenerTest, StaysRejected) {
  ExpectRejected(second_);
  ExpectRejected(first_);
  ExpectRejected({});
}

TEST_F(OpenerTest, GoesOnWhereItWasAfterAReset) {
  EXPECT_EQ(OpenText(opener_, first_), "first");
  ExpectRejected(third_);
  opener_.Reset();
  EXPECT_EQ(opener_.next_sequence(), 1U);
  ExpectRejected(first_);
  opener_.Reset();
  EXPECT_EQ(OpenText(opener_, second_), "second");
  EXPECT_EQ(OpenText(opener_, third_), "");
}

TEST_F(OpenerTest, RejectsTheLastSequenceNumber) {
  constexpr std::uint64_t kLast = std::numeric_limits<std::uint64_t>::max();
  RecordOpener opener = MakeOpener(schedule_, kSealed, {.first = kLast});
  const base::Bytes header = HeaderBytesOf({RecordType::kData, 0, kStream, kLast, 0});
  EXPECT_EQ(OpenCopy(opener, header).verdict, Verdict::kRejected);
}

// ---- Rekeying ----

constexpr unsigned kNever = 63;

TEST(Rekey, GoesUnnoticedOnBothSides) {
  const keys::KeySchedule schedule = MakeSchedule();
  Sealer sealer = MakeSealer(schedule, kSealed, {.rekey_shift = 2});
  RecordOpener opener = MakeOpener(schedule, kSealed, {.rekey_shift = 2});
  for (int i = 0; i < 20; ++i) {
    const std::string payload = std::to_string(i);
    EXPECT_EQ(OpenText(opener, SealRecord(sealer, RecordType::kData, payload)), payload);
  }
}

// The verdict of an opener that rekeys every 4 records on record `sequence` under the first key.
Verdict OpenUnderFirstKey(std::uint64_t sequence) {
  const keys::KeySchedule schedule = MakeSchedule();
  Sealer sealer = MakeSealer(schedule, kSealed, {.first = sequence, .rekey_shift = kNever});
  RecordOpener opener = MakeOpener(schedule, kSealed, {.first = sequence, .rekey_shift = 2});
  return OpenCopy(opener, SealRecord(sealer, RecordType::kData, "old key")).verdict;
}

TEST(Rekey, RejectsRecordsUnderTheOldKey) {
  EXPECT_EQ(OpenUnderFirstKey(3), Verdict::kOpened);
  EXPECT_EQ(OpenUnderFirstKey(4), Verdict::kRejected);
}

TEST(Rekey, HappensAfterAllRecordsOfAKey) {
  const keys::KeySchedule schedule = MakeSchedule();
  const Sequencing real{.first = kRecordsPerKey - 1};
  const Sequencing without{.first = kRecordsPerKey - 1, .rekey_shift = kNever};
  Sealer sealer = MakeSealer(schedule, kSealed, real);
  RecordOpener opener = MakeOpener(schedule, kSealed, real);
  RecordOpener never = MakeOpener(schedule, kSealed, without);
  const base::Bytes last = SealRecord(sealer, RecordType::kData, "last of the key");
  const base::Bytes next = SealRecord(sealer, RecordType::kData, "first of the next");
  EXPECT_EQ(OpenText(opener, last), "last of the key");
  EXPECT_EQ(OpenText(opener, next), "first of the next");
  EXPECT_EQ(OpenText(never, last), "last of the key");
  EXPECT_EQ(OpenCopy(never, next).verdict, Verdict::kRejected);
}

}  // namespace
}  // namespace sealift::record
