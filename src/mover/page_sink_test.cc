// A source that lies: nothing outside of the agreed blocks is ever touched.
#include "mover/page_sink.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <vector>

#include "mover/testing_memory.h"

namespace sealift::mover {
namespace {

using record::RecordType;
using testing::TestMemory;

constexpr std::uint64_t kPages = 64;

class PageSinkTest : public ::testing::Test {
 protected:
  PageSinkTest() {
    memory_.push_back(
        GuestMemory::Map(file_.Duplicate(), file_.size(), MemoryAccess::kWrite).value());
  }

  absl::Status Say(const PageMessage& message) {
    return Receive(RecordType::kControl, EncodePageMessage(message));
  }
  absl::Status Send(std::size_t size, std::byte fill = std::byte{0xee}) {
    return Receive(RecordType::kData, base::Bytes(size, fill));
  }
  absl::Status Receive(RecordType type, const base::Bytes& bytes) {
    return sink_.Receive({type, bytes});
  }
  [[nodiscard]] std::byte FirstByteOf(std::uint64_t page) { return file_.page(page)[0]; }
  [[nodiscard]] bool IsUntouched() const { return file_.PopulatedBlocks() == 0; }

  TestMemory file_{kPages};
  std::vector<GuestMemory> memory_;
  PageSink sink_{memory_};
};

TEST_F(PageSinkTest, PutsPagesWhereTheyWereAnnounced) {
  ASSERT_TRUE(Say(PagesMessage{{{0, 3, 2}, {0, kPages - 1, 1}}}).ok());
  ASSERT_TRUE(Send(kPageSize, std::byte{1}).ok());
  ASSERT_TRUE(Send(2 * kPageSize, std::byte{2}).ok());
  EXPECT_EQ(FirstByteOf(3), std::byte{1});
  EXPECT_EQ(FirstByteOf(4), std::byte{2});
  EXPECT_EQ(FirstByteOf(kPages - 1), std::byte{2});
  ASSERT_TRUE(Say(ZeroPagesMessage{{{0, 4, 1}}}).ok());
  EXPECT_EQ(FirstByteOf(4), std::byte{0});
  EXPECT_TRUE(Say(RoundMessage{1}).ok());
}

TEST_F(PageSinkTest, HasPagesOpenedInGuestMemory) {
  EXPECT_TRUE(sink_.Destination().empty());
  ASSERT_TRUE(Say(PagesMessage{{{0, 3, 2}, {0, 9, 1}}}).ok());
  const base::MutableByteSpan first = sink_.Destination();
  ASSERT_EQ(first.size(), 2 * kPageSize);
  first.front() = std::byte{1};
  ASSERT_TRUE(sink_.Receive({RecordType::kData, first.first(kPageSize)}).ok());
  EXPECT_EQ(FirstByteOf(3), std::byte{1});
  EXPECT_EQ(sink_.Destination().data(), first.data() + kPageSize);
  ASSERT_TRUE(Send(2 * kPageSize, std::byte{2}).ok());
  EXPECT_EQ(FirstByteOf(4), std::byte{2});
  EXPECT_EQ(FirstByteOf(9), std::byte{2});
  EXPECT_TRUE(sink_.Destination().empty());
}

TEST_F(PageSinkTest, RefusesABlockThatDoesNotExist) {
  EXPECT_FALSE(Say(PagesMessage{{{1, 0, 1}}}).ok());
  EXPECT_FALSE(Say(ZeroPagesMessage{{{65535, 0, 1}}}).ok());
  EXPECT_TRUE(IsUntouched());
}

TEST_F(PageSinkTest, RefusesPagesOutsideOfTheBlock) {
  constexpr std::uint64_t kHuge = std::numeric_limits<std::uint64_t>::max();
  for (const PageRange& range :
       {PageRange{0, kPages, 1}, PageRange{0, kPages - 1, 2}, PageRange{0, 0, kPages + 1},
        PageRange{0, kHuge, 1}, PageRange{0, kHuge - 1, 3},
        PageRange{0, kHuge / kPageSize + 1, 1}}) {
    EXPECT_FALSE(Say(PagesMessage{{range}}).ok()) << range.first;
    EXPECT_FALSE(Say(ZeroPagesMessage{{range}}).ok()) << range.first;
  }
  EXPECT_TRUE(IsUntouched());
}

// However small the message, what it orders takes no longer than a stripe.
TEST_F(PageSinkTest, RefusesMoreZeroPagesThanAStripeHas) {
  std::vector<PageRange> again(kStripePages / kPages + 1, {0, 0, kPages});
  EXPECT_FALSE(Say(ZeroPagesMessage{again}).ok());
  EXPECT_TRUE(IsUntouched());
  again.pop_back();
  EXPECT_TRUE(Say(ZeroPagesMessage{again}).ok());
}

TEST_F(PageSinkTest, RefusesPagesThatWereNotAnnounced) {
  EXPECT_FALSE(Send(kPageSize).ok());
  EXPECT_TRUE(IsUntouched());
}

TEST_F(PageSinkTest, RefusesMorePagesThanWereAnnounced) {
  ASSERT_TRUE(Say(PagesMessage{{{0, 0, 1}}}).ok());
  EXPECT_FALSE(Send(2 * kPageSize).ok());
  EXPECT_EQ(FirstByteOf(1), std::byte{0});
}

TEST_F(PageSinkTest, RefusesPartsOfAPage) {
  ASSERT_TRUE(Say(PagesMessage{{{0, 0, 2}}}).ok());
  EXPECT_FALSE(Send(0).ok());
  EXPECT_FALSE(Send(kPageSize - 1).ok());
  EXPECT_FALSE(Send(kPageSize + 1).ok());
  EXPECT_TRUE(IsUntouched());
}

TEST_F(PageSinkTest, RefusesAnythingElseWhilePagesAreDue) {
  ASSERT_TRUE(Say(PagesMessage{{{0, 0, 1}}}).ok());
  EXPECT_FALSE(Say(PagesMessage{{{0, 1, 1}}}).ok());
  EXPECT_FALSE(Say(ZeroPagesMessage{{{0, 0, 1}}}).ok());
  EXPECT_FALSE(Say(RoundMessage{1}).ok());
  EXPECT_FALSE(Receive(RecordType::kFinal, {}).ok());
}

TEST_F(PageSinkTest, RefusesARoundThatIsNotTheNext) {
  EXPECT_FALSE(Say(RoundMessage{0}).ok());
  EXPECT_FALSE(Say(RoundMessage{2}).ok());
  EXPECT_TRUE(Say(RoundMessage{1}).ok());
  EXPECT_FALSE(Say(RoundMessage{2}).ok()) << "before the first was confirmed";
}

TEST_F(PageSinkTest, RefusesAConfirmationAndNonsense) {
  EXPECT_FALSE(Say(AppliedMessage{1, 0, 0}).ok());
  EXPECT_FALSE(Receive(RecordType::kControl, {}).ok());
  EXPECT_FALSE(Receive(RecordType::kControl, base::Bytes(100)).ok());
}

TEST(GuestMemory, MustBeOfTheSizeThatWasAgreed) {
  const TestMemory file(kPages);
  for (const std::uint64_t size :
       {std::uint64_t{0}, file.size() - kPageSize, file.size() + kPageSize, file.size() - 1}) {
    EXPECT_FALSE(GuestMemory::Map(file.Duplicate(), size, MemoryAccess::kWrite).ok()) << size;
  }
}

TEST(GuestMemory, FindsWhatIsPopulated) {
  TestMemory file(kPages);
  const GuestMemory memory =
      GuestMemory::Map(file.Duplicate(), file.size(), MemoryAccess::kRead).value();
  EXPECT_EQ(memory.NextPopulated(0, kPages)->first, kPages);
  EXPECT_EQ(*memory.PopulatedBytes(), 0);
  for (const std::uint64_t page : {10U, 11U, 40U}) file.Write(page, 1);
  EXPECT_EQ(*memory.PopulatedBytes(), 3 * kPageSize);
  const auto run = *memory.NextPopulated(0, kPages);
  EXPECT_EQ(run.first, 10);
  EXPECT_EQ(run.end, 12);
  EXPECT_EQ(memory.NextPopulated(11, kPages)->first, 11);
  EXPECT_EQ(memory.NextPopulated(12, 40)->first, 40) << "beyond the end";
}

}  // namespace
}  // namespace sealift::mover
