// A call that storage may hold up for ever.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <stop_token>

#include "absl/status/status.h"
#include "base/clock.h"

namespace sealift::base {

// DetachedCall runs a function once, on a thread of its own, which outlives it when the function
// does not return: so it may refer to nothing that goes away.
class DetachedCall {
 public:
  explicit DetachedCall(std::function<absl::Status()> function);

  // Wait returns what the function did, or nothing after `timeout` or at a stop.
  [[nodiscard]] std::optional<absl::Status> Wait(Duration timeout, std::stop_token stop = {}) const;

 private:
  struct Shared;
  const std::shared_ptr<Shared> shared_;
};

}  // namespace sealift::base
