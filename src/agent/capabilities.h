// What this host reports of itself.
#pragma once

#include "agent/config.h"
#include "hypervisor/hypervisor.h"
#include "sealift/v1/types.pb.h"

namespace sealift::agent {

// ReportCapabilities probes the encryption side (AEAD self-tests, secret memory) and adds it to
// what the hypervisor found. Call it once at the start: the self-tests run here.
[[nodiscard]] v1::HostCapabilities ReportCapabilities(const hypervisor::HostCapabilities& host,
                                                      Crypto crypto);

}  // namespace sealift::agent
