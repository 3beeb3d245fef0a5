// The VMs that this host owns, on disk: one JSON file per VM.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "agent/record_folder.h"
#include "hypervisor/vm_definition.h"
#include "policy/encryption.h"

namespace sealift::agent {

// VmRecord of one VM.
struct VmRecord {
  hypervisor::VmDefinition definition;
  std::uint64_t epoch = 0;
  policy::EncryptionMode mode = policy::kDefaultMode;
  std::uint64_t policy_version = 0;
  // The boot in which it was started and has not been seen to stop; empty: it is off.
  std::string boot_id;
  // How it ended, if nobody stopped it; until its next start.
  std::string crash;
};

// Inventory reads and writes the records. Its owner locks.
class Inventory {
 public:
  explicit Inventory(std::string folder);

  // Load reads every record. A damaged file is an error that names it: VMs are not forgotten
  // silently.
  [[nodiscard]] absl::StatusOr<std::vector<VmRecord>> Load() const;
  [[nodiscard]] absl::Status Put(const VmRecord& record) const;
  [[nodiscard]] absl::Status Remove(const std::string& name) const;

 private:
  const RecordFolder folder_;
};

// EncodeVmRecord and DecodeVmRecord are the file's content.
[[nodiscard]] std::string EncodeVmRecord(const VmRecord& record);
[[nodiscard]] absl::StatusOr<VmRecord> DecodeVmRecord(const std::string& text);

// ReadBootId is the kernel's random id of this boot.
[[nodiscard]] absl::StatusOr<std::string> ReadBootId();

}  // namespace sealift::agent
