#include "base/detached_call.h"

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

namespace sealift::base {

// The result is taken apart, so that no status is of two threads: ThreadSanitizer does not see into
// the library that counts its references.
struct DetachedCall::Shared {
  std::mutex mutex;
  std::condition_variable_any returned;
  // Guarded by mutex:
  std::optional<absl::StatusCode> code;
  std::string message;
};

DetachedCall::DetachedCall(std::function<absl::Status()> function)
    : shared_(std::make_shared<Shared>()) {
  std::thread([shared = shared_, function = std::move(function)] {
    const absl::Status result = function();
    const std::lock_guard lock(shared->mutex);
    shared->code = result.code();
    shared->message = std::string(result.message());
    shared->returned.notify_all();
  }).detach();
}

std::optional<absl::Status> DetachedCall::Wait(Duration timeout, std::stop_token stop) const {
  std::unique_lock lock(shared_->mutex);
  const bool returned = shared_->returned.wait_for(lock, std::move(stop), timeout,
                                                   [this] { return shared_->code.has_value(); });
  if (!returned) return std::nullopt;
  return absl::Status(*shared_->code, shared_->message);
}

}  // namespace sealift::base
