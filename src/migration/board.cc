#include "migration/board.h"

#include <algorithm>

namespace sealift::migration {
namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;

// Shorter intervals give a jumpy rate.
constexpr milliseconds kRateInterval{500};

}  // namespace

Board::Board(const base::Clock& clock)
    : clock_(clock), started_(clock.SinceBoot()), measured_at_(started_) {}

void Board::Post(const std::function<void(Snapshot&)>& change) {
  const std::lock_guard lock(mutex_);
  change(snapshot_);
  const base::Duration now = clock_.SinceBoot();
  snapshot_.elapsed = duration_cast<milliseconds>(now - started_);
  const auto interval = duration_cast<milliseconds>(now - measured_at_);
  if (interval >= kRateInterval) {
    // A mover that has ended counts no bytes.
    const std::uint64_t bytes =
        snapshot_.wire_bytes - std::min(snapshot_.wire_bytes, measured_wire_bytes_);
    snapshot_.bytes_per_second = bytes * 1000 / static_cast<std::uint64_t>(interval.count());
    measured_at_ = now;
    measured_wire_bytes_ = snapshot_.wire_bytes;
  }
  ++version_;
  changed_.notify_all();
}

absl::Status Board::CloseCancellation() {
  const std::lock_guard lock(mutex_);
  if (cancel_.stop_requested()) return absl::CancelledError("cancelled on request");
  cancellation_closed_ = true;
  return absl::OkStatus();
}

std::optional<Decision> Board::WaitForDecision(base::Duration timeout) {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, timeout, [this] { return told_.has_value(); });
  return told_;
}

Snapshot Board::Look() const {
  const std::lock_guard lock(mutex_);
  return snapshot_;
}

std::uint64_t Board::WaitForChange(std::uint64_t version, base::Duration timeout) const {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, timeout, [&] { return version_ != version; });
  return version_;
}

absl::Status Board::RequestCancel() {
  const std::lock_guard lock(mutex_);
  if (IsFinal(snapshot_.phase)) return absl::FailedPreconditionError("the migration has ended");
  if (cancellation_closed_ || snapshot_.phase == PhaseName::kCommitted) {
    return absl::FailedPreconditionError("too late to cancel: the guest is being handed over");
  }
  cancel_.request_stop();
  return absl::OkStatus();
}

void Board::Tell(Decision decision) {
  const std::lock_guard lock(mutex_);
  if (!told_) told_ = decision;
  changed_.notify_all();
}

}  // namespace sealift::migration
