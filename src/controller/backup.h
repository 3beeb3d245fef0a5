// The controller's state in one file, and back.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"

namespace sealift::controller {

// CaKey says what becomes of the CA's private key in a backup.
enum class CaKey { kEncrypted, kLeftOut };

// AskPassphrase is called where a passphrase is needed, and only there.
using AskPassphrase = std::function<absl::StatusOr<std::string>()>;

// BackUp writes the state folder's store, CA certificate and address to `to`, and the CA's key,
// under a passphrase, unless that is left out. The controller's own identity stays out: a new one
// is made from the CA's key. The controller may run. ALREADY_EXISTS when there is such a file.
[[nodiscard]] absl::Status BackUp(const std::string& state_dir, const std::string& to, CaKey key,
                                  const AskPassphrase& ask, const base::Clock& clock);

// Restored is what an operator should know afterwards.
struct Restored {
  std::int64_t made = 0;           // when the backup was, milliseconds since 1970
  std::vector<std::string> hosts;  // that it knew
  CaKey key = CaKey::kEncrypted;
};

// Restore makes a state folder from a backup. FAILED_PRECONDITION, and nothing is touched, where
// there is an installation; PERMISSION_DENIED for a wrong passphrase. `joined_since` are hosts that
// joined after the backup was made. The store is marked: nothing starts before every host has been
// heard. The CA's key comes last, and no controller runs without it.
[[nodiscard]] absl::StatusOr<Restored> Restore(const std::string& from,
                                               const std::string& state_dir,
                                               const std::vector<std::string>& joined_since,
                                               const AskPassphrase& ask, const base::Clock& clock);

}  // namespace sealift::controller
