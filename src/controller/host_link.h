// The heartbeat of one host.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <stop_token>
#include <string>
#include <thread>

#include "base/clock.h"
#include "controller/agent_connection.h"
#include "controller/planner.h"
#include "sealift/v1/agent.pb.h"
#include "store/store.h"

namespace sealift::controller {

// HostView is what is known of a host right now. A value.
struct HostView {
  HostReach reach = HostReach::kNotJoined;
  std::string reason;                     // why it is unreachable
  std::optional<v1::AgentStatus> status;  // the last report, kept while it is unreachable
  std::int64_t last_seen_ms = 0;          // when that came; 0: never since this controller started
};

// FactsOf is what the planner looks at.
[[nodiscard]] HostFacts FactsOf(const store::HostRow& host, const HostView& view);

// Contact says whether a report is the first since the start, after a silence, or after a reboot of
// the host, which may be over before its silence is noticed.
enum class Contact { kFirst, kRepeated };

// HostObserver is told what the heartbeat of one host finds, in that host's heartbeat thread: it
// may block and call the agent.
struct HostObserver {
  std::function<void(AgentConnection&, const v1::AgentStatus&, Contact)> report;
  std::function<void(const std::string& host, const HostView&)>
      lost;  // once, when it stops answering
};

// HostLink asks one agent for its status every `interval`, in a thread of its own that lives as
// long as this object. Thread-safe.
class HostLink {
 public:
  HostLink(std::shared_ptr<AgentConnection> connection, const base::Clock& clock,
           std::chrono::milliseconds interval, HostObserver observer);
  ~HostLink() { Stop(); }

  [[nodiscard]] HostView View() const;
  // Refresh asks now, in the calling thread, and returns what came of it.
  HostView Refresh();
  // DeclareSilent makes the host unreachable, for this reason, until it answers a question that is
  // asked from now on.
  void DeclareSilent(const std::string& reason);

  // Stop ends the heartbeat and every call to the agent; it does not wait for them.
  void Stop();

  [[nodiscard]] const std::shared_ptr<AgentConnection>& connection() const { return connection_; }

 private:
  void Run(const std::stop_token& stop);
  void Beat(const std::stop_token& stop);
  [[nodiscard]] std::uint64_t NextQuestion();
  void Remember(std::uint64_t question, const absl::StatusOr<v1::AgentStatus>& answer);

  const std::shared_ptr<AgentConnection> connection_;
  const base::Clock& clock_;
  const std::chrono::milliseconds interval_;
  const HostObserver observer_;
  // Of the heartbeat's thread.
  enum class Hearing { kNotYet, kYes, kNo } hearing_ = Hearing::kNotYet;
  std::string boot_id_;  // in the last report

  mutable std::mutex mutex_;
  std::condition_variable_any wake_;
  HostView view_;                // guarded by mutex_
  std::uint64_t questions_ = 0;  // asked so far; guarded by mutex_
  std::uint64_t answered_ = 0;   // the newest question whose answer is in view_; guarded by mutex_
  std::jthread thread_;
};

}  // namespace sealift::controller
