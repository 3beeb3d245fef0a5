#include "policy/encryption.h"

#include <fmt/format.h>

namespace sealift::policy {
namespace {

std::string WhyIncapable(const EncryptionCapability& host) {
  return fmt::format("host {} cannot encrypt ({})", host.host,
                     host.reason.empty() ? "its agent reports no AEAD backend" : host.reason);
}

}  // namespace

std::string_view ModeName(EncryptionMode mode) {
  switch (mode) {
    case EncryptionMode::kDisabled:
      return "disabled";
    case EncryptionMode::kOpportunistic:
      return "opportunistic";
    case EncryptionMode::kRequired:
      return "required";
  }
  return "invalid";
}

std::optional<EncryptionMode> ParseMode(std::string_view name) {
  for (const EncryptionMode mode :
       {EncryptionMode::kDisabled, EncryptionMode::kOpportunistic, EncryptionMode::kRequired}) {
    if (name == ModeName(mode)) return mode;
  }
  return std::nullopt;
}

EffectiveMode RaiseToFloors(EncryptionMode set, const std::vector<Floor>& floors) {
  EffectiveMode effective{set, ""};
  for (const Floor& floor : floors) {
    if (floor.mode <= effective.mode) continue;
    effective = {floor.mode,
                 fmt::format("raised from {} to the floor of {}", ModeName(set), floor.scope)};
  }
  return effective;
}

absl::Status CheckFloors(EncryptionMode set, const std::vector<Floor>& floors) {
  for (const Floor& floor : floors) {
    if (set >= floor.mode) continue;
    return absl::FailedPreconditionError(
        fmt::format("mode {} is below the floor of {}, which is {}: choose {}, or have the floor "
                    "lowered with sealift policy set",
                    ModeName(set), floor.scope, ModeName(floor.mode), ModeName(floor.mode)));
  }
  return absl::OkStatus();
}

EncryptionDecision DecideEncryption(EncryptionMode mode, const EncryptionCapability& source,
                                    const EncryptionCapability& destination) {
  if (mode == EncryptionMode::kDisabled) {
    return {Outcome::kPlain, "mode is disabled: never encrypted"};
  }
  const EncryptionCapability* incapable = nullptr;
  if (!destination.capable) incapable = &destination;
  if (!source.capable) incapable = &source;
  if (incapable == nullptr) {
    return {Outcome::kEncrypted, fmt::format("mode is {} and both hosts can", ModeName(mode))};
  }
  if (mode == EncryptionMode::kOpportunistic) {
    return {Outcome::kPlain, fmt::format("mode is opportunistic and {}", WhyIncapable(*incapable))};
  }
  return {Outcome::kRefused, fmt::format("mode is required and {}", WhyIncapable(*incapable))};
}

bool MayRunInTheClear(EncryptionMode stored_mode) {
  return stored_mode != EncryptionMode::kRequired;
}

}  // namespace sealift::policy
