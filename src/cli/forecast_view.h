// Modes and moves as people read and write them.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "cli/table.h"
#include "sealift/v1/controller.pb.h"

namespace sealift::cli {

// EncryptionWords are the modes; ParseEncryption reads one of them.
[[nodiscard]] const std::vector<std::string>& EncryptionWords();
[[nodiscard]] absl::StatusOr<v1::EncryptionMode> ParseEncryption(const std::string& word);

// OutcomeCell is how a move would go, in one word.
[[nodiscard]] Cell OutcomeCell(v1::MoveOutcome outcome);

}  // namespace sealift::cli
