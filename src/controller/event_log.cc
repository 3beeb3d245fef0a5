#include "controller/event_log.h"

#include <utility>

#include "base/log.h"
#include "base/status.h"

namespace sealift::controller {

void EventLog::Add(std::string_view type, const std::string& subject, std::string_view actor,
                   const std::string& text) {
  AddAll(type, actor, {{subject, text}});
}

void EventLog::AddAll(std::string_view type, std::string_view actor,
                      const std::vector<std::pair<std::string, std::string>>& entries) {
  std::vector<store::EventRow> rows;
  if (entries.empty()) return;
  for (const auto& [subject, text] : entries) {
    spdlog::info("{} {} by {}: {}", type, subject, actor, text);
    rows.push_back(RowOf(type, subject, actor, text));
  }
  Store(rows);
}

void EventLog::AddWarning(std::string_view type, const std::string& subject, std::string_view actor,
                          const std::string& text) {
  spdlog::warn("{} {} by {}: {}", type, subject, actor, text);
  Store({RowOf(type, subject, actor, text)});
}

store::EventRow EventLog::RowOf(std::string_view type, const std::string& subject,
                                std::string_view actor, const std::string& text) const {
  return {.number = 0,
          .time = base::UnixMillis(clock_.Now()),
          .type = std::string(type),
          .subject = subject,
          .actor = std::string(actor),
          .text = text};
}

void EventLog::Store(const std::vector<store::EventRow>& rows) {
  const absl::Status stored = store_.AddEvents(rows);
  if (!stored.ok()) {
    spdlog::error("store {} events: {}", rows.size(), base::MessageOf(stored));
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    additions_ += rows.size();
  }
  changed_.notify_all();
}

bool EventLog::LastIs(std::string_view type, const std::string& subject) {
  const auto last = store_.ListEvents(0, 1, subject);
  return last.ok() && !last->empty() && last->front().type == type;
}

std::uint64_t EventLog::WaitForNews(std::uint64_t seen, std::chrono::milliseconds timeout,
                                    std::stop_token stop) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, std::move(stop), timeout, [&] { return additions_ != seen; });
  return additions_;
}

std::uint64_t EventLog::additions() {
  const std::lock_guard lock(mutex_);
  return additions_;
}

}  // namespace sealift::controller
