#include "agent/capabilities.h"

#include "base/status.h"
#include "keys/secret_bytes.h"
#include "record/aead.h"
#include "rpc/protocol.h"

namespace sealift::agent {
namespace {

void ReportEncryption(v1::HostCapabilities& report, Crypto crypto) {
  report.set_secret_memory(std::string(keys::SecretBackingName(keys::ProbeSecretBacking())));
  if (crypto == Crypto::kOff) {
    report.set_aead_reason("crypto is off in its agent.yaml");
    return;
  }
  const absl::StatusOr<record::AeadBackend> best = record::BestBackend();
  if (!best.ok()) {
    report.set_aead_reason(base::MessageOf(best.status()));
    return;
  }
  report.set_aead_backend(std::string(record::AeadBackendName(*best)));
  if (*best == record::AeadBackend::kIpsecMb) return;
  report.set_aead_reason(base::MessageOf(record::SelfTest(record::AeadBackend::kIpsecMb)));
}

}  // namespace

v1::HostCapabilities ReportCapabilities(const hypervisor::HostCapabilities& host, Crypto crypto) {
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
  ReportEncryption(report, crypto);
  return report;
}

}  // namespace sealift::agent
