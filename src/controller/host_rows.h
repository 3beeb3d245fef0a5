// Changes to single fields of a stored host, made one after the other.
#pragma once

#include <functional>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "store/store.h"

namespace sealift::controller {

// HostRows is thread-safe. The store outlives it. Whoever changes a host's row that exists does it
// here, so that a heartbeat and an operator do not undo each other's change.
class HostRows {
 public:
  explicit HostRows(store::Store& store) : store_(store) {}

  // Update reads a row, applies `change` and writes it. NOT_FOUND when there is no such host.
  [[nodiscard]] absl::Status Update(const std::string& host,
                                    const std::function<void(store::HostRow&)>& change);

 private:
  store::Store& store_;
  std::mutex mutex_;
};

}  // namespace sealift::controller
