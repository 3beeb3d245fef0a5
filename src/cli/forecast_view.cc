#include "cli/forecast_view.h"

#include <fmt/format.h>

#include "cli/message_json.h"

namespace sealift::cli {

const std::vector<std::string>& EncryptionWords() {
  static const std::vector<std::string> words{"disabled", "opportunistic", "required"};
  return words;
}

absl::StatusOr<v1::EncryptionMode> ParseEncryption(const std::string& word) {
  for (const v1::EncryptionMode mode :
       {v1::ENCRYPTION_MODE_DISABLED, v1::ENCRYPTION_MODE_OPPORTUNISTIC,
        v1::ENCRYPTION_MODE_REQUIRED}) {
    if (Word(mode) == word) return mode;
  }
  return absl::InvalidArgumentError(fmt::format("'{}' is not an encryption mode", word));
}

Cell OutcomeCell(v1::MoveOutcome outcome) {
  switch (outcome) {
    case v1::MOVE_OUTCOME_ENCRYPTED:
      return {"encrypted", Tone::kGood};
    case v1::MOVE_OUTCOME_PLAIN:
      return {"in the clear", Tone::kWarning};
    default:
      return {"refused", Tone::kBad};
  }
}

}  // namespace sealift::cli
