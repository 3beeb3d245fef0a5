// Both state machines against each other, with trouble at every point of a migration: at no time do
// both guests run, and in the end exactly one does.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "migration/destination.h"
#include "migration/source.h"
#include "migration/testing.h"

namespace sealift::migration {
namespace {

using hypervisor::FakeVm;
using hypervisor::MigrationState;
using hypervisor::Pace;
using hypervisor::RunState;
using std::chrono::milliseconds;
using std::chrono::seconds;

enum class Fault {
  kNone,
  kCancel,           // an operator cancels
  kCrashBefore,      // the agent dies before it does this, and is restarted
  kCrashAfter,       // the agent dies when it has done this, and is restarted
  kFails,            // an error, and nothing was done
  kFailsThoughDone,  // an error, and yet it was done
  kNetworkCut,       // from here on; both movers notice
  kNetworkSilent,    // from here on; nobody notices
};
constexpr std::array kNames = {"nothing",          "cancel",        "agent dies before",
                               "agent dies after", "fails",         "fails though done",
                               "network cut",      "network silent"};

// Trouble strikes once, at an event like "source ledger committed".
struct Trouble {
  std::string event;
  Fault fault = Fault::kNone;
};

// Ends the thread of an agent.
struct AgentDies {};

enum Host : std::size_t { kSource, kDestination };

// World is the two hosts and the network between them.
class World {
 public:
  World(EngineName engine, std::vector<Trouble> troubles)
      : engine_(engine), troubles_(std::move(troubles)) {
    vms_[kSource].SetTracking(true);
  }

  [[nodiscard]] EngineName engine() const { return engine_; }

  absl::Status Do(const std::string& event, const std::function<absl::Status()>& act) {
    const Fault fault = StrikeAt(event);
    if (fault == Fault::kCrashBefore) throw AgentDies();
    if (fault == Fault::kFails) return absl::InternalError("trouble");
    if (fault == Fault::kCancel) static_cast<void>(boards_[kSource].RequestCancel());
    const absl::Status status = act();
    EXPECT_FALSE(Runs(kSource) && Runs(kDestination)) << "both run after: " << event;
    if (fault == Fault::kCrashAfter) throw AgentDies();
    return fault == Fault::kFailsThoughDone ? absl::DataLossError("trouble") : status;
  }

  FakeVm& vm(Host host) { return vms_[host]; }
  Board& board(Host host) { return boards_[host]; }
  bool Runs(Host host) { return *vms_[host].State() == RunState::kRunning; }
  std::vector<std::string> Events() {
    const std::lock_guard lock(mutex_);
    return events_;
  }

  // -- The network, as the mover of `host` sees it.

  absl::Status Health(Host host) {
    const std::lock_guard lock(mutex_);
    return cut_ || killed_[host] ? absl::UnavailableError("gone") : absl::OkStatus();
  }
  bool Silent() {
    const std::lock_guard lock(mutex_);
    return silent_;
  }
  // What it was given before may still arrive.
  void KillMover(Host host) {
    const std::lock_guard lock(mutex_);
    killed_[host] = true;
    cut_ = true;
    changed_.notify_all();
  }
  void Send(Host from, const PeerMessage& message) {
    const std::lock_guard lock(mutex_);
    if (!silent_) inboxes_[1 - from].push_back(message);
    changed_.notify_all();
  }
  std::optional<PeerMessage> Receive(Host host) {
    std::unique_lock lock(mutex_);
    std::deque<PeerMessage>& inbox = inboxes_[host];
    const auto settled = [&] { return !inbox.empty() || killed_[host] || cut_ || silent_; };
    // The source's time is up soon after something has gone wrong, never before; the destination
    // looks around all the time.
    if (host == kSource) {
      changed_.wait_for(lock, seconds(20), [&] { return struck_ || settled(); });
      changed_.wait_for(lock, milliseconds(5), settled);
    } else {
      changed_.wait_for(lock, milliseconds(1), settled);
    }
    if (inbox.empty()) return std::nullopt;
    PeerMessage message = inbox.front();
    inbox.pop_front();
    return message;
  }
  void Linger() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, milliseconds(1));
  }

 private:
  Fault StrikeAt(const std::string& event) {
    const std::lock_guard lock(mutex_);
    events_.push_back(event);
    changed_.notify_all();
    for (Trouble& trouble : troubles_) {
      if (trouble.event != event) continue;
      trouble.event.clear();
      struck_ = true;
      cut_ = cut_ || trouble.fault == Fault::kNetworkCut;
      silent_ = silent_ || trouble.fault == Fault::kNetworkSilent;
      return trouble.fault;
    }
    return Fault::kNone;
  }

  const EngineName engine_;
  base::SystemClock clock_;
  std::array<FakeVm, 2> vms_ = {FakeVm({}, RunState::kRunning, Pace::kByTest, 1),
                                FakeVm({}, RunState::kIncoming, Pace::kByTest, 2)};
  std::array<Board, 2> boards_ = {Board(clock_), Board(clock_)};

  std::mutex mutex_;
  std::condition_variable changed_;
  // Guarded by mutex_:
  std::vector<Trouble> troubles_;
  std::vector<std::string> events_;
  std::array<std::deque<PeerMessage>, 2> inboxes_;
  std::array<bool, 2> killed_{};
  bool struck_ = false;
  bool cut_ = false;
  bool silent_ = false;
};

// HostStage is the stage of one host: its events carry the host's name, and its clock runs only
// while it waits.
class HostStage final : public testing::Stage {
 public:
  HostStage(World& world, Host host) : world_(world), host_(host) {}

  absl::Status Do(const std::string& event, const std::function<absl::Status()>& act) override {
    return world_.Do((host_ == kSource ? "source " : "destination ") + event, [&] {
      const absl::Status status = act();
      if (event == "vm StartOutgoing" && status.ok()) {
        world_.vm(kSource).SetOutgoing(MigrationState::kPreSwitchover);
      }
      const bool connected = world_.Health(kSource).ok() && !world_.Silent();
      if (event == "vm ContinueSwitchover" && status.ok() && connected) {
        world_.vm(kDestination).FinishIncoming(absl::OkStatus());
        world_.vm(kSource).SetOutgoing(MigrationState::kCompleted);
      }
      return status;
    });
  }
  void Wait(const std::string& /*moment*/, base::Duration timeout) override {
    world_.Linger();
    clock_.Advance(timeout);
  }

  [[nodiscard]] const base::Clock& clock() const { return clock_; }

 private:
  World& world_;
  const Host host_;
  base::FakeClock clock_;
};

class NetworkedMover final : public MoverLink {
 public:
  NetworkedMover(World& world, Host host, testing::Stage& stage)
      : world_(world), host_(host), stage_(stage) {}

  absl::Status WaitEstablished(base::Duration timeout) override {
    if (world_.Silent()) {
      stage_.Wait("wait for streams", timeout);
      return absl::DeadlineExceededError("no connection");
    }
    return Health();
  }
  absl::Status SendToPeer(const PeerMessage& message) override {
    return stage_.Do("peer " + testing::NameOf(message.type), [&] {
      const absl::Status health = Health();
      if (health.ok()) world_.Send(host_, message);
      return health;
    });
  }
  absl::StatusOr<PeerMessage> ReceiveFromPeer(base::Duration timeout) override {
    if (const std::optional<PeerMessage> message = world_.Receive(host_)) return *message;
    SEALIFT_RETURN_IF_ERROR(Health());
    stage_.Wait("wait for peer", timeout);
    return absl::DeadlineExceededError("silence");
  }
  absl::Status Health() override { return world_.Health(host_); }
  std::uint64_t wire_bytes() override { return 0; }
  seconds reconnect_limit() const override { return seconds(30); }
  absl::Status BeginCopy(const std::vector<hypervisor::MemoryBlock>& /*memory*/,
                         const hypervisor::WriteTracking& /*tracking*/,
                         milliseconds /*downtime_limit*/) override {
    return CopyUntil(CopyProgress::Phase::kConverged, "mover BeginCopy");
  }
  absl::Status FinishCopy() override {
    return CopyUntil(CopyProgress::Phase::kFinished, "mover FinishCopy");
  }
  CopyProgress WaitCopy(const CopyProgress& seen, base::Duration timeout,
                        std::stop_token /*stop*/) override {
    if (seen.phase != copy_.phase) return copy_;
    stage_.Wait("wait for copy", timeout);
    // A mover gives up a connection over which nothing has come for long.
    if (world_.Silent()) world_.KillMover(host_);
    return copy_;
  }
  void Kill() override {
    static_cast<void>(stage_.Do("mover kill", [&] {
      world_.KillMover(host_);
      return absl::OkStatus();
    }));
  }

 private:
  // A copy takes no time, and needs the network.
  absl::Status CopyUntil(CopyProgress::Phase phase, const std::string& event) {
    return stage_.Do(event, [&] {
      const absl::Status health = Health();
      if (health.ok() && !world_.Silent()) copy_.phase = phase;
      return health;
    });
  }

  World& world_;
  const Host host_;
  testing::Stage& stage_;
  CopyProgress copy_;
};

// Disk is a ledger that outlives its agent.
class Disk final : public Ledger {
 public:
  explicit Disk(testing::Stage& stage) : stage_(stage) {}
  absl::Status Write(LedgerStep step) override {
    return stage_.Do("ledger " + testing::NameOf(step), [&] {
      last_ = step;
      return absl::OkStatus();
    });
  }
  [[nodiscard]] std::optional<LedgerStep> last() const { return last_; }

 private:
  testing::Stage& stage_;
  std::optional<LedgerStep> last_;
};

// Agent is one host's agent, restarted as often as it dies.
class Agent {
 public:
  Agent(World& world, Host host)
      : world_(world),
        host_(host),
        stage_(world, host),
        vm_(world.vm(host), stage_),
        mover_(world, host, stage_),
        disk_(stage_) {}

  void Live() {
    if (!Survives([this] { Migrate(); })) {
      while (!Survives([this] { Recover(); })) {
      }
    }
    // An agent that has nothing written down knows nothing of a migration.
    world_.board(host_).Post([](Snapshot& snapshot) {
      if (!IsFinal(snapshot.phase)) snapshot.phase = PhaseName::kFailed;
    });
  }

 private:
  bool Survives(const std::function<void()>& act) {
    try {
      act();
      return true;
    } catch (const AgentDies&) {
      world_.KillMover(host_);
      return false;
    }
  }

  void Migrate() {
    if (host_ == kSource) {
      RunSource(Preparing{});
    } else {
      RunDestination(Preparing{});
    }
  }
  void RunSource(SourcePhase phase) {
    world_.board(host_).Post([&](Snapshot& snapshot) { snapshot.phase = NameOf(phase); });
    SourceOptions options;
    options.engine = world_.engine();
    SourceMigration machine(options, vm_, mover_, disk_, world_.board(host_), stage_.clock());
    static_cast<void>(machine.Run(std::move(phase)));
  }
  void RunDestination(DestinationPhase phase) {
    world_.board(host_).Post([&](Snapshot& snapshot) { snapshot.phase = NameOf(phase); });
    DestinationMigration machine(vm_, mover_, disk_, world_.board(host_), stage_.clock());
    static_cast<void>(machine.Run(std::move(phase)));
  }

  // What a restarted agent makes of its record.
  void Recover() {
    const bool gone = *vm_.State() == RunState::kGone;
    if (!disk_.last().has_value() || gone) return;
    switch (*disk_.last()) {
      case LedgerStep::kDelegated:
      case LedgerStep::kAborted:
        return RunSource(Copying{});
      case LedgerStep::kCommitted:
        return RunSource(Committed{});
      case LedgerStep::kReceiving:
        return RunDestination(Receiving{});
      case LedgerStep::kReady:
        return RunDestination(Ready{});
      case LedgerStep::kOwned:
        if (*vm_.State() == RunState::kPaused) static_cast<void>(vm_.Continue());
        return RunDestination(Completed{});
      case LedgerStep::kResumed:
      case LedgerStep::kReleased:
      case LedgerStep::kDropped:
        return;
    }
  }

  World& world_;
  const Host host_;
  HostStage stage_;
  testing::StagedVm vm_;
  NetworkedMover mover_;
  Disk disk_;
};

// Returns once the source shows one of the two things that a controller acts on.
PhaseName WaitForDecision(Board& source) {
  std::uint64_t version = 0;
  for (;;) {
    const PhaseName phase = source.Look().phase;
    if (phase >= PhaseName::kCommitted) return phase;
    version = source.WaitForChange(version, seconds(20));
  }
}

// Migrates once, with a controller that helps as it should. Returns what happened, in order.
std::vector<std::string> Migrate(EngineName engine, std::vector<Trouble> troubles) {
  World world(engine, std::move(troubles));
  Agent source_agent(world, kSource);
  Agent destination_agent(world, kDestination);
  std::thread destination([&] { destination_agent.Live(); });
  std::thread source([&] { source_agent.Live(); });

  const PhaseName seen = WaitForDecision(world.board(kSource));
  if (seen == PhaseName::kCommitted || seen == PhaseName::kCompleted) {
    world.board(kDestination).Tell(Decision::kCommit);
    destination.join();
    world.board(kSource).Tell(Decision::kCommit);
  } else {
    static_cast<void>(world.board(kDestination).RequestCancel());
    world.board(kDestination).Tell(Decision::kAbort);
    destination.join();
  }
  source.join();
  EXPECT_NE(world.Runs(kSource), world.Runs(kDestination)) << "in the end";
  return world.Events();
}

// A mover is always killed.
bool CanFail(const std::string& event) { return !event.ends_with("mover kill"); }

// Migrates with `troubles` alone, then again and again, each time with another trouble at another
// point of what happened then.
void MigrateWithTroubleEverywhere(EngineName engine, const std::vector<Trouble>& troubles,
                                  Host where_it_ends) {
  const std::vector<std::string> events = Migrate(engine, troubles);
  const bool moved = std::ranges::count(events, "destination vm Continue") > 0;
  EXPECT_EQ(moved, where_it_ends == kDestination);
  for (const std::string& event : events) {
    for (std::size_t i = 1; i < kNames.size(); ++i) {
      const auto fault = static_cast<Fault>(i);
      const bool failure = fault == Fault::kFails || fault == Fault::kFailsThoughDone;
      if (failure && !CanFail(event)) continue;
      SCOPED_TRACE(event + ": " + kNames[i]);
      std::vector<Trouble> all = troubles;
      all.push_back({event, fault});
      Migrate(engine, std::move(all));
    }
  }
}

class Pair : public ::testing::TestWithParam<EngineName> {};

TEST_P(Pair, ExactlyOneGuestRunsWhateverHappensToAMigration) {
  MigrateWithTroubleEverywhere(GetParam(), {}, kDestination);
}

TEST_P(Pair, ExactlyOneGuestRunsWhateverHappensToARollBack) {
  MigrateWithTroubleEverywhere(GetParam(), {{"source vm ContinueSwitchover", Fault::kCancel}},
                               kSource);
}

TEST_P(Pair, ExactlyOneGuestRunsWhateverHappensOnceTheDestinationIsLost) {
  MigrateWithTroubleEverywhere(GetParam(), {{"source peer commit", Fault::kNetworkCut}},
                               kDestination);
}

TEST_P(Pair, ExactlyOneGuestRunsWhateverHappensOnceTheSourceIsRestarted) {
  MigrateWithTroubleEverywhere(GetParam(), {{"source ledger committed", Fault::kCrashAfter}},
                               kDestination);
}

// The commit may be on disk, but nobody was told of it: the abort takes its place.
TEST_P(Pair, ExactlyOneGuestRunsWhateverHappensOnceTheCommitSeemedToFail) {
  MigrateWithTroubleEverywhere(GetParam(), {{"source ledger committed", Fault::kFailsThoughDone}},
                               kSource);
}

TEST_P(Pair, ACommitThatMayBeOnDiskIsNotFoundThereOnceTheGuestGoesOn) {
  Migrate(GetParam(), {{"source ledger committed", Fault::kFailsThoughDone},
                       {"source ledger aborted", Fault::kFails},
                       {"source peer abort", Fault::kNetworkSilent},
                       {"source ledger resumed", Fault::kCrashBefore}});
}

TEST_P(Pair, ARollBackIsTriedAgain) {
  Migrate(GetParam(), {{"source vm ContinueSwitchover", Fault::kNetworkSilent},
                       {"source vm CancelOutgoing", Fault::kFails}});
  Migrate(GetParam(), {{"source vm ContinueSwitchover", Fault::kCancel},
                       {"source vm Continue", Fault::kFails}});
}

INSTANTIATE_TEST_SUITE_P(Engines, Pair,
                         ::testing::Values(EngineName::kStream, EngineName::kDirect));

}  // namespace
}  // namespace sealift::migration
