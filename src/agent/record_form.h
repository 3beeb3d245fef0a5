// Which files of an agent the next version, or the one before, understands.
#pragma once

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "absl/status/status.h"

namespace sealift::agent {

// Version of what a record says. A key that an older agent may ignore does not change it: unknown
// keys are ignored. A record that names none is of the first.
inline constexpr int kRecordForm = 1;
inline constexpr char kRecordFormKey[] = "form";

// CheckRecordForm is FAILED_PRECONDITION for a record of a later form than ours. Throws what the
// JSON library throws for a form that is no number.
[[nodiscard]] inline absl::Status CheckRecordForm(const nlohmann::json& record) {
  const int form = record.value(kRecordFormKey, 1);
  if (form >= 1 && form <= kRecordForm) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("it has form {}, this agent knows up to {}: it was written by a newer sealift, "
                  "install that one again",
                  form, kRecordForm));
}

}  // namespace sealift::agent
