// The agents of all joined hosts: their connections, their heartbeats, their last reports.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "controller/event_log.h"
#include "controller/host_link.h"
#include "controller/host_rows.h"
#include "store/store.h"

namespace sealift::controller {

inline constexpr std::chrono::seconds kHeartbeatInterval{2};

// AgentDirectory holds one HostLink per joined host. Thread-safe; everything handed in outlives it.
class AgentDirectory {
 public:
  // Connect makes the connection to a host at its address, good for that host's identity only.
  using Connect = std::function<std::shared_ptr<AgentConnection>(const store::HostRow&)>;
  using Report = std::function<void(AgentConnection&, const v1::AgentStatus&, Contact)>;

  AgentDirectory(store::Store& store, HostRows& rows, EventLog& events, const base::Clock& clock,
                 Connect connect, std::chrono::milliseconds interval = kHeartbeatInterval);
  ~AgentDirectory() { Stop(); }

  // OnReport adds an observer of every report, called in the host's heartbeat thread. Before Start.
  void OnReport(Report report) { reports_.push_back(std::move(report)); }

  // Start links every host of the store that has joined.
  [[nodiscard]] absl::Status Start();
  // Stop ends all heartbeats and all calls to agents.
  void Stop();

  // Link connects to a host, or anew after it has joined again; Unlink ends that and every call to
  // it.
  void Link(const store::HostRow& host);
  void Unlink(const std::string& host);

  // Connection is FAILED_PRECONDITION for a host that has not joined.
  [[nodiscard]] absl::StatusOr<std::shared_ptr<AgentConnection>> Connection(
      const std::string& host);
  // View is the last report; Refresh asks the agent first. Both say kNotJoined of a host that is
  // not linked.
  [[nodiscard]] HostView View(const std::string& host);
  HostView Refresh(const std::string& host);
  // DeclareSilent: see HostLink.
  void DeclareSilent(const std::string& host, const std::string& reason);

 private:
  std::shared_ptr<HostLink> Find(const std::string& host);
  void HandleReport(AgentConnection& agent, const v1::AgentStatus& status, Contact contact);
  void HandleLoss(const std::string& host, const HostView& view);

  store::Store& store_;
  HostRows& rows_;
  EventLog& events_;
  const base::Clock& clock_;
  const Connect connect_;
  const std::chrono::milliseconds interval_;
  std::vector<Report> reports_;  // constant after Start
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<HostLink>> links_;  // guarded by mutex_
};

}  // namespace sealift::controller
