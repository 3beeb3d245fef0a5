// What this host can run, found out by trying.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/system_user.h"
#include "hypervisor/hypervisor.h"
#include "qemu/host_facts.h"

namespace sealift::qemu {

struct ProbeOptions {
  std::string qemu_binary;
  base::SystemUser user;
};

// A guest that executes one instruction does so within milliseconds; one that has not by then never
// will.
inline constexpr base::Duration kProbeGuestTimeout = std::chrono::milliseconds(1500);

// ProbeHost takes about 0.2 s, and up to kProbeGuestTimeout more on a host whose KVM hangs. An
// error means that QEMU itself cannot be used.
[[nodiscard]] absl::StatusOr<hypervisor::HostCapabilities> ProbeHost(const ProbeOptions& options);

struct AcceleratorChoice {
  hypervisor::Accelerator accelerator = hypervisor::Accelerator::kTcg;
  std::string reason;
};

// ChooseAccelerator gives KVM only when the CPU has vmx or svm, the user may open `kvm_device`, and
// a guest really runs under it.
[[nodiscard]] AcceleratorChoice ChooseAccelerator(const ProbeOptions& options, const CpuFacts& cpu,
                                                  const std::string& kvm_device);

// RunProbeGuest starts a guest that consists of `firmware` (its last 16 bytes are where the CPU
// starts) and wants it to leave through the debug exit device as ProbeFirmware() does.
// DEADLINE_EXCEEDED when it does not within `timeout`; it is killed then.
[[nodiscard]] absl::Status RunProbeGuest(const ProbeOptions& options,
                                         hypervisor::Accelerator accelerator,
                                         const std::string& firmware, base::Duration timeout);

// ProbeFirmware is a firmware image that does nothing but leave.
[[nodiscard]] std::string ProbeFirmware();

// CpuModelDigest is the same for equal models in every process and on every host; `expansion` is
// the reply to query-cpu-model-expansion, as JSON text with sorted keys.
[[nodiscard]] std::string CpuModelDigest(std::string_view accelerator, std::string_view expansion);

}  // namespace sealift::qemu
