#include "cli/lost_stream.h"

#include <fmt/format.h>

#include "base/status.h"

namespace sealift::cli {
namespace {

// A controller that shuts down ends streams with OK, CANCELLED or UNAVAILABLE, depending on when it
// is caught.
bool MayComeBack(const absl::Status& status) {
  return status.ok() || absl::IsUnavailable(status) || absl::IsCancelled(status);
}

}  // namespace

LostStream::LostStream(std::chrono::seconds patience, const base::Clock& clock, Output& output)
    : patience_(patience), clock_(clock), output_(output) {}

absl::Status LostStream::Judge(const absl::Status& status) {
  if (!MayComeBack(status)) return status;
  const base::Duration now = clock_.SinceBoot();
  if (!lost_since_) {
    lost_since_ = now;
    output_.Warn("the connection to the controller is lost, trying again");
  }
  if (now - *lost_since_ < patience_) return absl::OkStatus();
  return absl::UnavailableError(
      fmt::format("the controller has not come back within {} s (--timeout): {}", patience_.count(),
                  status.ok() ? "it closes the connection" : base::MessageOf(status)));
}

}  // namespace sealift::cli
