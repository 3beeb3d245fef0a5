#include "agent/capabilities.h"

#include <fmt/format.h>

#include "base/status.h"
#include "keys/secret_bytes.h"
#include "record/record_format.h"
#include "rpc/protocol.h"

namespace sealift::agent {
namespace {

using record::AeadBackend;

// Why the backend in use is not the fastest one.
std::string ReasonFor(const Crypto& crypto) {
  if (crypto.provider == keys::Provider::kFips) return "crypto.fips is true in its agent.yaml";
  return fmt::format("crypto.backend is {} in its agent.yaml",
                     record::AeadBackendName(*crypto.backend));
}

absl::Status ReportBackend(v1::HostCapabilities& report, AeadBackend backend,
                           const AeadSelfTest& self_test) {
  absl::Status tested = self_test(backend);
  if (tested.ok()) report.set_aead_backend(std::string(record::AeadBackendName(backend)));
  return tested;
}

absl::Status ReportWantedBackend(v1::HostCapabilities& report, const Crypto& crypto,
                                 const AeadSelfTest& self_test) {
  absl::Status tested = ReportBackend(report, *crypto.backend, self_test);
  report.set_aead_reason(ReasonFor(crypto));
  if (!absl::IsUnavailable(tested)) return tested;
  report.set_aead_reason(fmt::format("{}: {}", ReasonFor(crypto), base::MessageOf(tested)));
  return absl::OkStatus();
}

absl::Status ReportFastestBackend(v1::HostCapabilities& report, const AeadSelfTest& self_test) {
  absl::Status fast = ReportBackend(report, AeadBackend::kIpsecMb, self_test);
  if (!absl::IsUnavailable(fast)) return fast;
  report.set_aead_reason(base::MessageOf(fast));
  return ReportBackend(report, AeadBackend::kOpenssl, self_test);
}

absl::Status ReportEncryption(v1::HostCapabilities& report, const Crypto& crypto,
                              const AeadSelfTest& self_test) {
  report.set_secret_memory(std::string(keys::SecretBackingName(keys::ProbeSecretBacking())));
  if (crypto.off) {
    report.set_aead_reason("crypto is off in its agent.yaml");
    return absl::OkStatus();
  }
  return crypto.backend ? ReportWantedBackend(report, crypto, self_test)
                        : ReportFastestBackend(report, self_test);
}

}  // namespace

absl::StatusOr<v1::HostCapabilities> ReportCapabilities(const hypervisor::HostCapabilities& host,
                                                        const Crypto& crypto,
                                                        const AeadSelfTest& self_test) {
  v1::HostCapabilities report;
  report.set_agent_version(rpc::kVersion);
  report.set_cpu_model(host.cpu_model_name);
  report.mutable_cpu_flags()->Add(host.cpu_flags.begin(), host.cpu_flags.end());
  report.set_cpus(host.cpus);
  report.set_memory_bytes(host.memory_bytes);
  report.set_memory_available_bytes(host.memory_available_bytes);
  report.set_accelerator(host.accelerator == hypervisor::Accelerator::kKvm ? "kvm" : "tcg");
  report.set_accelerator_reason(host.accelerator_reason);
  report.set_qemu_version(host.qemu_version);
  report.mutable_machine_types()->Add(host.machine_types.begin(), host.machine_types.end());
  report.mutable_usable_cpu_models()->Add(host.usable_cpu_models.begin(),
                                          host.usable_cpu_models.end());
  report.set_host_cpu_digest(host.host_cpu_digest);
  report.set_kernel_version(host.kernel_version);
  report.mutable_kernel_features()->Add(host.kernel_features.begin(), host.kernel_features.end());
  report.set_direct_engine(host.direct_reason.empty());
  report.set_direct_reason(host.direct_reason);
  report.set_memory_advice(host.memory_advice);
  report.set_prepares_early(true);
  report.set_protocol_version(record::kVersion);
  SEALIFT_RETURN_IF_ERROR(ReportEncryption(report, crypto, self_test));
  return report;
}

}  // namespace sealift::agent
