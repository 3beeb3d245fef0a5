#include "controller/host_link.h"

#include "base/status.h"

namespace sealift::controller {
namespace {

constexpr std::chrono::seconds kStatusDeadline{5};

}  // namespace

HostFacts FactsOf(const store::HostRow& host, const HostView& view) {
  HostFacts facts{host.name, view.reach, view.reason, {}, host.draining};
  if (view.status) facts.capabilities = view.status->capabilities();
  return facts;
}

HostLink::HostLink(std::shared_ptr<AgentConnection> connection, const base::Clock& clock,
                   std::chrono::milliseconds interval, HostObserver observer)
    : connection_(std::move(connection)),
      clock_(clock),
      interval_(interval),
      observer_(std::move(observer)),
      view_{HostReach::kUnreachable, "it has not been asked yet", {}, 0},
      thread_([this](const std::stop_token& stop) { Run(stop); }) {}

void HostLink::Stop() {
  thread_.request_stop();
  connection_->CancelAll();
}

HostView HostLink::View() const {
  const std::lock_guard lock(mutex_);
  return view_;
}

std::uint64_t HostLink::NextQuestion() {
  const std::lock_guard lock(mutex_);
  return ++questions_;
}

HostView HostLink::Refresh() {
  const std::uint64_t question = NextQuestion();
  Remember(question, connection_->Call(&AgentConnection::Stub::GetStatus, v1::GetStatusRequest(),
                                       kStatusDeadline));
  return View();
}

void HostLink::DeclareSilent(const std::string& reason) {
  Remember(NextQuestion(), absl::UnavailableError(reason));
}

// An answer that was overtaken by that of a later question says nothing new.
void HostLink::Remember(std::uint64_t question, const absl::StatusOr<v1::AgentStatus>& answer) {
  const std::lock_guard lock(mutex_);
  if (question < answered_) return;
  answered_ = question;
  if (!answer.ok()) {
    view_.reach = HostReach::kUnreachable;
    view_.reason = base::MessageOf(answer.status());
    return;
  }
  view_ = {HostReach::kReady, "", *answer, base::UnixMillis(clock_.Now())};
}

void HostLink::Run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    Beat(stop);
    std::unique_lock lock(mutex_);
    wake_.wait_for(lock, stop, interval_, [] { return false; });
  }
}

void HostLink::Beat(const std::stop_token& stop) {
  const HostView view = Refresh();
  if (stop.stop_requested()) return;
  if (view.reach == HostReach::kReady) {
    const std::string& boot_id = view.status->boot_id();
    const bool repeated = hearing_ == Hearing::kYes && boot_id == boot_id_;
    hearing_ = Hearing::kYes;
    boot_id_ = boot_id;
    observer_.report(*connection_, *view.status, repeated ? Contact::kRepeated : Contact::kFirst);
  } else if (hearing_ != Hearing::kNo) {
    hearing_ = Hearing::kNo;
    observer_.lost(connection_->host(), view);
  }
}

}  // namespace sealift::controller
