#include "migration/steps.h"

#include "base/status.h"

namespace sealift::migration {

bool IsTimeout(const absl::Status& status) {
  return status.code() == absl::StatusCode::kDeadlineExceeded;
}

absl::Status Interruption(const Board& board, MoverLink& mover) {
  if (board.cancel_requested()) return absl::CancelledError("cancelled on request");
  return mover.Health();
}

absl::Status WaitEstablished(const Board& board, MoverLink& mover, const base::Clock& clock,
                             std::string_view what) {
  const base::Duration deadline = clock.SinceBoot() + kEstablishLimit;
  absl::Status status;
  do {
    SEALIFT_RETURN_IF_ERROR(Interruption(board, mover));
    status = mover.WaitEstablished(kLookEvery);
  } while (IsTimeout(status) && clock.SinceBoot() < deadline);
  return base::Annotate(status, what);
}

}  // namespace sealift::migration
