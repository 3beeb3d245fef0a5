#include "controller/rate_limit.h"

#include <algorithm>

namespace sealift::controller {
namespace {

// Peers remembered before those that have rested long enough are dropped.
constexpr std::size_t kManyPeers = 1024;

}  // namespace

RateLimit::RateLimit(const base::Clock& clock, Rates rates)
    : clock_(clock), rates_(rates), all_{rates.overall, clock.SinceBoot()} {}

bool RateLimit::Allow(const std::string& peer) {
  const base::Duration now = clock_.SinceBoot();
  const std::lock_guard lock(mutex_);
  if (peers_.size() >= kManyPeers) DropFullBuckets(now);
  Bucket& own = peers_.try_emplace(peer, Bucket{rates_.peer, now}).first->second;
  Refill(own, rates_.peer, now);
  Refill(all_, rates_.overall, now);
  if (own.tokens < 1 || all_.tokens < 1) return false;
  own.tokens -= 1;
  all_.tokens -= 1;
  return true;
}

void RateLimit::Refill(Bucket& bucket, double rate, base::Duration now) {
  const std::chrono::duration<double> passed = now - bucket.filled;
  bucket.tokens = std::min(rate, bucket.tokens + passed.count() * rate);
  bucket.filled = now;
}

// After one second of rest a bucket is full and says no more than a new one.
void RateLimit::DropFullBuckets(base::Duration now) {
  std::erase_if(peers_, [&](const auto& peer) {
    return now - peer.second.filled >= std::chrono::seconds(1);
  });
}

}  // namespace sealift::controller
