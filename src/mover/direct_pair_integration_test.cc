// A direct copy between two mover processes, with the test as the guest, as both agents and as the
// network.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "base/socket.h"
#include "base/testing.h"
#include "mover/page_source.h"
#include "mover/testing.h"
#include "mover/testing_memory.h"
#include "mover/testing_mover.h"
#include "mover/testing_proxy.h"

namespace sealift::mover {
namespace {

using keys::Protection;
using testing::MoverProcess;
using testing::Piece;
using testing::Proxy;
using testing::SocketPair;
using testing::Spec;
using testing::TestMemory;
using testing::Tracking;
using testing::Way;
using Verdict = testing::Proxy::Verdict;

// QEMU's channel and two of pages.
constexpr std::uint16_t kStreams = 3;
constexpr std::uint64_t kPages = 8 * kStripePages;
constexpr std::uint64_t kOddPages = kStripePages + 5;

class DirectPairTest : public ::testing::Test {
 protected:
  // Guest RAM of two blocks, the second no multiple of a stripe.
  DirectPairTest() {
    for (const std::uint64_t pages : {kPages, kOddPages}) {
      before_.push_back(std::make_unique<TestMemory>(pages));
      after_.push_back(std::make_unique<TestMemory>(pages));
      tracking_.push_back(std::make_unique<Tracking>(*before_.back()));
    }
  }

  void StartBoth(Protection protection = Protection::kSealed, Proxy::Tap tap = {}) {
    keys::MigrationSpec spec = Spec(protection, kStreams);
    spec.engine = keys::Engine::kDirect;
    auto listener = base::ListenTcp("127.0.0.1", 0, 0).value();
    SocketPair channel;
    destination_qemu_ = std::move(channel.a);
    std::vector<int> fds = {listener.first.get(), channel.b.get()};
    std::vector<RamBlock> blocks;
    for (const auto& memory : after_) {
      fds.push_back(memory->file());
      blocks.push_back({memory->size(), 0});
    }
    destination_.Takes(blocks);
    destination_.Start(Role::kDestination, spec, fds);
    proxy_ = std::make_unique<Proxy>(listener.second, std::move(tap));
    source_.ConnectTo(proxy_->port());
    StartSource(spec);
    ASSERT_TRUE(source_.WaitEstablished() && destination_.WaitEstablished());
  }

  void StartSource(const keys::MigrationSpec& spec) {
    const std::string path = folder_ / "out.sock";
    const base::UniqueFd listener = base::ListenUnix(path, SOCK_STREAM, 0600).value();
    source_.Start(Role::kSource, spec, {listener.get()});
    source_qemu_ = base::ConnectUnix(path, SOCK_STREAM, testing::kPatience).value();
  }

  void Begin() {
    BeginCopy begin;
    begin.downtime_limit_ms = 300;
    // Both blocks are of this process; each userfaultfd tracks one of them.
    std::vector<int> fds = {tracking_[0]->pagemap.get(), tracking_[0]->userfaultfd.get()};
    for (const auto& memory : before_) {
      begin.blocks.push_back({memory->size(), memory->address()});
      fds.push_back(memory->file());
    }
    ASSERT_TRUE(source_.Begin(begin, fds));
  }

  void FinishAndCompare() {
    ASSERT_TRUE(source_.WaitCopy(CopyPhase::kConverged));
    writer_stops_ = true;
    if (writer_.joinable()) writer_.join();
    ASSERT_TRUE(source_.Finish());
    ASSERT_TRUE(source_.WaitCopy(CopyPhase::kFinished)) << source_.WaitFailed();
    for (std::size_t i = 0; i < before_.size(); ++i) {
      EXPECT_EQ(before_[i]->Differs(*after_[i]), 0) << "block " << i;
    }
  }

  void FillHalf() {
    for (const auto& memory : before_) {
      for (std::uint64_t page = 0; page < memory->pages(); page += 2) memory->Write(page, 1);
    }
  }

  // A guest that never stops: it rewrites pages everywhere, some of them to zeros, each the more
  // often the lower its number is.
  void StartWriter(std::uint64_t pages_between_pauses) {
    writer_ = std::thread([this, pages_between_pauses] {
      std::uint64_t state = 1;
      std::uint32_t version = 2;
      while (!writer_stops_) {
        for (std::uint64_t i = 0; i < pages_between_pauses; ++i, ++version) {
          state = state * 6364136223846793005U + 1442695040888963407U;
          TestMemory& memory = *before_[(state >> 20) % before_.size()];
          const std::uint64_t hot = (state >> 40) % 4 == 0 ? memory.pages() : 64;
          memory.Write((state >> 33) % hot, version % 5 == 0 ? 0 : version);
        }
        std::this_thread::yield();
      }
    });
  }

  void TearDown() override {
    writer_stops_ = true;
    if (writer_.joinable()) writer_.join();
  }

  const base::TestFolder folder_;
  std::vector<std::unique_ptr<TestMemory>> before_;
  std::vector<std::unique_ptr<TestMemory>> after_;
  std::vector<std::unique_ptr<Tracking>> tracking_;
  MoverProcess source_;
  MoverProcess destination_;
  std::unique_ptr<Proxy> proxy_;
  base::UniqueFd source_qemu_;
  base::UniqueFd destination_qemu_;
  std::atomic<bool> writer_stops_{false};
  std::thread writer_;
};

TEST_F(DirectPairTest, CopiesMemoryThatStandsStill) {
  FillHalf();
  StartBoth();
  Begin();
  FinishAndCompare();
  EXPECT_GE(source_.copy().copied_bytes, (kPages + kOddPages) / 2 * kPageSize);
}

TEST_F(DirectPairTest, CopiesInTheClear) {
  FillHalf();
  StartBoth(Protection::kPlain);
  Begin();
  FinishAndCompare();
}

TEST_F(DirectPairTest, LosesNoWriteOfAGuestThatNeverStops) {
  FillHalf();
  StartBoth();
  StartWriter(64);
  Begin();
  FinishAndCompare();
  EXPECT_GT(source_.copy().round, 2);
}

TEST_F(DirectPairTest, LeavesUntouchedMemoryUntouched) {
  before_[0]->Write(3, 1);
  before_[0]->Write(4, 0);  // touched, but zero
  StartBoth();
  Begin();
  FinishAndCompare();
  EXPECT_EQ(source_.copy().copied_bytes, kPageSize);
}

TEST_F(DirectPairTest, PagesThatBecomeZeroAreZeroThere) {
  FillHalf();
  StartBoth();
  Begin();
  ASSERT_TRUE(source_.WaitCopy(CopyPhase::kConverged));
  for (std::uint64_t page = 0; page < kPages; page += 2) before_[0]->Write(page, 0);
  FinishAndCompare();
}

TEST_F(DirectPairTest, EndsTheStreamsOfPages) {
  FillHalf();
  StartBoth();
  Begin();
  FinishAndCompare();
  // What is left is QEMU's channel and the agents' stream.
  source_qemu_.reset();
  destination_qemu_.reset();
  source_.peer().reset();
  destination_.peer().reset();
  EXPECT_TRUE(source_.WaitEnded());
  EXPECT_TRUE(destination_.WaitEnded());
}

// Which connection of the proxy carries which stream, from the opening of each hello.
class Streams {
 public:
  void See(const Piece& piece) {
    if (piece.way != Way::kToDestination || piece.offset != 0) return;
    constexpr std::size_t kStreamOffset = 6;
    const std::lock_guard lock(*mutex_);
    (*connections_)[base::LoadBig<std::uint16_t>(piece.bytes.subspan(kStreamOffset))] =
        piece.connection;
  }
  [[nodiscard]] std::size_t ConnectionOf(std::uint16_t stream) const {
    const std::lock_guard lock(*mutex_);
    return connections_->at(stream);
  }

 private:
  std::shared_ptr<std::mutex> mutex_ = std::make_shared<std::mutex>();
  std::shared_ptr<std::map<std::uint16_t, std::size_t>> connections_ =
      std::make_shared<std::map<std::uint16_t, std::size_t>>();
};

// The order argument: whatever one stream holds back, no old copy lands on a newer one.
TEST_F(DirectPairTest, AStalledStreamLosesNoWrite) {
  FillHalf();
  Streams streams;
  StartBoth(Protection::kSealed, [streams](const Piece& piece) mutable {
    streams.See(piece);
    return Verdict::kPass;
  });
  StartWriter(64);
  Begin();
  ASSERT_TRUE(proxy_->Stall(streams.ConnectionOf(kStreams)));
  // Meanwhile the other one has sent all it can of the round, and no other round begins.
  ASSERT_TRUE(source_.WaitCounters(2));
  const std::uint32_t round = source_.copy().round;
  ASSERT_TRUE(source_.WaitCounters(3));
  EXPECT_EQ(source_.copy().round, round);
  proxy_->Release();
  FinishAndCompare();
}

TEST_F(DirectPairTest, LostConnectionsLoseNoWrite) {
  FillHalf();
  std::size_t carried = 0;
  int cuts = 0;
  StartBoth(Protection::kSealed, [carried, cuts](const Piece& piece) mutable {
    constexpr std::size_t kCutEvery = 7'000'000;
    constexpr int kCuts = 5;
    if (piece.way == Way::kToDestination) carried += piece.bytes.size();
    if (carried < kCutEvery || cuts == kCuts) return Verdict::kPass;
    carried = 0;
    ++cuts;
    return Verdict::kCut;
  });
  StartWriter(16);
  Begin();
  FinishAndCompare();
  EXPECT_GT(proxy_->connections(), std::size_t{1} + kStreams);
}

TEST_F(DirectPairTest, AGuestThatIsNotTrackedAnyMoreEndsTheCopy) {
  FillHalf();
  StartBoth();
  tracking_[1].reset();  // of the second block
  Begin();
  EXPECT_NE(source_.WaitFailed(), "");
}

}  // namespace
}  // namespace sealift::mover
