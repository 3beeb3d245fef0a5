// The event log: what happened, to what, by whom. Every entry is stored, written to the daemon's
// log, and wakes the followers.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "store/store.h"

namespace sealift::controller {

// Actor of what the controller does by itself.
inline constexpr std::string_view kControllerActor = "controller";

// EventLog is thread-safe. Store and clock outlive it.
class EventLog {
 public:
  EventLog(store::Store& store, const base::Clock& clock) : store_(store), clock_(clock) {}

  // Add records one event. A store that cannot take it is reported in the daemon's log only: what
  // happened has happened.
  void Add(std::string_view type, const std::string& subject, std::string_view actor,
           const std::string& text);
  // AddAll is Add for many of the same type and actor; each pair is a subject and its text.
  void AddAll(std::string_view type, std::string_view actor,
              const std::vector<std::pair<std::string, std::string>>& entries);
  // AddWarning is Add for something an administrator should look at.
  void AddWarning(std::string_view type, const std::string& subject, std::string_view actor,
                  const std::string& text);

  // LastIs says whether the last that happened to a subject is of that type. It is how a repeated
  // deletion is told from that of something that never was; no, when the store cannot tell.
  [[nodiscard]] bool LastIs(std::string_view type, const std::string& subject);

  // WaitForNews blocks until an event was added since `seen` additions, `timeout` passed or a stop
  // was requested, and returns the number of additions since this object was made.
  [[nodiscard]] std::uint64_t WaitForNews(std::uint64_t seen, std::chrono::milliseconds timeout,
                                          std::stop_token stop);
  [[nodiscard]] std::uint64_t additions();

 private:
  void Store(const std::vector<store::EventRow>& rows);
  [[nodiscard]] store::EventRow RowOf(std::string_view type, const std::string& subject,
                                      std::string_view actor, const std::string& text) const;

  store::Store& store_;
  const base::Clock& clock_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  std::uint64_t additions_ = 0;  // guarded by mutex_
};

}  // namespace sealift::controller
