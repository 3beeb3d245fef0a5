#include "mover/copy_rounds.h"

#include <algorithm>

namespace sealift::mover {
namespace {

// Rounds of less say nothing about the speed of the copy.
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

void CopyRounds::RoundApplied(base::Duration now, const RoundBytes& bytes) {
  under_way_ = false;
  applied_ = now;
  if (last_) {
    phase_ = CopyPhase::kFinished;
    expected_ = 0;
    return;
  }
  Judge(bytes, now - began_);
  previous_bytes_ = bytes.data + bytes.zeros;
  if (stopped_ || phase_ == CopyPhase::kCopying) BeginRound(now);
}

void CopyRounds::Judge(const RoundBytes& bytes, base::Duration took) {
  const auto data = static_cast<double>(bytes.data);
  const auto zeros = static_cast<double>(bytes.zeros);
  const double seconds = std::max(Seconds(took), kSmallestRound);
  if (bytes.data >= kMeasurableBytes || bytes_per_second_ == 0) {
    bytes_per_second_ = data / std::max(seconds - zeros / kZeroBytesPerSecond, kSmallestRound);
  }
  // The first round says nothing about what the guest writes.
  if (round_ == 1) return;
  const double written_for = std::max(Seconds(between_), kSmallestRound);
  dirty_rate_ = static_cast<std::uint64_t>((data + zeros) / written_for);
  // What another round would have to copy, of what this one had to.
  const double share = seconds / written_for;
  expected_ = static_cast<std::uint64_t>(data * share);
  if (phase_ == CopyPhase::kConverged) return;
  const double copying = data == 0 ? 0 : data / bytes_per_second_;
  const double last_round = share * (copying + zeros / kZeroBytesPerSecond);
  const bool pays = share <= kWorthwhileShare;
  if (last_round <= Seconds(limit_) && (last_round <= kSmallRest || !pays)) {
    phase_ = CopyPhase::kConverged;
    return;
  }
  if (data + zeros > kStallShare * static_cast<double>(previous_bytes_)) ++stalls_;
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
