#include "controller/event_log.h"

#include "base/log.h"
#include "base/status.h"

namespace sealift::controller {

void EventLog::Add(std::string_view type, const std::string& subject, std::string_view actor,
                   const std::string& text) {
  spdlog::info("{} {} by {}: {}", type, subject, actor, text);
  Store(type, subject, actor, text);
}

void EventLog::AddWarning(std::string_view type, const std::string& subject, std::string_view actor,
                          const std::string& text) {
  spdlog::warn("{} {} by {}: {}", type, subject, actor, text);
  Store(type, subject, actor, text);
}

void EventLog::Store(std::string_view type, const std::string& subject, std::string_view actor,
                     const std::string& text) {
  const auto number = store_.AddEvent({.number = 0,
                                       .time = base::UnixMillis(clock_.Now()),
                                       .type = std::string(type),
                                       .subject = subject,
                                       .actor = std::string(actor),
                                       .text = text});
  if (!number.ok()) {
    spdlog::error("store event {} of {}: {}", type, subject, base::MessageOf(number.status()));
    return;
  }
  {
    const std::lock_guard lock(mutex_);
    ++additions_;
  }
  changed_.notify_all();
}

std::uint64_t EventLog::WaitForNews(std::uint64_t seen, std::chrono::milliseconds timeout,
                                    std::stop_token stop) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, stop, timeout, [&] { return additions_ != seen; });
  return additions_;
}

std::uint64_t EventLog::additions() {
  const std::lock_guard lock(mutex_);
  return additions_;
}

}  // namespace sealift::controller
