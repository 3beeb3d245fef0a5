// sealift policy show|set|check
#include <fmt/format.h>

#include "cli/command.h"
#include "cli/forecast_view.h"

namespace sealift::cli {
namespace {

using PolicyStub = v1::PolicyService::Stub;

constexpr char kNone[] = "none";

std::string Scope(const std::string& group) {
  return group.empty() ? "installation" : "group " + group;
}

std::string ModeOrNone(v1::EncryptionMode mode) {
  return mode == v1::ENCRYPTION_MODE_UNSPECIFIED ? kNone : Word(mode);
}

absl::StatusOr<ExitCode> ShowPolicies(Session& session, const v1::ListPoliciesRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_ASSIGN_OR_RETURN(const v1::ListPoliciesResponse response,
                           controller->Call(&PolicyStub::List, request));
  Table table({"SCOPE", "FLOOR", "DEFAULT"});
  for (const v1::Policy& policy : response.policies()) {
    table.AddRow(
        {Scope(policy.group()), ModeOrNone(policy.floor()), ModeOrNone(policy.default_mode())});
  }
  session.output().Print(ToJsonList(response.policies()), table);
  return ExitCode::kDone;
}

struct SetArguments {
  std::string group;
  std::string floor;
  std::string default_mode;
};

absl::StatusOr<v1::EncryptionMode> ModeOf(const std::string& word) {
  if (word == kNone) return v1::ENCRYPTION_MODE_UNSPECIFIED;
  return ParseEncryption(word);
}

absl::StatusOr<ExitCode> SetPolicy(Session& session, const SetArguments& arguments) {
  if (arguments.floor.empty() && arguments.default_mode.empty()) {
    return absl::InvalidArgumentError("say what to change: --floor or --default");
  }
  v1::SetPolicyRequest request;
  request.set_group(arguments.group);
  if (!arguments.floor.empty()) {
    SEALIFT_ASSIGN_OR_RETURN(const v1::EncryptionMode floor, ModeOf(arguments.floor));
    request.set_floor(floor);
  }
  if (!arguments.default_mode.empty()) {
    SEALIFT_ASSIGN_OR_RETURN(const v1::EncryptionMode mode, ModeOf(arguments.default_mode));
    request.set_default_mode(mode);
  }
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_ASSIGN_OR_RETURN(const v1::Policy policy, controller->Call(&PolicyStub::Set, request));
  session.output().Note(fmt::format("{}: floor {}, default {}", Scope(policy.group()),
                                    ModeOrNone(policy.floor()), ModeOrNone(policy.default_mode())));
  session.output().PrintData(ToJson(policy));
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> CheckPolicy(Session& session, const v1::CheckPolicyRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_ASSIGN_OR_RETURN(const v1::CheckPolicyResponse response,
                           controller->Call(&PolicyStub::Check, request));
  Table table({"VM", "FROM", "MODE", "TO", "MOVE", "REASON"});
  for (const v1::VmForecast& vm : response.vms()) {
    for (const v1::MoveForecast& move : vm.moves()) {
      table.AddRow({vm.vm(), vm.host(), Word(vm.effective_encryption()), move.host(),
                    OutcomeCell(move.outcome()), move.reason()});
    }
  }
  session.output().Print(ToJsonList(response.vms()), table);
  return ExitCode::kDone;
}

}  // namespace

void AddPolicyCommands(const Noun& root, Action& chosen) {
  const Noun policy = root.AddNoun("policy", "Least and default encryption modes");
  AddVerb(policy, chosen, "show", "Show floors and default modes", ShowPolicies);
  auto [set, arguments] =
      AddVerb(policy, chosen, "set", "Change the floor and the default mode", SetPolicy);
  std::vector<std::string> words = EncryptionWords();
  words.emplace_back(kNone);
  set.Text("--group", "GROUP", arguments.group,
           "Of a group of hosts (default: of the whole installation)");
  set.Choice("--floor", words, arguments.floor,
             "Least mode of every VM there; lowering it needs the right lower-floor");
  set.Choice("--default", words, arguments.default_mode, "Mode of new VMs that name none");
  auto [check, request] = AddVerb(policy, chosen, "check",
                                  "Say of every VM and host how a move would go now", CheckPolicy);
  check.Text("--vm", kVmType, *request.mutable_vm(), "Only this VM");
  check.Text("--host", kHostType, *request.mutable_host(), "Only VMs of this host");
}

}  // namespace sealift::cli
