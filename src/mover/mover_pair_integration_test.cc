// Two mover processes on one machine, with the test as QEMU, as both agents and as the network.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/testing.h"
#include "keys/random.h"
#include "mover/testing.h"
#include "mover/testing_mover.h"
#include "mover/testing_proxy.h"
#include "transport/hello.h"

namespace sealift::mover {
namespace {

using keys::Protection;
using std::chrono::milliseconds;
using testing::MoverProcess;
using testing::Piece;
using testing::Proxy;
using testing::ReceiveUpTo;
using testing::SendAll;
using testing::SocketPair;
using testing::Spec;
using testing::Text;
using testing::Way;
using Verdict = testing::Proxy::Verdict;

constexpr std::size_t kMegabyte = 1'000'000;
constexpr std::uint16_t kStreams = 3;
// The control stream has a connection too.
constexpr std::size_t kConnections = kStreams + 1;

// Transfer sends a text of its own both ways on every stream, all at once, each followed by the end
// of its direction.
class Transfer {
 public:
  struct Sizes {
    std::size_t there;
    std::size_t back;
  };

  // The second half of every text waits for Release().
  Transfer(const std::vector<base::UniqueFd>& source,
           const std::vector<base::UniqueFd>& destination, Sizes sizes) {
    for (std::size_t i = 0; i < source.size(); ++i) {
      Add(source[i].get(), destination[i].get(), sizes.there);
      Add(destination[i].get(), source[i].get(), sizes.back);
    }
  }

  // WaitHalf returns once the first half has arrived everywhere.
  void WaitHalf() {
    for (auto& half : halves_) half.wait();
  }
  void Release() { release_.set_value(); }
  // Whether every text has arrived, exact and with its end.
  [[nodiscard]] bool Arrives() {
    bool all = true;
    for (auto& arrived : arrivals_) all = arrived.get() && all;
    return all;
  }

 private:
  void Add(int from, int to, std::size_t size) {
    const auto seed = static_cast<unsigned>(arrivals_.size()) + 1;
    const auto text = std::make_shared<const std::string>(Text(size, seed));
    const std::size_t middle = size / 2;
    const auto half = std::make_shared<std::promise<void>>();
    halves_.push_back(half->get_future());
    senders_.push_back(std::async(std::launch::async, [=, released = released_] {
      const std::string_view all(*text);
      EXPECT_TRUE(SendAll(from, all.substr(0, middle)));
      released.wait();
      EXPECT_TRUE(SendAll(from, all.substr(middle)));
      shutdown(from, SHUT_WR);
    }));
    arrivals_.push_back(std::async(std::launch::async, [=] {
      std::string arrived = ReceiveUpTo(to, middle);
      half->set_value();
      arrived += ReceiveUpTo(to, text->size() + 1 - arrived.size());
      return arrived == *text;
    }));
  }

  std::promise<void> release_;
  const std::shared_future<void> released_ = release_.get_future().share();
  std::vector<std::future<void>> halves_;
  std::vector<std::future<void>> senders_;
  std::vector<std::future<bool>> arrivals_;
};

class MoverPairTest : public ::testing::Test {
 protected:
  void StartDestination(const keys::MigrationSpec& spec) {
    auto listener = base::ListenTcp("127.0.0.1", 0, 0).value();
    destination_port_ = listener.second;
    std::vector<base::UniqueFd> channels;
    std::vector<int> fds = {listener.first.get()};
    for (int i = 0; i < spec.streams; ++i) {
      SocketPair channel;
      destination_ends_.push_back(std::move(channel.a));
      fds.push_back(channel.b.get());
      channels.push_back(std::move(channel.b));
    }
    destination_.Start(Role::kDestination, spec, fds);
  }
  void StartSource(const keys::MigrationSpec& spec, Proxy::Tap tap) {
    proxy_.emplace(destination_port_, std::move(tap));
    source_.ConnectTo(proxy_->port());
    const std::string path = folder_ / "out.sock";
    const base::UniqueFd listener = base::ListenUnix(path, SOCK_STREAM, 0600).value();
    source_.Start(Role::kSource, spec, {listener.get()});
    for (int i = 0; i < spec.streams; ++i) {
      source_ends_.push_back(base::ConnectUnix(path, SOCK_STREAM, testing::kPatience).value());
    }
  }
  void Start(Protection protection = Protection::kSealed, Proxy::Tap tap = {}) {
    StartDestination(Spec(protection, kStreams));
    StartSource(Spec(protection, kStreams), std::move(tap));
    ASSERT_TRUE(source_.WaitEstablished());
    ASSERT_TRUE(destination_.WaitEstablished());
  }

  [[nodiscard]] bool Arrives(Transfer::Sizes sizes) {
    Transfer transfer(source_ends_, destination_ends_, sizes);
    transfer.Release();
    return transfer.Arrives();
  }
  // Both agents have nothing more to say: then the movers have nothing left to do.
  void ExpectBothEnd() {
    source_.peer().reset();
    destination_.peer().reset();
    EXPECT_EQ(source_.WaitExit(), 0);
    EXPECT_EQ(destination_.WaitExit(), 0);
  }
  // QEMU must never take a lost network for an end.
  void ExpectNothingEnds(const std::vector<base::UniqueFd>& ends) {
    for (const base::UniqueFd& end : ends) {
      EXPECT_FALSE(testing::Readable(end.get(), milliseconds(0)));
    }
  }

  const base::TestFolder folder_;
  std::uint16_t destination_port_ = 0;
  std::vector<base::UniqueFd> source_ends_;  // of QEMU's channels
  std::vector<base::UniqueFd> destination_ends_;
  MoverProcess destination_;
  MoverProcess source_;
  std::optional<Proxy> proxy_;
};

// ---- What goes in comes out

class ProtectionTest : public MoverPairTest, public ::testing::WithParamInterface<Protection> {};

TEST_P(ProtectionTest, CarriesEveryByteOfEveryStreamBothWays) {
  Start(GetParam());
  EXPECT_TRUE(Arrives({.there = 17 * kMegabyte, .back = 5 * kMegabyte}));
  EXPECT_EQ(proxy_->connections(), kConnections);
  ExpectBothEnd();
  EXPECT_TRUE(source_.WaitEnded());
  EXPECT_TRUE(destination_.WaitEnded());
}

TEST_P(ProtectionTest, CarriesTheAgentsMessagesOneByOne) {
  Start(GetParam());
  for (const char* text : {"commit", "and more"}) {
    ASSERT_TRUE(SendAll(source_.peer().get(), text));
  }
  EXPECT_EQ(ReceiveUpTo(destination_.peer().get(), 6), "commit");
  EXPECT_EQ(ReceiveUpTo(destination_.peer().get(), 8), "and more");
  ASSERT_TRUE(SendAll(destination_.peer().get(), "resumed"));
  EXPECT_EQ(ReceiveUpTo(source_.peer().get(), 7), "resumed");
}

INSTANTIATE_TEST_SUITE_P(MoverPair, ProtectionTest,
                         ::testing::Values(Protection::kSealed, Protection::kPlain));

// ---- What can be read on the way

// Wiretap keeps what each connection carries in each direction.
class Wiretap {
 public:
  Verdict operator()(const Piece& piece) {
    (*wires_)[{piece.connection, piece.way}] += base::AsText(piece.bytes);
    return Verdict::kPass;
  }
  [[nodiscard]] bool Saw(Way way, const std::string& text) const {
    for (const auto& [place, wire] : *wires_) {
      if (place.second == way && wire.find(text) != std::string::npos) return true;
    }
    return false;
  }
  [[nodiscard]] std::size_t bytes() const {
    std::size_t sum = 0;
    for (const auto& [place, wire] : *wires_) sum += wire.size();
    return sum;
  }

 private:
  using Wires = std::map<std::pair<std::size_t, Way>, std::string>;
  std::shared_ptr<Wires> wires_ = std::make_shared<Wires>();
};

class WiretapTest : public MoverPairTest {
 protected:
  // Says things in both directions on a data stream and on the control stream, and ends.
  void Talk(Protection protection) {
    Start(protection, wiretap_);
    ASSERT_TRUE(SendAll(source_ends_[1].get(), "guest memory"));
    ASSERT_TRUE(SendAll(destination_ends_[1].get(), "return path"));
    ASSERT_TRUE(SendAll(source_.peer().get(), "word of the source"));
    ASSERT_TRUE(SendAll(destination_.peer().get(), "word of the destination"));
    EXPECT_EQ(ReceiveUpTo(destination_ends_[1].get(), 12), "guest memory");
    EXPECT_EQ(ReceiveUpTo(source_ends_[1].get(), 11), "return path");
    EXPECT_EQ(ReceiveUpTo(destination_.peer().get(), 18), "word of the source");
    EXPECT_EQ(ReceiveUpTo(source_.peer().get(), 23), "word of the destination");
    proxy_.reset();
    EXPECT_GT(wiretap_.bytes(), 12U + 11U + 18U + 23U);
  }

  Wiretap wiretap_;
};

TEST_F(WiretapTest, SealedShowsNothing) {
  Talk(Protection::kSealed);
  EXPECT_FALSE(wiretap_.Saw(Way::kToDestination, "guest memory"));
  EXPECT_FALSE(wiretap_.Saw(Way::kToSource, "return path"));
  EXPECT_FALSE(wiretap_.Saw(Way::kToDestination, "word of the source"));
  EXPECT_FALSE(wiretap_.Saw(Way::kToSource, "word of the destination"));
}

TEST_F(WiretapTest, PlainShowsTheGuestButNotWhatTheAgentsSay) {
  Talk(Protection::kPlain);
  EXPECT_TRUE(wiretap_.Saw(Way::kToDestination, "guest memory"));
  EXPECT_TRUE(wiretap_.Saw(Way::kToSource, "return path"));
  EXPECT_FALSE(wiretap_.Saw(Way::kToDestination, "word of the source"));
  EXPECT_FALSE(wiretap_.Saw(Way::kToSource, "word of the destination"));
}

// ---- A bad network

TEST_F(MoverPairTest, ReplacesConnectionsThatAreCutInTheMiddle) {
  constexpr int kCuts = 6;
  const auto cuts = std::make_shared<int>(0);
  Start(Protection::kSealed, [cuts](const Piece& piece) {
    if (*cuts == kCuts || piece.offset < kMegabyte) return Verdict::kPass;
    ++*cuts;
    return Verdict::kCut;
  });
  EXPECT_TRUE(Arrives({.there = 8 * kMegabyte, .back = 4 * kMegabyte}));
  ExpectBothEnd();
  EXPECT_EQ(*cuts, kCuts);
  EXPECT_GT(proxy_->connections(), kConnections);
}

struct Flip {
  const char* name;
  Way way;
  std::size_t offset;  // of the connection, from where on a byte is flipped
};

class FlipTest : public MoverPairTest, public ::testing::WithParamInterface<Flip> {};

TEST_P(FlipTest, CostsTheConnectionAndNothingElse) {
  const auto flipped = std::make_shared<bool>(false);
  Start(Protection::kSealed, [flipped, flip = GetParam()](const Piece& piece) {
    if (!*flipped && piece.way == flip.way && piece.offset >= flip.offset) {
      *flipped = true;
      piece.bytes[piece.bytes.size() / 2] ^= std::byte{0x10};
    }
    return Verdict::kPass;
  });
  EXPECT_TRUE(Arrives({.there = 3 * kMegabyte, .back = 3 * kMegabyte}));
  ExpectBothEnd();
  EXPECT_TRUE(*flipped);
  EXPECT_EQ(proxy_->connections(), kConnections + 1);
}

INSTANTIATE_TEST_SUITE_P(MoverPair, FlipTest,
                         ::testing::Values(Flip{"InAHello", Way::kToDestination, 0},
                                           Flip{"InAReply", Way::kToSource, 0},
                                           Flip{"OnTheWayThere", Way::kToDestination, kMegabyte},
                                           Flip{"OnTheWayBack", Way::kToSource, kMegabyte}),
                         [](const auto& flip) { return std::string(flip.param.name); });

// ---- Strangers at the destination's port

// What a stranger says to begin with.
std::string Garbage(int kind) {
  base::Bytes random(200);
  EXPECT_TRUE(keys::SystemRandom().Fill(random).ok());
  base::Bytes hello;
  base::AppendBig(hello, transport::kHelloMagic);
  base::AppendBig(hello, transport::kHelloVersion);
  base::AppendBig(hello, static_cast<std::uint8_t>(transport::HelloKind::kOpen));
  base::AppendBig(hello, std::uint16_t{1});
  base::AppendBig(hello, std::uint32_t{1000});
  base::Append(hello, Spec(Protection::kSealed, kStreams).id);
  const std::string prefix(base::AsText(hello));
  const std::string noise(base::AsText(random));
  switch (kind) {
    case 0:
      return noise;
    case 1:
      return prefix + noise.substr(0, transport::kHelloOpenSize - prefix.size());  // a wrong proof
    case 2:
      return prefix;  // half a hello
    default:
      return "";
  }
}
constexpr int kKindsOfGarbage = 4;
bool GetsAClose(int kind) { return kind < 2; }

TEST_F(MoverPairTest, StrangersGetNoAnswerAndDisturbNothing) {
  Start();
  Transfer transfer(source_ends_, destination_ends_,
                    {.there = 4 * kMegabyte, .back = 2 * kMegabyte});
  transfer.WaitHalf();
  std::vector<base::UniqueFd> strangers;
  for (int i = 0; i < 200; ++i) {
    const int kind = i % kKindsOfGarbage;
    auto stranger = base::ConnectTcp({"127.0.0.1", destination_port_}, testing::kPatience);
    ASSERT_TRUE(stranger.ok()) << i;
    SendAll(stranger->get(), Garbage(kind));
    if (GetsAClose(kind)) {
      ASSERT_TRUE(testing::Readable(stranger->get())) << kind;
      EXPECT_EQ(ReceiveUpTo(stranger->get(), 1), "") << kind;
    }
    strangers.push_back(*std::move(stranger));
  }
  transfer.Release();
  EXPECT_TRUE(transfer.Arrives());
  for (const base::UniqueFd& stranger : strangers) {
    char answer = 0;
    EXPECT_LE(recv(stranger.get(), &answer, 1, MSG_DONTWAIT), 0);
  }
  ExpectBothEnd();
  EXPECT_EQ(proxy_->connections(), kConnections) << "no connection was lost";
}

TEST_F(MoverPairTest, MoversThatWereToldDifferentThingsDoNotTalk) {
  StartDestination(Spec(Protection::kPlain, kStreams));
  StartSource(Spec(Protection::kSealed, kStreams), {});
  for (std::uint16_t stream = 0; stream < kConnections; ++stream) {
    EXPECT_TRUE(source_.WaitAsked(stream, 2)) << "and tries again";
  }
  EXPECT_FALSE(source_.established());
  EXPECT_FALSE(destination_.established());
}

// ---- When one of the processes ends

TEST_F(MoverPairTest, ASourceWhoseDestinationDiesGoesOnTrying) {
  Start();
  destination_.Kill();
  for (std::uint16_t stream = 0; stream < kConnections; ++stream) {
    EXPECT_TRUE(source_.WaitAsked(stream, 3)) << stream;
  }
  ExpectNothingEnds(source_ends_);
  EXPECT_TRUE(source_.runs());
}

TEST_F(MoverPairTest, ADestinationWhoseSourceDiesWaits) {
  Start();
  source_.Kill();
  ASSERT_TRUE(proxy_->WaitIdle());
  ASSERT_TRUE(destination_.WaitCounters(2));
  ExpectNothingEnds(destination_ends_);
  EXPECT_TRUE(destination_.runs());
}

TEST_F(MoverPairTest, BothGiveUpWithoutAConnectionWhenTheirAgentsSay) {
  source_.GivesUpAfter(1);
  destination_.GivesUpAfter(1);
  Start();
  proxy_.reset();
  EXPECT_EQ(source_.WaitFailed().substr(8), " had no connection for 1 s");
  EXPECT_EQ(destination_.WaitFailed().substr(8), " had no connection for 1 s");
}

TEST_F(MoverPairTest, EndsWithItsAgent) {
  Start();
  source_.Leave();
  EXPECT_EQ(source_.WaitExit(), 1);
  // QEMU is told at once that nobody carries its stream any more.
  for (const base::UniqueFd& end : source_ends_) {
    EXPECT_TRUE(testing::Readable(end.get()));
    EXPECT_EQ(testing::ReceiveUpTo(end.get(), 1), "");
  }
  destination_.Leave();
  EXPECT_EQ(destination_.WaitExit(), 1);
}

TEST_F(MoverPairTest, EndsWithAnAgentThatNeverStartedIt) {
  source_.Leave();
  EXPECT_EQ(source_.WaitExit(), 1);
}

TEST_F(MoverPairTest, RefusesAKeyThatWasSealedForAnotherMigration) {
  const base::UniqueFd listener = base::ListenUnix(folder_ / "out.sock", SOCK_STREAM, 0600).value();
  source_.Start(Role::kSource, Spec(Protection::kSealed, kStreams),
                Spec(Protection::kPlain, kStreams), {listener.get()});
  EXPECT_NE(source_.WaitFailed(), "");
  EXPECT_EQ(source_.WaitExit(), 1);
}

}  // namespace
}  // namespace sealift::mover
