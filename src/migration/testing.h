// What surrounds a state machine in its tests: a VM, a mover and a ledger that act on one stage and
// take no real time.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/check.h"
#include "base/clock.h"
#include "base/status.h"
#include "hypervisor/fake_hypervisor.h"
#include "migration/environment.h"

namespace sealift::migration::testing {

inline std::string NameOf(LedgerStep step) {
  constexpr const char* kNames[] = {"delegated", "committed", "aborted", "resumed", "released",
                                    "receiving", "ready",     "owned",   "dropped"};
  return kNames[static_cast<std::size_t>(step)];
}

inline std::string NameOf(PeerMessageType type) {
  constexpr const char* kNames[] = {"", "ready", "commit", "abort", "resumed"};
  return kNames[static_cast<std::size_t>(type)];
}

// Stage is where everything that a state machine does takes place: "ledger committed", "peer
// commit", "vm Continue", "mover kill". At the moments "wait for streams", "wait for outgoing",
// "wait for incoming" and "wait for peer" it waits there.
class Stage {
 public:
  virtual ~Stage() = default;
  virtual absl::Status Do(const std::string& event, const std::function<absl::Status()>& act) = 0;
  virtual void Wait(const std::string& moment, base::Duration timeout) = 0;
};

// Journal lists the events in order and lets a test act at each of them and while a wait lasts.
class Journal final : public Stage {
 public:
  explicit Journal(base::FakeClock& clock) : clock_(clock) {}

  // When runs `action` once: after the event has had its effect, or at the end of the wait.
  void When(const std::string& event, std::function<void()> action) {
    actions_.emplace(event, std::move(action));
  }

  absl::Status Do(const std::string& event, const std::function<absl::Status()>& act) override {
    events_.push_back(event);
    absl::Status status = act();
    Reach(event);
    return status;
  }
  // Lets the whole timeout pass. A state machine that waits for ever aborts the test.
  void Wait(const std::string& moment, base::Duration timeout) override {
    constexpr int kForEver = 100'000;
    SEALIFT_CHECK(++waits_ < kForEver);
    clock_.Advance(std::max(timeout, base::Duration::zero()));
    Reach(moment);
  }

  [[nodiscard]] const std::vector<std::string>& events() const { return events_; }
  [[nodiscard]] bool Has(const std::string& event) const {
    return std::ranges::count(events_, event) > 0;
  }

 private:
  void Reach(const std::string& event) {
    std::vector<std::function<void()>> due;
    const auto [first, last] = actions_.equal_range(event);
    for (auto at = first; at != last; ++at) due.push_back(std::move(at->second));
    actions_.erase(first, last);
    for (const auto& action : due) action();
  }

  base::FakeClock& clock_;
  std::vector<std::string> events_;
  std::multimap<std::string, std::function<void()>> actions_;
  int waits_ = 0;
};

// StagedVm is a FakeVm on a stage.
class StagedVm final : public hypervisor::Vm {
 public:
  StagedVm(hypervisor::FakeVm& vm, Stage& stage) : vm_(vm), stage_(stage) {}

  const hypervisor::VmDefinition& definition() const override { return vm_.definition(); }
  int pid() const override { return vm_.pid(); }
  absl::StatusOr<hypervisor::RunState> State() override { return vm_.State(); }
  absl::Status Continue() override {
    return stage_.Do("vm Continue", [&] { return vm_.Continue(); });
  }
  absl::Status PowerDown() override {
    return stage_.Do("vm PowerDown", [&] { return vm_.PowerDown(); });
  }
  absl::Status Quit() override {
    return stage_.Do("vm Quit", [&] { return vm_.Quit(); });
  }
  absl::Status Settle() override {
    return stage_.Do("vm Settle", [&] { return vm_.Settle(); });
  }
  absl::StatusOr<base::UniqueFd> OpenConsole() override { return vm_.OpenConsole(); }
  void OnExit(std::function<void(hypervisor::Exit)> callback) override {
    vm_.OnExit(std::move(callback));
  }

  absl::StatusOr<std::vector<hypervisor::MemoryBlock>> SharedMemory() override {
    return vm_.SharedMemory();
  }
  absl::StatusOr<hypervisor::WriteTracking> BeginTracking() override {
    absl::StatusOr<hypervisor::WriteTracking> tracking;
    SEALIFT_RETURN_IF_ERROR(stage_.Do("vm BeginTracking", [&] {
      tracking = vm_.BeginTracking();
      return tracking.status();
    }));
    return tracking;
  }
  absl::Status EndTracking() override {
    return stage_.Do("vm EndTracking", [&] { return vm_.EndTracking(); });
  }
  std::function<absl::Status()> DiskWriteBack() override {
    absl::Status status = stage_.Do("vm DiskWriteBack", vm_.DiskWriteBack());
    return [status] { return status; };
  }
  absl::Status Suspend() override { return vm_.Suspend(); }
  absl::Status Resume() override { return vm_.Resume(); }

  absl::Status StartOutgoing(const std::string& path,
                             const hypervisor::MigrationParameters& parameters) override {
    return stage_.Do("vm StartOutgoing", [&] { return vm_.StartOutgoing(path, parameters); });
  }
  absl::StatusOr<hypervisor::OutgoingProgress> Outgoing() override { return vm_.Outgoing(); }
  absl::StatusOr<hypervisor::MigrationState> WaitOutgoing(hypervisor::MigrationState state,
                                                          base::Duration timeout,
                                                          std::stop_token stop) override {
    const auto now = vm_.WaitOutgoing(state, base::Duration::zero(), {});
    if (!now.ok() || *now != state || stop.stop_requested()) return now;
    stage_.Wait("wait for outgoing", timeout);
    return vm_.WaitOutgoing(state, base::Duration::zero(), {});
  }
  absl::Status SetDowntimeLimit(std::chrono::milliseconds limit) override {
    return stage_.Do("vm SetDowntimeLimit", [&] { return vm_.SetDowntimeLimit(limit); });
  }
  absl::Status ContinueSwitchover(base::Duration timeout) override {
    return stage_.Do("vm ContinueSwitchover", [&] { return vm_.ContinueSwitchover(timeout); });
  }
  absl::Status CancelOutgoing() override {
    return stage_.Do("vm CancelOutgoing", [&] { return vm_.CancelOutgoing(); });
  }

  absl::Status StartIncoming(const std::string& path,
                             const hypervisor::MigrationParameters& parameters) override {
    return stage_.Do("vm StartIncoming", [&] { return vm_.StartIncoming(path, parameters); });
  }
  absl::Status WaitIncoming(base::Duration timeout) override {
    const absl::Status status = vm_.WaitIncoming(base::Duration::zero());
    if (!absl::IsDeadlineExceeded(status)) return status;
    stage_.Wait("wait for incoming", timeout);
    return vm_.WaitIncoming(base::Duration::zero());
  }

 private:
  hypervisor::FakeVm& vm_;
  Stage& stage_;
};

// FakeMover runs, with every stream established, until a test says otherwise.
class FakeMover final : public MoverLink {
 public:
  static constexpr std::chrono::seconds kReconnectLimit{40};

  explicit FakeMover(Stage& stage) : stage_(stage) {}

  // -- What a test does to it.

  void SetEstablished(bool established) { established_ = established; }
  // Say puts a message of the peer into the inbox; it is there also after Break.
  void Say(PeerMessageType type, const std::string& text = "") { inbox_.push_back({type, text}); }
  // Break ends the mover.
  void Break(const std::string& why = "the mover crashed") {
    health_ = absl::UnavailableError(why);
  }
  void SetWireBytes(std::uint64_t bytes) { wire_bytes_ = bytes; }

  [[nodiscard]] const std::vector<PeerMessage>& sent() const { return sent_; }

  // The state of a direct copy, from now on.
  void SetCopy(const CopyProgress& progress) { copy_ = progress; }

  // -- MoverLink

  absl::Status WaitEstablished(base::Duration timeout) override {
    if (health_.ok() && !established_) stage_.Wait("wait for streams", timeout);
    if (!health_.ok()) return health_;
    return established_ ? absl::OkStatus() : absl::DeadlineExceededError("not all connected");
  }
  absl::Status SendToPeer(const PeerMessage& message) override {
    return stage_.Do("peer " + NameOf(message.type), [&] {
      if (health_.ok()) sent_.push_back(message);
      return health_;
    });
  }
  absl::StatusOr<PeerMessage> ReceiveFromPeer(base::Duration timeout) override {
    if (inbox_.empty() && health_.ok()) stage_.Wait("wait for peer", timeout);
    if (!inbox_.empty()) {
      PeerMessage message = inbox_.front();
      inbox_.pop_front();
      return message;
    }
    return health_.ok() ? absl::DeadlineExceededError("no answer in time") : health_;
  }
  absl::Status Health() override { return health_; }
  std::uint64_t wire_bytes() override { return wire_bytes_; }
  std::chrono::seconds reconnect_limit() const override { return kReconnectLimit; }
  absl::Status BeginCopy(const std::vector<hypervisor::MemoryBlock>& /*memory*/,
                         const hypervisor::WriteTracking& /*tracking*/,
                         std::chrono::milliseconds /*downtime_limit*/) override {
    return stage_.Do("mover BeginCopy", [&] { return health_; });
  }
  absl::Status FinishCopy() override {
    return stage_.Do("mover FinishCopy", [&] { return health_; });
  }
  CopyProgress WaitCopy(const CopyProgress& seen, base::Duration timeout,
                        std::stop_token stop) override {
    const bool news =
        copy_.phase != seen.phase || copy_.round != seen.round || copy_.stalls != seen.stalls;
    if (!news && !stop.stop_requested()) stage_.Wait("wait for copy", timeout);
    return copy_;
  }
  void Kill() override {
    static_cast<void>(stage_.Do("mover kill", [&] {
      Break("killed");
      return absl::OkStatus();
    }));
  }

 private:
  Stage& stage_;
  bool established_ = true;
  absl::Status health_;
  std::deque<PeerMessage> inbox_;
  std::vector<PeerMessage> sent_;
  std::uint64_t wire_bytes_ = 0;
  CopyProgress copy_;
};

// FakeLedger fails the steps that a test names, `times` times each.
class FakeLedger final : public Ledger {
 public:
  explicit FakeLedger(Stage& stage) : stage_(stage) {}

  static constexpr int kForEver = std::numeric_limits<int>::max();
  void Fail(LedgerStep step, int times = kForEver,
            absl::StatusCode code = absl::StatusCode::kResourceExhausted) {
    failing_[step] = {times, code};
  }

  absl::Status Write(LedgerStep step) override {
    return stage_.Do("ledger " + NameOf(step), [&] {
      const auto failing = failing_.find(step);
      if (failing == failing_.end() || failing->second.times == 0) return absl::OkStatus();
      --failing->second.times;
      return absl::Status(failing->second.code, "no space to write '" + NameOf(step) + "'");
    });
  }

 private:
  struct Failure {
    int times;
    absl::StatusCode code;
  };

  Stage& stage_;
  std::map<LedgerStep, Failure> failing_;
};

}  // namespace sealift::migration::testing
