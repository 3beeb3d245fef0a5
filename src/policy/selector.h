// Choosing VMs by their labels.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/label.h"

namespace sealift::policy {

// Selector is a list of conditions, all of which must hold.
class Selector {
 public:
  // Parse reads conditions separated by commas: "env=prod", "tier!=db" (also true without such a
  // label), "backup" (has such a label), "!backup" (has not). INVALID_ARGUMENT for an empty
  // selector, for more than 64 conditions and for anything else.
  [[nodiscard]] static absl::StatusOr<Selector> Parse(std::string_view text);

  [[nodiscard]] bool Matches(const base::Labels& labels) const;

 private:
  enum class Operator { kEquals, kDiffers, kExists, kLacks };
  struct Condition {
    Operator op;
    std::string key;
    std::string value;
  };
  [[nodiscard]] static absl::StatusOr<Condition> ParseCondition(std::string_view text);

  std::vector<Condition> conditions_;
};

}  // namespace sealift::policy
