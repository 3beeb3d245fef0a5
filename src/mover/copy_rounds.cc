#include "mover/copy_rounds.h"

#include <algorithm>

namespace sealift::mover {
namespace {

// Shorter rounds say nothing about the speed of the copy.
constexpr std::uint64_t kMeasurableBytes = 8U << 20;
// Another round pays if it would leave at most this share of the last one.
constexpr double kWorthwhileShare = 0.5;
// What a round takes at least.
constexpr double kSmallestRound = 0.002;
// A rest that is copied in this time is not worth another round: the rest of the switch-over takes
// as long.
constexpr double kSmallRest = 0.010;

double Seconds(base::Duration duration) { return std::chrono::duration<double>(duration).count(); }

}  // namespace

void CopyRounds::Begin(base::Duration now) { BeginRound(now); }

void CopyRounds::BeginRound(base::Duration now) {
  between_ = now - began_;
  began_ = now;
  under_way_ = true;
  last_ = stopped_;
  ++round_;
}

void CopyRounds::RoundApplied(base::Duration now, std::uint64_t bytes) {
  under_way_ = false;
  applied_ = now;
  if (last_) {
    phase_ = CopyPhase::kFinished;
    expected_ = 0;
    return;
  }
  Judge(bytes, now - began_);
  previous_bytes_ = bytes;
  if (stopped_ || phase_ == CopyPhase::kCopying) BeginRound(now);
}

void CopyRounds::Judge(std::uint64_t bytes, base::Duration took) {
  const double seconds = std::max(Seconds(took), kSmallestRound);
  if (bytes >= kMeasurableBytes || bytes_per_second_ == 0) {
    bytes_per_second_ = std::max(1.0, static_cast<double>(bytes) / seconds);
  }
  // The first round says nothing about what the guest writes.
  if (round_ == 1) return;
  const double dirty = static_cast<double>(bytes) / std::max(Seconds(between_), kSmallestRound);
  dirty_rate_ = static_cast<std::uint64_t>(dirty);
  expected_ = static_cast<std::uint64_t>(dirty * seconds);
  if (phase_ == CopyPhase::kConverged) return;
  const double last_round = static_cast<double>(expected_) / bytes_per_second_;
  const bool pays = static_cast<double>(expected_) <= kWorthwhileShare * static_cast<double>(bytes);
  if (last_round <= Seconds(limit_) && (last_round <= kSmallRest || !pays)) {
    phase_ = CopyPhase::kConverged;
    return;
  }
  if (static_cast<double>(bytes) > kStallShare * static_cast<double>(previous_bytes_)) ++stalls_;
}

void CopyRounds::Finish(base::Duration now) {
  stopped_ = true;
  if (!under_way_ && phase_ != CopyPhase::kFinished) BeginRound(now);
}

void CopyRounds::Tick(base::Duration now) {
  if (phase_ == CopyPhase::kConverged && !under_way_ && now - applied_ >= kIdleRound) {
    BeginRound(now);
  }
}

}  // namespace sealift::mover
