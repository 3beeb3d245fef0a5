#include "controller/agents.h"

#include <fmt/format.h>

#include "base/log.h"
#include "base/status.h"

namespace sealift::controller {

AgentDirectory::AgentDirectory(store::Store& store, HostRows& rows, EventLog& events,
                               const base::Clock& clock, Connect connect,
                               std::chrono::milliseconds interval)
    : store_(store),
      rows_(rows),
      events_(events),
      clock_(clock),
      connect_(std::move(connect)),
      interval_(interval) {}

absl::Status AgentDirectory::Start() {
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<store::HostRow> hosts, store_.ListHosts());
  for (const store::HostRow& host : hosts) {
    if (!host.certificate_serial.empty()) Link(host);
  }
  return absl::OkStatus();
}

// All are told first, so that the threads, which are joined one by one, end together.
void AgentDirectory::Stop() {
  std::map<std::string, std::shared_ptr<HostLink>> links;
  {
    const std::lock_guard lock(mutex_);
    links.swap(links_);
  }
  for (const auto& [host, link] : links) link->Stop();
}

void AgentDirectory::Link(const store::HostRow& host) {
  Unlink(host.name);
  auto link = std::make_shared<HostLink>(
      connect_(host), clock_, interval_,
      HostObserver{
          [this](AgentConnection& agent, const v1::AgentStatus& status, Contact contact) {
            HandleReport(agent, status, contact);
          },
          [this](const std::string& name, const HostView& view) { HandleLoss(name, view); }});
  const std::lock_guard lock(mutex_);
  links_[host.name] = std::move(link);
}

void AgentDirectory::Unlink(const std::string& host) {
  std::shared_ptr<HostLink> link;  // ends outside the lock: its thread may be asking us something
  const std::lock_guard lock(mutex_);
  const auto found = links_.find(host);
  if (found == links_.end()) return;
  link = std::move(found->second);
  links_.erase(found);
}

absl::StatusOr<std::shared_ptr<AgentConnection>> AgentDirectory::Connection(
    const std::string& host) {
  const std::shared_ptr<HostLink> link = Find(host);
  if (link != nullptr) return link->connection();
  return absl::FailedPreconditionError(
      fmt::format("host {} has not joined: run its join command on it", host));
}

HostView AgentDirectory::View(const std::string& host) {
  const std::shared_ptr<HostLink> link = Find(host);
  return link == nullptr ? HostView() : link->View();
}

HostView AgentDirectory::Refresh(const std::string& host) {
  const std::shared_ptr<HostLink> link = Find(host);
  return link == nullptr ? HostView() : link->Refresh();
}

void AgentDirectory::DeclareSilent(const std::string& host, const std::string& reason) {
  const std::shared_ptr<HostLink> link = Find(host);
  if (link != nullptr) link->DeclareSilent(reason);
}

std::shared_ptr<HostLink> AgentDirectory::Find(const std::string& host) {
  const std::lock_guard lock(mutex_);
  const auto found = links_.find(host);
  return found == links_.end() ? nullptr : found->second;
}

void AgentDirectory::HandleReport(AgentConnection& agent, const v1::AgentStatus& status,
                                  Contact contact) {
  if (contact == Contact::kFirst) {
    events_.Add("host.ready", "host/" + agent.host(), kControllerActor,
                fmt::format("the agent of host {} answers", agent.host()));
  }
  for (const Report& report : reports_) report(agent, status, contact);
}

void AgentDirectory::HandleLoss(const std::string& host, const HostView& view) {
  events_.AddWarning("host.unreachable", "host/" + host, kControllerActor, view.reason);
  if (view.last_seen_ms == 0) return;
  const absl::Status stored =
      rows_.Update(host, [&](store::HostRow& row) { row.last_seen = view.last_seen_ms; });
  if (!stored.ok())
    spdlog::warn("store when host {} was last seen: {}", host, base::MessageOf(stored));
}

}  // namespace sealift::controller
