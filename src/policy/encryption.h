// Who may move where and how: pure decisions, no I/O, no clock. The table is in
// docs/encryption_modes.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

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
