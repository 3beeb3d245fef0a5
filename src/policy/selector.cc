#include "policy/selector.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/status.h"

namespace sealift::policy {
namespace {

constexpr std::size_t kMaxConditions = 64;

}  // namespace

absl::StatusOr<Selector> Selector::Parse(std::string_view text) {
  Selector selector;
  for (;;) {
    if (selector.conditions_.size() == kMaxConditions) {
      return absl::InvalidArgumentError(
          fmt::format("selector: at most {} conditions", kMaxConditions));
    }
    const std::size_t comma = text.find(',');
    SEALIFT_ASSIGN_OR_RETURN(Condition condition, ParseCondition(text.substr(0, comma)));
    selector.conditions_.push_back(std::move(condition));
    if (comma == std::string_view::npos) return selector;
    text.remove_prefix(comma + 1);
  }
}

absl::StatusOr<Selector::Condition> Selector::ParseCondition(std::string_view text) {
  Condition condition{Operator::kExists, std::string(text), ""};
  if (const std::size_t differs = text.find("!="); differs != std::string_view::npos) {
    condition = {Operator::kDiffers, std::string(text.substr(0, differs)),
                 std::string(text.substr(differs + 2))};
  } else if (const std::size_t equals = text.find('='); equals != std::string_view::npos) {
    condition = {Operator::kEquals, std::string(text.substr(0, equals)),
                 std::string(text.substr(equals + 1))};
  } else if (text.starts_with('!')) {
    condition = {Operator::kLacks, std::string(text.substr(1)), ""};
  }
  constexpr std::size_t kShown = 64;
  if (base::CheckLabel(condition.key, condition.value).ok()) return condition;
  return absl::InvalidArgumentError(fmt::format(
      "selector: '{}' is none of KEY=VALUE, KEY!=VALUE, KEY and !KEY", text.substr(0, kShown)));
}

bool Selector::Matches(const base::Labels& labels) const {
  return std::ranges::all_of(conditions_, [&](const Condition& condition) {
    const auto found = labels.find(condition.key);
    const bool exists = found != labels.end();
    switch (condition.op) {
      case Operator::kEquals:
        return exists && found->second == condition.value;
      case Operator::kDiffers:
        return !exists || found->second != condition.value;
      case Operator::kExists:
        return exists;
      case Operator::kLacks:
        return !exists;
    }
    return false;
  });
}

}  // namespace sealift::policy
