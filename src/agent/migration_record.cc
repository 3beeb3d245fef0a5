#include "agent/migration_record.h"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/file.h"
#include "base/record_form.h"
#include "base/status.h"

namespace sealift::agent {
namespace {

using migration::LedgerStep;
using nlohmann::json;

constexpr std::string_view kSource = "source";
constexpr std::string_view kDestination = "destination";

struct StepWord {
  LedgerStep step;
  std::string_view word;
};
constexpr std::array kSteps = {
    StepWord{LedgerStep::kDelegated, "delegated"}, StepWord{LedgerStep::kCommitted, "committed"},
    StepWord{LedgerStep::kAborted, "aborted"},     StepWord{LedgerStep::kResumed, "resumed"},
    StepWord{LedgerStep::kReleased, "released"},   StepWord{LedgerStep::kReceiving, "receiving"},
    StepWord{LedgerStep::kReady, "ready"},         StepWord{LedgerStep::kOwned, "owned"},
    StepWord{LedgerStep::kDropped, "dropped"},
};

absl::StatusOr<LedgerStep> StepOf(const std::string& word) {
  for (const StepWord& entry : kSteps) {
    if (entry.word == word) return entry.step;
  }
  return absl::DataLossError(fmt::format("unknown step '{}'", word));
}

}  // namespace

std::string_view StepName(LedgerStep step) {
  for (const StepWord& entry : kSteps) {
    if (entry.step == step) return entry.word;
  }
  return "";
}

std::string EncodeMigrationRecord(const MigrationRecord& record) {
  const json object = {{base::kRecordFormKey, base::kRecordForm},
                       {"id", record.id},
                       {"vm", record.vm},
                       {"role", record.role == MigrationRole::kSource ? kSource : kDestination},
                       {"step", StepName(record.step)},
                       {"epoch", record.epoch},
                       {"definition", record.definition_yaml},
                       {"encryption", record.encryption},
                       {"policy_version", record.policy_version},
                       {"mover_pid", record.mover.pid},
                       {"mover_start_time", record.mover.start_time},
                       {"receipt", record.receipt}};
  return object.dump(2) + "\n";
}

absl::StatusOr<MigrationRecord> DecodeMigrationRecord(const std::string& text) {
  MigrationRecord record;
  std::string role;
  std::string step;
  try {
    const json object = json::parse(text);
    SEALIFT_RETURN_IF_ERROR(
        base::CheckRecordForm(object.value(base::kRecordFormKey, base::kFirstRecordForm)));
    record.id = object.at("id").get<std::string>();
    record.vm = object.at("vm").get<std::string>();
    role = object.at("role").get<std::string>();
    step = object.at("step").get<std::string>();
    record.epoch = object.at("epoch").get<std::uint64_t>();
    record.definition_yaml = object.at("definition").get<std::string>();
    record.encryption = object.at("encryption").get<std::string>();
    record.policy_version = object.at("policy_version").get<std::uint64_t>();
    record.mover.pid = object.at("mover_pid").get<int>();
    record.mover.start_time = object.at("mover_start_time").get<std::uint64_t>();
    record.receipt = object.value("receipt", "");  // not in those of an older agent
  } catch (const json::exception& error) {
    return absl::DataLossError(error.what());
  }
  if (role != kSource && role != kDestination) {
    return absl::DataLossError(fmt::format("unknown role '{}'", role));
  }
  record.role = role == kSource ? MigrationRole::kSource : MigrationRole::kDestination;
  SEALIFT_ASSIGN_OR_RETURN(record.step, StepOf(step));
  return record;
}

MigrationLog::MigrationLog(std::string folder) : folder_(std::move(folder)) {}

absl::StatusOr<std::vector<MigrationRecord>> MigrationLog::Load() const {
  SEALIFT_ASSIGN_OR_RETURN(const auto texts, folder_.Load());
  std::vector<MigrationRecord> records;
  for (const RecordFolder::Text& text : texts) {
    absl::StatusOr<MigrationRecord> record = DecodeMigrationRecord(text.content);
    if (!record.ok()) return base::Annotate(record.status(), text.path);
    records.push_back(*std::move(record));
  }
  return records;
}

absl::Status MigrationLog::Put(const MigrationRecord& record) const {
  return folder_.Put(record.id, EncodeMigrationRecord(record));
}

absl::Status MigrationLog::Remove(const std::string& id) const { return folder_.Remove(id); }

}  // namespace sealift::agent
