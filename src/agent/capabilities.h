// What this host reports of itself.
#pragma once

#include <functional>

#include "absl/status/statusor.h"
#include "agent/config.h"
#include "hypervisor/hypervisor.h"
#include "record/aead.h"
#include "sealift/v1/types.pb.h"

namespace sealift::agent {

// AeadSelfTest is record::SelfTest, or what a test puts in its place.
using AeadSelfTest = std::function<absl::Status(record::AeadBackend)>;

// ReportCapabilities probes the encryption side (AEAD self-tests, secret memory) and adds it to
// what the hypervisor found. Call it once at the start: the self-tests run here. A CPU that lacks
// what a backend needs is reported; any other failure of a self-test is returned, and means that
// this host must not handle keys.
[[nodiscard]] absl::StatusOr<v1::HostCapabilities> ReportCapabilities(
    const hypervisor::HostCapabilities& host, const Crypto& crypto,
    const AeadSelfTest& self_test = record::SelfTest);

}  // namespace sealift::agent
