#include "base/detached_call.h"

#include <condition_variable>
#include <mutex>
#include <thread>
#include <utility>

namespace sealift::base {

struct DetachedCall::Shared {
  std::mutex mutex;
  std::condition_variable_any returned;
  std::optional<absl::Status> result;  // guarded by mutex
};

DetachedCall::DetachedCall(std::function<absl::Status()> function)
    : shared_(std::make_shared<Shared>()) {
  std::thread([shared = shared_, function = std::move(function)] {
    absl::Status result = function();
    const std::lock_guard lock(shared->mutex);
    shared->result = std::move(result);
    shared->returned.notify_all();
  }).detach();
}

std::optional<absl::Status> DetachedCall::Wait(Duration timeout, std::stop_token stop) const {
  std::unique_lock lock(shared_->mutex);
  shared_->returned.wait_for(lock, std::move(stop), timeout,
                             [this] { return shared_->result.has_value(); });
  return shared_->result;
}

}  // namespace sealift::base
