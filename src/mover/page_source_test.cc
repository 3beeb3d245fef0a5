// What a source says on its page streams: every page always on the same one.
#include "mover/page_source.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "mover/page_sink.h"
#include "mover/testing.h"
#include "mover/testing_memory.h"

namespace sealift::mover {
namespace {

using record::RecordType;
using testing::TestMemory;
using testing::Tracking;

constexpr std::uint64_t kOdd = 5;
constexpr std::uint64_t kSizes[] = {4 * kStripePages + kOdd, 2 * kStripePages, kOdd};
constexpr std::uint64_t kFirstStripes[] = {0, 5, 7};  // of each block

// The two ends of one page stream, and whatever the source names on it.
class PageStream {
 public:
  PageStream(const keys::KeySchedule& schedule, std::uint16_t stream, std::unique_ptr<Channel> from,
             const std::vector<GuestMemory>& to)
      : source_(Make(schedule, stream, keys::Direction::kToDestination)),
        destination_(Make(schedule, stream, keys::Direction::kToSource)),
        from_(std::move(from)),
        to_(to) {
    EXPECT_TRUE(source_.Attach(1, 0).ok());
    EXPECT_TRUE(destination_.Attach(1, 0).ok());
  }

  // Goes on until neither side has anything to say.
  void Settle() {
    while (from_->HasMore() || to_.HasMore()) {
      while (from_->HasMore() && source_.HasRoom()) ASSERT_TRUE(from_->Send(source_).ok());
      Carry(source_, destination_, [this](const transport::Delivery& delivery) {
        if (delivery.type == RecordType::kControl) Note(delivery.payload);
        return to_.Receive(delivery);
      });
      while (to_.HasMore()) ASSERT_TRUE(to_.Send(destination_).ok());
      Carry(destination_, source_,
            [this](const transport::Delivery& delivery) { return from_->Receive(delivery); });
    }
  }

  std::vector<PageRange> TakeNamed() { return std::exchange(named_, {}); }

 private:
  static transport::Stream Make(const keys::KeySchedule& schedule, std::uint16_t stream,
                                keys::Direction sending) {
    return transport::Stream::Create(
               schedule, {.stream = stream, .sending = sending, .payload_size = kPagePayload})
        .value();
  }

  template <typename Receiver>
  static void Carry(transport::Stream& from, transport::Stream& to, const Receiver& receive) {
    for (base::ByteSpan bytes = from.Outgoing(); !bytes.empty(); bytes = from.Outgoing()) {
      const base::MutableByteSpan buffer = to.ReceiveBuffer();
      const std::size_t size = std::min(bytes.size(), buffer.size());
      std::copy_n(bytes.begin(), size, buffer.begin());
      to.Received(size);
      from.Sent(size);
      for (auto next = to.Next(); next.ok() && *next; next = to.Next()) {
        ASSERT_TRUE(receive(**next).ok());
      }
    }
  }

  void Note(base::ByteSpan payload) {
    const auto message = DecodePageMessage(payload);
    ASSERT_TRUE(message.ok()) << message.status();
    const auto add = [this](const std::vector<PageRange>& ranges) {
      named_.insert(named_.end(), ranges.begin(), ranges.end());
    };
    if (const auto* pages = std::get_if<PagesMessage>(&*message)) add(pages->ranges);
    if (const auto* zeros = std::get_if<ZeroPagesMessage>(&*message)) add(zeros->ranges);
  }

  transport::Stream source_;
  transport::Stream destination_;
  std::unique_ptr<Channel> from_;
  PageSink to_;
  std::vector<PageRange> named_;
};

// A guest whose memory is copied over `count` page streams.
class Copy : public CopyEvents {
 public:
  explicit Copy(std::size_t count)
      : schedule_(testing::Schedule(
            testing::Spec(keys::Protection::kSealed, static_cast<std::uint16_t>(1 + count)))) {
    for (const std::uint64_t pages : kSizes) {
      guest_.emplace_back(pages);
      tracking_.emplace_back(guest_.back());
      copy_.emplace_back(pages);
      blocks_.push_back({Map(guest_.back(), MemoryAccess::kRead), guest_.back().address()});
      to_.push_back(Map(copy_.back(), MemoryAccess::kWrite));
    }
    for (std::size_t index = 0; index < count; ++index) {
      const auto stream = static_cast<std::uint16_t>(2 + index);
      streams_.push_back(std::make_unique<PageStream>(
          schedule_, stream,
          std::make_unique<PageSource>(stream, index, count, blocks_, tracking_.front().process(),
                                       orders_, *this),
          to_));
    }
  }

  void OnApplied(std::uint16_t /*stream*/, std::uint32_t round) override {
    if (round == orders_.round) ++applied_;
  }

  // The guest writes the first and the last pages of each stripe, and one inside; version 0 are
  // zeros.
  void Write(std::uint32_t version) {
    for (TestMemory& block : guest_) {
      for (std::uint64_t stripe = 0; stripe < block.pages(); stripe += kStripePages) {
        const std::uint64_t last = std::min(stripe + kStripePages, block.pages()) - 1;
        for (const std::uint64_t page : {stripe, stripe + 1, (stripe + last) / 2, last}) {
          block.Write(page, version);
        }
      }
    }
  }

  // What was named on each stream in the next round.
  std::vector<std::vector<PageRange>> Round() {
    ++orders_.round;
    applied_ = 0;
    std::vector<std::vector<PageRange>> named;
    for (const auto& stream : streams_) {
      stream->Settle();
      named.push_back(stream->TakeNamed());
    }
    EXPECT_EQ(applied_, streams_.size());
    return named;
  }

  [[nodiscard]] std::uint64_t PagesThatDiffer() {
    std::uint64_t different = 0;
    for (std::size_t i = 0; i < guest_.size(); ++i) different += guest_[i].Differs(copy_[i]);
    return different;
  }

 private:
  static GuestMemory Map(const TestMemory& memory, MemoryAccess access) {
    return GuestMemory::Map(memory.Duplicate(), memory.size(), access).value();
  }

  keys::KeySchedule schedule_;
  std::deque<TestMemory> guest_;
  std::deque<Tracking> tracking_;
  std::deque<TestMemory> copy_;
  std::vector<SourceBlock> blocks_;
  std::vector<GuestMemory> to_;
  CopyOrders orders_;
  std::size_t applied_ = 0;
  std::vector<std::unique_ptr<PageStream>> streams_;
};

// The stripe that a range lies in; fails when it lies in several.
std::uint64_t StripeOf(const PageRange& range) {
  const std::uint64_t first = range.first / kStripePages;
  EXPECT_EQ((range.first + range.count - 1) / kStripePages, first) << "a range of two stripes";
  return kFirstStripes[range.block] + first;
}

// docs/decisions/0010: an old copy of a page never lands on a newer one, as both are on one stream.
TEST(PageSource, NamesEachPageOnTheStreamOfItsStripeInEveryRound) {
  for (const std::size_t count : {1U, 2U, 3U, 5U}) {
    Copy copy(count);
    for (const std::uint32_t version : {1U, 2U, 0U, 3U}) {
      copy.Write(version);
      const std::vector<std::vector<PageRange>> named = copy.Round();
      std::set<std::uint64_t> stripes;
      for (std::size_t index = 0; index < count; ++index) {
        for (const PageRange& range : named[index]) {
          stripes.insert(StripeOf(range));
          EXPECT_EQ(StripeOf(range) % count, index) << "block " << range.block;
        }
      }
      EXPECT_EQ(stripes.size(), 8) << "of " << count << " streams, version " << version;
      EXPECT_EQ(copy.PagesThatDiffer(), 0);
    }
  }
}

}  // namespace
}  // namespace sealift::mover
