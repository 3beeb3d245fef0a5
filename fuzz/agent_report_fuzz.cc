// What an agent that somebody has taken over may tell the controller: a report, a view of a
// migration. Whatever it says, what is made of it can be kept, reckoned with and shown.
//
// The input: one byte that names the message, then its bytes.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "base/check.h"
#include "base/clock.h"
#include "controller/agent_report.h"
#include "controller/convert.h"
#include "controller/planner.h"

namespace {

using namespace sealift;
using namespace sealift::controller;

// Whoever is shown it can read it, which he cannot where a text is no UTF-8.
void CheckShown(const google::protobuf::Message& shown) {
  const std::unique_ptr<google::protobuf::Message> read(shown.New());
  SEALIFT_CHECK(read->ParseFromString(shown.SerializeAsString()));
}

void Plan(const v1::AgentStatus& status) {
  MigrationQuestion question;
  question.vm.name = "web1";
  question.vm.memory_bytes = 64U << 20;
  question.state = v1::VM_STATE_RUNNING;
  if (const v1::AgentVm* vm = FindAgentVm(status, "web1")) {
    question.state = vm->state();
    question.direct = vm->direct();
    question.direct_reason = vm->direct_reason();
  }
  question.source = {"a", HostReach::kReady, "", status.capabilities(), false};
  question.destination = question.source;
  question.destination.name = "b";
  question.mode.mode = policy::EncryptionMode::kRequired;
  const auto plan = PlanMigration(question);
  SEALIFT_CHECK(plan.ok() ? plan->encryption.outcome == policy::Outcome::kEncrypted
                          : absl::IsFailedPrecondition(plan.status()));
  CheckShown(ForecastMove(question));
}

void Hear(v1::AgentStatus& status) {
  Curb(status);
  for (const v1::AgentVm& vm : status.vms()) {
    SEALIFT_CHECK(v1::VmState_IsValid(vm.state()) && vm.epoch() <= kMaxReportNumber);
    SEALIFT_CHECK(vm.state_reason().size() <= kMaxReportText);
  }
  (void)base::FormatUtc(base::FromUnixMillis(status.certificate_not_after_ms()));
  Plan(status);
  store::HostRow row;
  row.name = "a";
  HostView view{HostReach::kReady, "", std::move(status), 1};
  CheckShown(ToProto(row, view, 1));
}

void Hear(v1::AgentMigration& migration) {
  Curb(migration);
  const v1::MigrationProgress& progress = migration.progress();
  SEALIFT_CHECK(v1::MigrationPhase_IsValid(progress.phase()));
  SEALIFT_CHECK(progress.wire_bytes() <= kMaxReportNumber);
  SEALIFT_CHECK(progress.detail().find('\n') == std::string::npos);
  store::MigrationRow row;
  row.phase = PhaseName(progress.phase());
  row.aead_backend = migration.aead_backend();
  SEALIFT_CHECK(ParsePhase(row.phase) == progress.phase());
  CheckShown(ToProto(row, progress));
}

void Hear(v1::PrepareDestinationResponse& response) {
  Curb(response);
  SEALIFT_CHECK(response.data_addresses_size() <= kMaxReportItems);
}

template <typename Message>
void Parse(const std::string& bytes) {
  Message message;
  if (message.ParseFromString(bytes)) Hear(message);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr void (*kMessages[])(const std::string&) = {
      Parse<v1::AgentStatus>, Parse<v1::AgentMigration>, Parse<v1::PrepareDestinationResponse>};
  if (size == 0 || data[0] >= std::size(kMessages)) return 0;
  kMessages[data[0]](std::string(reinterpret_cast<const char*>(data) + 1, size - 1));
  return 0;
}
