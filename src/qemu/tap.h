// Tap devices on a bridge of the host, made by system calls. Needs CAP_NET_ADMIN.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/unique_fd.h"

namespace sealift::qemu {

// CheckBridge: FAILED_PRECONDITION when this host has no bridge of that name.
[[nodiscard]] absl::Status CheckBridge(const std::string& name);

// OpenTap makes a tap device with the bridge's MTU, attaches it to the bridge and brings it up. It
// exists as long as the descriptor or a duplicate of it is open. `guest_mac` is the address of the
// guest's NIC behind it.
[[nodiscard]] absl::StatusOr<base::UniqueFd> OpenTap(const std::string& bridge,
                                                     const std::string& guest_mac);

}  // namespace sealift::qemu
