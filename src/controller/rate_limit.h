// A limit on how often something may be tried, per peer and in all.
#pragma once

#include <chrono>
#include <cstddef>
#include <mutex>
#include <string>
#include <unordered_map>

#include "base/clock.h"

namespace sealift::controller {

// Rates are tries per second; as many are let through at once after a rest (token bucket).
struct Rates {
  double peer;
  double overall;
};

// RateLimit lets each peer, and all peers together, through at its rate. Thread-safe. The clock
// outlives it.
class RateLimit {
 public:
  RateLimit(const base::Clock& clock, Rates rates);

  // Allow takes one try of `peer`, or returns false. A refused peer takes nothing from the others.
  [[nodiscard]] bool Allow(const std::string& peer);

 private:
  struct Bucket {
    double tokens;
    base::Duration filled;  // since boot, when `tokens` was right
  };
  static void Refill(Bucket& bucket, double rate, base::Duration now);
  void DropFullBuckets(base::Duration now);

  const base::Clock& clock_;
  const Rates rates_;
  std::mutex mutex_;
  Bucket all_;                                     // guarded by mutex_
  std::unordered_map<std::string, Bucket> peers_;  // guarded by mutex_
};

}  // namespace sealift::controller
