#include "qemu/migration_json.h"

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <utility>

namespace sealift::qemu {
namespace {

using hypervisor::MigrationState;
using hypervisor::OutgoingProgress;
using hypervisor::RunState;
using nlohmann::json;

constexpr const char* kIgnoreShared = "x-ignore-shared";

// Throws for what is no unsigned number; json::value() would convert a floating-point one of any
// size.
std::uint64_t NumberAt(const json::object_t& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() ? 0 : found->second.get_ref<const json::number_unsigned_t&>();
}

OutgoingProgress ReadProgress(const json& reply) {
  OutgoingProgress progress;
  progress.state = ParseMigrationState(reply.value("status", "none"));
  progress.error = reply.value("error-desc", "");
  const auto found = reply.find("ram");
  if (found == reply.end()) return progress;
  const auto& ram = found->get_ref<const json::object_t&>();
  progress.ram_total_bytes = NumberAt(ram, "total");
  progress.ram_transferred_bytes = NumberAt(ram, "transferred");
  progress.ram_remaining_bytes = NumberAt(ram, "remaining");
  progress.dirty_bytes_per_second = NumberAt(ram, "dirty-pages-rate") * NumberAt(ram, "page-size");
  progress.iterations = NumberAt(ram, "dirty-sync-count");
  return progress;
}

}  // namespace

MigrationState ParseMigrationState(std::string_view status) {
  static constexpr std::pair<std::string_view, MigrationState> kStates[] = {
      {"none", MigrationState::kNone},           {"setup", MigrationState::kSetup},
      {"wait-unplug", MigrationState::kSetup},   {"pre-switchover", MigrationState::kPreSwitchover},
      {"device", MigrationState::kDevice},       {"completed", MigrationState::kCompleted},
      {"failed", MigrationState::kFailed},       {"cancelling", MigrationState::kCancelling},
      {"cancelled", MigrationState::kCancelled},
  };
  for (const auto& [word, state] : kStates) {
    if (word == status) return state;
  }
  return MigrationState::kActive;
}

RunState ParseRunState(std::string_view status, MigrationState migration) {
  // A guest that sleeps (ACPI S3) runs as far as we are concerned: it wakes up by itself.
  if (status == "running" || status == "suspended") return RunState::kRunning;
  if (status == "inmigrate") return RunState::kIncoming;
  // QEMU says that the migration has completed a moment before the status follows.
  const bool completed = migration == MigrationState::kCompleted;
  if (status == "finish-migrate") return completed ? RunState::kMigrated : RunState::kSwitching;
  if (status == "postmigrate") return completed ? RunState::kMigrated : RunState::kPaused;
  if (status == "io-error") return RunState::kIoError;
  if (status == "shutdown") return RunState::kShutdown;
  if (status == "guest-panicked" || status == "internal-error") return RunState::kCrashed;
  return RunState::kPaused;  // paused, prelaunch, watchdog, …: `cont` goes on
}

absl::StatusOr<OutgoingProgress> ParseProgress(const json& reply) {
  try {
    return ReadProgress(reply);
  } catch (const json::exception& error) {
    return absl::InternalError(
        fmt::format("QEMU's answer to query-migrate is not understood: {}", error.what()));
  }
}

bool HasIgnoreShared(const json& capabilities) {
  if (!capabilities.is_array()) return false;
  return std::ranges::any_of(capabilities, [](const json& entry) {
    return entry.is_object() && entry.contains("capability") &&
           entry["capability"] == kIgnoreShared;
  });
}

json MigrationCapabilities(const hypervisor::MigrationParameters& parameters,
                           bool has_ignore_shared) {
  const auto capability = [](const char* name, bool state) {
    return json{{"capability", name}, {"state", state}};
  };
  json capabilities = json::array(
      {capability("events", true), capability("return-path", true),
       capability("pause-before-switchover", true), capability("late-block-activate", true),
       capability("validate-uuid", true), capability("auto-converge", parameters.auto_converge),
       capability("multifd", parameters.multifd_channels > 0)});
  if (has_ignore_shared) {
    capabilities.push_back(capability(kIgnoreShared, parameters.ignore_shared));
  }
  return {{"capabilities", std::move(capabilities)}};
}

json MigrationParametersJson(const hypervisor::MigrationParameters& parameters) {
  // QEMU has no word for "unlimited", and its default is 128 MiB/s.
  constexpr std::uint64_t kUnlimitedBytesPerSecond = 1ULL << 40;
  json arguments = {{"downtime-limit", parameters.downtime_limit.count()},
                    {"max-bandwidth", kUnlimitedBytesPerSecond}};
  if (parameters.multifd_channels > 0) arguments["multifd-channels"] = parameters.multifd_channels;
  return arguments;
}

}  // namespace sealift::qemu
