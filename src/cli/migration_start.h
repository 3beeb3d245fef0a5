// Starting a migration so that it may be asked for again when the answer is lost.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace sealift::cli {

// MakeRequestId: however often a migration is asked for with the same id, it starts once.
[[nodiscard]] std::string MakeRequestId();

// AnswerIsLost says that what was asked for may have been done all the same.
[[nodiscard]] bool AnswerIsLost(const absl::Status& status);

}  // namespace sealift::cli
