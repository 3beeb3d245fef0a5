// The host's page cache under the disks of a running QEMU.
//
// A disk that is opened past it (O_DIRECT) writes what a guest reads straight into guest memory,
// which shows in no page table: a page that was scanned in the meantime would be taken for
// unwritten. Through the page cache the data is copied by the CPU. So disks go through it for as
// long as writes are tracked.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "hypervisor/vm_definition.h"

namespace sealift::qemu {

// QmpCall runs a QMP command, as QmpClient::Execute() does.
using QmpCall =
    std::function<absl::StatusOr<nlohmann::json>(std::string_view command, nlohmann::json)>;

// BeforeReopening is called for each disk that is to be reopened. An error leaves the disk as it
// is.
using BeforeReopening = std::function<absl::Status(const hypervisor::Disk&)>;

// UsePageCache reopens every disk that goes past the page cache. `forget` drops what the page cache
// holds of that file, because another host may have written it since. After an error all disks are
// as before; it names the disk. FAILED_PRECONDITION when QEMU has some other image open past the
// page cache: the backing file of a disk that an earlier version started.
[[nodiscard]] absl::Status UsePageCache(const hypervisor::VmDefinition& definition,
                                        const QmpCall& qmp, const BeforeReopening& forget);

// BypassPageCache gives back its cache mode to every disk that UsePageCache() has reopened, also in
// the time of an earlier agent. `write_back` writes back what the page cache holds of it: QEMU
// would, while the guest stands still. It goes on after an error and returns the first.
[[nodiscard]] absl::Status BypassPageCache(const hypervisor::VmDefinition& definition,
                                           const QmpCall& qmp, const BeforeReopening& write_back);

}  // namespace sealift::qemu
