#include "agent/inventory.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "base/file.h"
#include "base/record_form.h"
#include "base/status.h"

namespace sealift::agent {
namespace {

using nlohmann::json;

}  // namespace

std::string EncodeVmRecord(const VmRecord& record) {
  const json object = {{base::kRecordFormKey, base::kRecordForm},
                       {"definition", hypervisor::FormatVmDefinition(record.definition)},
                       {"epoch", record.epoch},
                       {"encryption", policy::ModeName(record.mode)},
                       {"policy_version", record.policy_version},
                       {"boot_id", record.boot_id},
                       {"crash", record.crash}};
  return object.dump(2) + "\n";
}

absl::StatusOr<VmRecord> DecodeVmRecord(const std::string& text) {
  VmRecord record;
  std::string definition;
  std::string mode_name;
  try {
    const json object = json::parse(text);
    SEALIFT_RETURN_IF_ERROR(
        base::CheckRecordForm(object.value(base::kRecordFormKey, base::kFirstRecordForm)));
    definition = object.at("definition").get<std::string>();
    mode_name = object.at("encryption").get<std::string>();
    record.epoch = object.at("epoch").get<std::uint64_t>();
    record.policy_version = object.at("policy_version").get<std::uint64_t>();
    record.boot_id = object.at("boot_id").get<std::string>();
    record.crash = object.value("crash", "");  // earlier agents did not write it down
  } catch (const json::exception& error) {
    return absl::DataLossError(error.what());
  }
  const auto mode = policy::ParseMode(mode_name);
  if (!mode) return absl::DataLossError(fmt::format("unknown encryption mode '{}'", mode_name));
  record.mode = *mode;
  SEALIFT_ASSIGN_OR_RETURN(record.definition, hypervisor::ParseVmDefinition(definition));
  return record;
}

Inventory::Inventory(std::string folder) : folder_(std::move(folder)) {}

absl::StatusOr<std::vector<VmRecord>> Inventory::Load() const {
  SEALIFT_ASSIGN_OR_RETURN(const auto texts, folder_.Load());
  std::vector<VmRecord> records;
  for (const RecordFolder::Text& text : texts) {
    absl::StatusOr<VmRecord> record = DecodeVmRecord(text.content);
    if (!record.ok()) return base::Annotate(record.status(), text.path);
    records.push_back(*std::move(record));
  }
  return records;
}

absl::Status Inventory::Put(const VmRecord& record) const {
  return folder_.Put(record.definition.name, EncodeVmRecord(record));
}

absl::Status Inventory::Remove(const std::string& name) const { return folder_.Remove(name); }

absl::StatusOr<std::string> ReadBootId() {
  SEALIFT_ASSIGN_OR_RETURN(std::string id, base::ReadFile("/proc/sys/kernel/random/boot_id"));
  while (id.ends_with('\n')) id.pop_back();
  return id;
}

}  // namespace sealift::agent
