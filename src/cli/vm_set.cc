// sealift vm set
#include <fmt/format.h>

#include <fstream>
#include <iostream>
#include <iterator>

#include "cli/command.h"
#include "cli/forecast_view.h"
#include "cli/vm.h"

namespace sealift::cli {
namespace {

using VmStub = v1::VmService::Stub;

struct SetArguments {
  std::vector<std::string> names;
  bool all = false;
  std::string selector;
  std::string file;  // JSON of `vm list -o json`; "-": stdin
  std::string encryption;
  std::vector<std::string> labels;
  std::string encrypted;
  bool dry_run = false;
};

absl::Status AddLabels(const std::vector<std::string>& labels, v1::VmChange& change) {
  for (const std::string& label : labels) {
    const std::size_t equals = label.find('=');
    if (equals != std::string::npos) {
      (*change.mutable_set_labels())[label.substr(0, equals)] = label.substr(equals + 1);
    } else if (label.ends_with('-') && label.size() > 1) {
      change.add_remove_labels(label.substr(0, label.size() - 1));
    } else {
      return absl::InvalidArgumentError(fmt::format(
          "--label '{}' is neither KEY=VALUE nor KEY-, which takes a label away", label));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::VmChange> ChangeOf(const SetArguments& arguments) {
  v1::VmChange change;
  if (!arguments.encryption.empty()) {
    SEALIFT_ASSIGN_OR_RETURN(const v1::EncryptionMode mode, ParseEncryption(arguments.encryption));
    change.set_encryption(mode);
  }
  if (!arguments.encrypted.empty()) change.set_encrypted(arguments.encrypted == "yes");
  SEALIFT_RETURN_IF_ERROR(AddLabels(arguments.labels, change));
  return change;
}

absl::StatusOr<std::string> ReadAll(const std::string& file) {
  if (file == "-") return std::string(std::istreambuf_iterator<char>(std::cin), {});
  const std::ifstream in(file);
  if (!in) return absl::NotFoundError(fmt::format("cannot read {}", file));
  return std::string(std::istreambuf_iterator<char>(in.rdbuf()), {});
}

// A list of VMs as `vm list -o json` prints it: of each the name and the mode count.
absl::Status AddFromJson(const std::string& text, v1::SetVmsRequest& request) {
  const auto malformed = [](const std::string& what) {
    return absl::InvalidArgumentError(
        fmt::format("{}: give what sealift vm list -o json prints", what));
  };
  const Json list = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!list.is_array()) return malformed("the input is not a JSON list");
  for (const Json& vm : list) {
    if (!vm.is_object() || !vm.contains("name") || !vm["name"].is_string() ||
        !vm.contains("encryption") || !vm["encryption"].is_string()) {
      return malformed("an entry has no name or no encryption");
    }
    v1::VmChange& change = *request.add_changes();
    change.set_name(vm["name"].get<std::string>());
    SEALIFT_ASSIGN_OR_RETURN(const v1::EncryptionMode mode,
                             ParseEncryption(vm["encryption"].get<std::string>()));
    change.set_encryption(mode);
  }
  return absl::OkStatus();
}

absl::StatusOr<v1::SetVmsRequest> RequestOf(const SetArguments& arguments) {
  const int ways = (arguments.names.empty() ? 0 : 1) + (arguments.all ? 1 : 0) +
                   (arguments.selector.empty() ? 0 : 1) + (arguments.file.empty() ? 0 : 1);
  if (ways != 1) {
    return absl::InvalidArgumentError("name VMs, or give one of --all, --selector and --file");
  }
  v1::SetVmsRequest request;
  request.set_dry_run(arguments.dry_run);
  SEALIFT_ASSIGN_OR_RETURN(const v1::VmChange change, ChangeOf(arguments));
  const bool nothing = change.ByteSizeLong() == 0;
  if (!arguments.file.empty()) {
    if (!nothing) return absl::InvalidArgumentError("with --file the file says what to change");
    SEALIFT_ASSIGN_OR_RETURN(const std::string text, ReadAll(arguments.file));
    SEALIFT_RETURN_IF_ERROR(AddFromJson(text, request));
    return request;
  }
  if (nothing) {
    return absl::InvalidArgumentError("say what to change: --encryption, --label or --encrypted");
  }
  for (const std::string& name : arguments.names) {
    v1::VmChange& named = *request.add_changes();
    named = change;
    named.set_name(name);
  }
  if (arguments.names.empty()) *request.mutable_change() = change;
  request.set_all(arguments.all);
  request.set_selector(arguments.selector);
  return request;
}

std::string Outcome(const v1::VmChanged& result, bool dry_run) {
  if (!result.ok()) return result.error();
  if (!result.changed()) return "nothing to change";
  if (dry_run) return "would be changed";
  return result.pending() ? "changed; its host will be told" : "changed";
}

Table ResultTable(const v1::SetVmsResponse& response, bool dry_run) {
  Table table({"NAME", "BEFORE", "AFTER", "RESULT"});
  for (const v1::VmChanged& result : response.results()) {
    const Tone tone = !result.ok() ? Tone::kBad : result.changed() ? Tone::kGood : Tone::kPlain;
    table.AddRow({result.name(), result.ok() ? Word(result.before()) : "",
                  result.ok() ? Word(result.after()) : "", Cell(Outcome(result, dry_run), tone)});
  }
  return table;
}

absl::StatusOr<ExitCode> SetVms(Session& session, const SetArguments& arguments) {
  SEALIFT_ASSIGN_OR_RETURN(const v1::SetVmsRequest request, RequestOf(arguments));
  v1::SetVmsResponse response;
  if (request.all() || !request.selector().empty() || !request.changes().empty()) {
    SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
    SEALIFT_ASSIGN_OR_RETURN(response, controller->Call(&VmStub::Set, request));
  }
  session.output().Print(ToJsonList(response.results()), ResultTable(response, request.dry_run()));
  int failed = 0;
  for (const v1::VmChanged& result : response.results()) failed += result.ok() ? 0 : 1;
  if (failed == 0) return ExitCode::kDone;
  session.output().Error(
      fmt::format("{} of {} VMs were not changed", failed, response.results_size()));
  return ExitCode::kPartly;
}

}  // namespace

void AddVmSetVerb(const Noun& vm, Action& chosen) {
  auto [verb, arguments] =
      AddVerb(vm, chosen, "set", "Change VMs; a mode counts from a VM's next migration on", SetVms);
  verb.Names("NAME", kVmType, arguments.names, "Names of the VMs");
  verb.Flag(
      "--all", [&to = arguments] { to.all = true; }, "All VMs");
  verb.Text("--selector", "LABELS", arguments.selector,
            "Those with these labels: env=prod,tier!=db,backup,!old");
  verb.Text("-f,--file", kFileType, arguments.file,
            "VMs with their modes, as `vm list -o json` prints them; - for stdin");
  verb.Choice("--encryption", EncryptionWords(), arguments.encryption,
              "Encryption of migrations: never, if both hosts can, or else no migration");
  verb.Texts("--label", "KEY=VALUE|KEY-", arguments.labels,
             "Set a label, or take one away; may be given again");
  verb.Choice("--encrypted", {"yes", "no"}, arguments.encrypted,
              "Whether it is an encrypted VM, whose mode is required and cannot be changed");
  verb.Flag(
      "--dry-run", [&to = arguments] { to.dry_run = true; }, "Only say what would be changed");
}

}  // namespace sealift::cli
