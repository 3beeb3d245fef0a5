// The ledger of one migration on this host, on disk until the controller says to forget it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "agent/record_folder.h"
#include "base/process.h"
#include "migration/environment.h"

namespace sealift::agent {

enum class MigrationRole { kSource, kDestination };

// MigrationRecord is what a restarted agent needs in order to finish or undo. Nothing in it is
// secret.
struct MigrationRecord {
  std::string id;  // 32 hexadecimal digits
  std::string vm;
  MigrationRole role = MigrationRole::kSource;
  migration::LedgerStep step = migration::LedgerStep::kReceiving;
  std::uint64_t epoch = 0;           // source: of the VM here; destination: once it runs here
  std::string definition_yaml;       // of the VM
  std::string encryption;            // mode of the VM
  std::uint64_t policy_version = 0;  // of that mode
  base::ProcessId mover;
  std::string receipt;  // destination, from `owned` on: what came with the source's commit
};

// StepName is the step's word in a record.
[[nodiscard]] std::string_view StepName(migration::LedgerStep step);

[[nodiscard]] std::string EncodeMigrationRecord(const MigrationRecord& record);
[[nodiscard]] absl::StatusOr<MigrationRecord> DecodeMigrationRecord(const std::string& text);

// MigrationLog reads and writes the records.
class MigrationLog {
 public:
  explicit MigrationLog(std::string folder);
  // Load fails on a damaged record, naming its file.
  [[nodiscard]] absl::StatusOr<std::vector<MigrationRecord>> Load() const;
  [[nodiscard]] absl::Status Put(const MigrationRecord& record) const;
  [[nodiscard]] absl::Status Remove(const std::string& id) const;

 private:
  const RecordFolder folder_;
};

}  // namespace sealift::agent
