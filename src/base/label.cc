#include "base/label.h"

#include <fmt/format.h>

#include <algorithm>

namespace sealift::base {
namespace {

constexpr std::size_t kMaxText = 63;

bool IsLabelText(std::string_view text) {
  return text.size() <= kMaxText && std::ranges::all_of(text, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '.' || c == '-' || c == '_' || c == '/';
         });
}

}  // namespace

absl::Status CheckLabel(std::string_view key, std::string_view value) {
  if (!key.empty() && IsLabelText(key) && IsLabelText(value)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      fmt::format("a label is KEY=VALUE of letters, digits, '.', '-', '_' and '/', at most {} "
                  "characters each",
                  kMaxText));
}

}  // namespace sealift::base
