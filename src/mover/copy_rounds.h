// When a direct copy goes on with another round, and when it is worth stopping the guest.
#pragma once

#include <chrono>
#include <cstdint>

#include "base/clock.h"
#include "mover/control.h"

namespace sealift::mover {

// ---- Chosen by us ----

// A round that is not below this share of the one before is a stall: the guest writes about as fast
// as the copy goes.
inline constexpr double kStallShare = 0.8;
// How fast pages of zeros are found at the source and cleared at the destination; how fast data
// goes is measured.
inline constexpr double kZeroBytesPerSecond = 2e9;
// While the guest is about to be stopped a round now and then keeps the rest small.
inline constexpr std::chrono::milliseconds kIdleRound{100};

// RoundBytes is what a round was made of.
struct RoundBytes {
  std::uint64_t data = 0;
  std::uint64_t zeros = 0;  // pages that were only named
};

// CopyRounds decides and remembers; it does nothing. Times are of one monotonic clock.
//
//   Begin ─▶ round 1, 2, … ─▶ converged: a round every kIdleRound ── Finish ─▶ last round ─▶
//   finished
class CopyRounds {
 public:
  // `downtime_limit`: the guest may stand still for that long while the last round is copied.
  explicit CopyRounds(base::Duration downtime_limit) : limit_(downtime_limit) {}

  // The round to send now; it changes only in the calls below.
  [[nodiscard]] std::uint32_t round() const { return round_; }
  [[nodiscard]] CopyPhase phase() const { return phase_; }
  // Times the copy was found to make no headway; it goes on all the same.
  [[nodiscard]] std::uint32_t stalls() const { return stalls_; }
  // What the guest wrote per second, as of the last round.
  [[nodiscard]] std::uint64_t dirty_bytes_per_second() const { return dirty_rate_; }
  // What another round would have to copy; nothing is known of it during the first.
  [[nodiscard]] std::uint64_t expected_bytes() const { return expected_; }

  void Begin(base::Duration now);
  // RoundApplied: the destination has all of the round.
  void RoundApplied(base::Duration now, const RoundBytes& bytes);
  // Finish: the guest stands still, the next round is the last.
  void Finish(base::Duration now);
  void Tick(base::Duration now);

 private:
  void BeginRound(base::Duration now);
  void Judge(const RoundBytes& bytes, base::Duration took);

  const base::Duration limit_;
  CopyPhase phase_ = CopyPhase::kCopying;
  std::uint32_t round_ = 0;
  bool under_way_ = false;  // round_ is not applied yet
  bool stopped_ = false;    // the guest stands still
  bool last_ = false;       // round_ is the last
  base::Duration began_{};
  base::Duration applied_{};
  base::Duration between_{};          // from the beginning of the round before to that of this one
  std::uint64_t previous_bytes_ = 0;  // data and zeros
  double bytes_per_second_ = 0;       // of data; 0 while nothing was copied
  std::uint64_t dirty_rate_ = 0;
  std::uint64_t expected_ = 0;
  std::uint32_t stalls_ = 0;
};

}  // namespace sealift::mover
