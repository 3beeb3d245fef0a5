// Which files of an agent the next version, or the one before, understands.
#pragma once

#include <fmt/format.h>

#include "absl/status/status.h"

namespace sealift::base {

// Version of what a record says. A key that an older agent may ignore does not change it: unknown
// keys are ignored.
inline constexpr int kRecordForm = 1;
inline constexpr char kRecordFormKey[] = "form";
// Of a record that names none.
inline constexpr int kFirstRecordForm = 1;

// CheckRecordForm is FAILED_PRECONDITION for a record of a later form than ours.
[[nodiscard]] inline absl::Status CheckRecordForm(int form) {
  if (form >= kFirstRecordForm && form <= kRecordForm) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("it has form {}, this agent knows up to {}: it was written by a newer sealift, "
                  "install that one again",
                  form, kRecordForm));
}

}  // namespace sealift::base
