// Who may move where and how: pure decisions, no I/O, no clock. The table is in
// docs/encryption_modes.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"

namespace sealift::policy {

// EncryptionMode of a VM, as in vSphere.
enum class EncryptionMode : std::uint8_t {
  kDisabled = 1,       // never encrypted, even if both hosts could
  kOpportunistic = 2,  // encrypted if both hosts can, else in the clear
  kRequired = 3,       // encrypted or not at all
};

inline constexpr EncryptionMode kDefaultMode = EncryptionMode::kOpportunistic;

// ModeName gives "disabled", "opportunistic" or "required"; ParseMode reads exactly those.
[[nodiscard]] std::string_view ModeName(EncryptionMode mode);
[[nodiscard]] std::optional<EncryptionMode> ParseMode(std::string_view name);

// Floor is the least mode that VMs of a scope may have: the whole installation, or a group of
// hosts.
struct Floor {
  std::string scope;  // as a sentence goes on: "the installation", "group prod"
  EncryptionMode mode = EncryptionMode::kDisabled;
};

// EffectiveMode is the mode that decides: the one that was set, or the highest floor above it.
struct EffectiveMode {
  EncryptionMode mode = kDefaultMode;
  std::string reason;  // which floor raised it; empty when none did
};
[[nodiscard]] EffectiveMode RaiseToFloors(EncryptionMode set, const std::vector<Floor>& floors);

// CheckFloors refuses a mode below a floor: FAILED_PRECONDITION naming the floor and the remedy.
[[nodiscard]] absl::Status CheckFloors(EncryptionMode set, const std::vector<Floor>& floors);

// EncryptionCapability of one host, as it reported itself. A host that reported nothing is
// incapable.
struct EncryptionCapability {
  std::string host;
  bool capable = false;
  std::string reason;  // why not, when it is not
};

enum class Outcome { kEncrypted, kPlain, kRefused };

// EncryptionDecision for one migration. `reason` is a sentence for the event log and for the user.
struct EncryptionDecision {
  Outcome outcome = Outcome::kRefused;
  std::string reason;
};

// DecideEncryption decides how a VM in `mode` may move between two hosts.
[[nodiscard]] EncryptionDecision DecideEncryption(EncryptionMode mode,
                                                  const EncryptionCapability& source,
                                                  const EncryptionCapability& destination);

// MayRunInTheClear is the agents' own check of what a controller asks for: only a VM whose stored
// mode allows it ever sends plaintext payload.
[[nodiscard]] bool MayRunInTheClear(EncryptionMode stored_mode);

}  // namespace sealift::policy
