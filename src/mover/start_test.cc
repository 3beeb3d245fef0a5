// A spec is good once, in time, and only for the mover and the migration that it was made for.
#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/status.h"
#include "keys/hpke.h"
#include "mover/mover.h"
#include "mover/testing.h"

namespace sealift::mover {
namespace {

using keys::MigrationSpec;
using keys::Protection;
using testing::SocketPair;

// A clock that is `step` later at each look.
class SteppingClock final : public base::Clock {
 public:
  explicit SteppingClock(base::Duration step) : step_(step) {}
  [[nodiscard]] base::WallTime Now() const override { return {}; }
  [[nodiscard]] base::Duration SinceBoot() const override { return now_ += step_; }
  void Pause(base::Duration /*time*/) const override {}

 private:
  const base::Duration step_;
  mutable base::Duration now_{};
};

const SteppingClock kStandingClock{base::Duration::zero()};

// Says of a message whether the mover may run on. What it was sealed with is up to the test.
class StartTest : public ::testing::Test {
 protected:
  // Runs a source mover: it makes its offer to `answer`, which gives what the agent says then. It
  // ends because of that, or because the agent goes away.
  template <typename Answer>
  absl::Status Run(const Answer& answer, const base::Clock& clock = kStandingClock) {
    SocketPair agent(SOCK_SEQPACKET);
    keys::SystemRandom random;
    Mover mover(std::move(agent.b), record::AeadBackend::kOpenssl, random, clock);
    std::thread other([&] {
      const base::Message offer = base::ReceiveMessage(agent.a.get()).value();
      const auto control = DecodeControl(offer.bytes).value();
      for (const Start& start : answer(std::get<Offer>(control).public_key)) Tell(agent, start);
      for (auto said = base::ReceiveMessage(agent.a.get()); said.ok();
           said = base::ReceiveMessage(agent.a.get())) {
        last_ = DecodeControl(said->bytes).value();
        if (std::holds_alternative<Failed>(last_)) break;
        // A mover that was started goes on without an agent until its streams give up.
        if (std::holds_alternative<Connect>(last_)) accepted_ = true;
        if (accepted_) Tell(agent, Connection{99, 0});
      }
    });
    const absl::Status status = mover.Run();
    other.join();
    return status;
  }

  static std::vector<Start> One(const MigrationSpec& spec, base::ByteSpan public_key,
                                const MigrationSpec& key_is_for) {
    return {{Role::kSource, spec,
             keys::HpkeSeal(public_key, keys::HashSpec(key_is_for), testing::Key().bytes).value()}};
  }

  static void Tell(const SocketPair& agent, const ControlMessage& message) {
    SocketPair control(SOCK_SEQPACKET);
    SocketPair listener;
    const bool start = std::holds_alternative<Start>(message);
    const std::vector<int> fds =
        start ? std::vector<int>{control.a.get(), listener.a.get()} : std::vector<int>{};
    EXPECT_TRUE(base::SendMessage(agent.a.get(), EncodeControl(message), fds).ok());
  }

  void ExpectRefused(const absl::Status& status, absl::StatusCode code) {
    EXPECT_EQ(status.code(), code) << status;
    EXPECT_FALSE(accepted_);
    ASSERT_TRUE(std::holds_alternative<Failed>(last_));
    EXPECT_EQ(std::get<Failed>(last_).reason, base::MessageOf(status));
  }

  ControlMessage last_;
  bool accepted_ = false;  // it asked for a connection of a stream
};

const MigrationSpec kSpec = testing::Spec(Protection::kSealed, 2);

TEST_F(StartTest, ASpecWithItsOwnKeyIsAccepted) {
  const absl::Status status =
      Run([](const base::Bytes& public_key) { return One(kSpec, public_key, kSpec); });
  EXPECT_TRUE(accepted_) << status;
}

// Each of these is a spec that somebody changed after the controller sealed the key for it.
TEST_F(StartTest, AnAlteredSpecIsRefused) {
  std::vector<std::pair<const char*, MigrationSpec>> lies(7, {"", kSpec});
  lies[0].first = "another migration";
  lies[0].second.id[15] ^= std::byte{1};
  lies[1].first = "another VM";
  lies[1].second.vm = "web2";
  lies[2].first = "another source";
  lies[2].second.source = "spiffe://sealift/host/c";
  lies[3].first = "another destination";
  lies[3].second.destination = "spiffe://sealift/host/c";
  lies[4].first = "in the clear instead of sealed";
  lies[4].second.protection = Protection::kPlain;
  lies[5].first = "other streams";
  lies[5].second.streams = 3;
  lies[6].first = "hosts changed over";
  std::swap(lies[6].second.source, lies[6].second.destination);
  for (const auto& [name, spec] : lies) {
    SCOPED_TRACE(name);
    const absl::Status status =
        Run([&spec = spec](const base::Bytes& public_key) { return One(spec, public_key, kSpec); });
    ExpectRefused(status, absl::StatusCode::kPermissionDenied);
  }
}

TEST_F(StartTest, AKeyReplayedToAnotherMoverIsRefused) {
  std::vector<Start> recorded;
  static_cast<void>(
      Run([&](const base::Bytes& public_key) { return recorded = One(kSpec, public_key, kSpec); }));
  EXPECT_TRUE(accepted_);
  accepted_ = false;
  ExpectRefused(Run([&](const base::Bytes& /*public_key*/) { return recorded; }),
                absl::StatusCode::kPermissionDenied);
}

TEST_F(StartTest, ASpecReplayedToItsOwnMoverEndsIt) {
  const absl::Status status = Run([](const base::Bytes& public_key) {
    std::vector<Start> twice = One(kSpec, public_key, kSpec);
    twice.push_back(twice.front());
    return twice;
  });
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
}

TEST_F(StartTest, ALateSpecIsRefused) {
  // The looks at the clock: offer, loop, spec. The last is 2 s late, the loop before it in time.
  const SteppingClock clock(std::chrono::seconds(31));
  const absl::Status status =
      Run([](const base::Bytes& public_key) { return One(kSpec, public_key, kSpec); }, clock);
  ExpectRefused(status, absl::StatusCode::kDeadlineExceeded);
}

TEST_F(StartTest, AKeyPairIsVoidWhenNoSpecComes) {
  const SteppingClock clock(std::chrono::seconds(25));
  const absl::Status status =
      Run([](const base::Bytes& /*public_key*/) { return std::vector<Start>(); }, clock);
  ExpectRefused(status, absl::StatusCode::kDeadlineExceeded);
}

}  // namespace
}  // namespace sealift::mover
