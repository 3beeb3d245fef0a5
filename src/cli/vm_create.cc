// sealift vm create FILE
#include <fmt/format.h>

#include <iostream>
#include <iterator>

#include "base/file.h"
#include "cli/vm.h"

namespace sealift::cli {
namespace {

constexpr std::size_t kMaxDefinitionBytes = 64 * 1024;

struct Arguments {
  std::string file;
  v1::CreateVmRequest request;
};

absl::StatusOr<std::string> ReadDefinition(const std::string& file) {
  if (file == "-") {
    return std::string(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
  }
  absl::StatusOr<std::string> text = base::ReadFile(file, kMaxDefinitionBytes);
  if (text.ok()) return text;
  return absl::InvalidArgumentError(
      fmt::format("the VM definition cannot be read: {}", base::MessageOf(text.status())));
}

absl::StatusOr<ExitCode> CreateVm(Session& session, const Arguments& arguments) {
  v1::CreateVmRequest request = arguments.request;
  SEALIFT_ASSIGN_OR_RETURN(*request.mutable_definition_yaml(), ReadDefinition(arguments.file));
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  const auto vm = controller->Call(&v1::VmService::Stub::Create, request);
  if (!vm.ok()) return WithFile(vm.status(), arguments.file);
  ReportVm(session.output(), *vm);
  return ExitCode::kDone;
}

}  // namespace

absl::Status WithFile(const absl::Status& status, const std::string& file) {
  constexpr std::string_view kLine = "line ";
  const std::string message = base::MessageOf(status);
  if (!absl::IsInvalidArgument(status) || !message.starts_with(kLine)) return status;
  const std::size_t digits_end = message.find_first_not_of("0123456789", kLine.size());
  if (digits_end == std::string::npos || message[digits_end] != ':') return status;
  return absl::InvalidArgumentError(
      fmt::format("{}:{}", file == "-" ? "stdin" : file, message.substr(kLine.size())));
}

void AddVmCreateVerb(const Noun& vm, Action& chosen) {
  auto [verb, arguments] =
      AddVerb(vm, chosen, "create", "Create a VM from its definition", CreateVm);
  verb.Name("FILE", kFileType, arguments.file, "Definition in YAML; - reads it from stdin");
  verb.Text("--host", kHostType, *arguments.request.mutable_host(),
            "Host it is to run on; not needed when there is only one");
  verb.Flag(
      "--start", [&to = arguments.request] { to.set_start(true); }, "Start it at once");
}

}  // namespace sealift::cli
