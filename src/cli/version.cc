// sealift version
#include <fmt/format.h>

#include "cli/command.h"
#include "rpc/protocol.h"

namespace sealift::cli {
namespace {

struct Arguments {
  bool client = false;
};

Json OwnVersion() {
  return {{"version", rpc::kVersion}, {"api_version", rpc::kApiVersion}, {"controller", nullptr}};
}

Table OwnTable() {
  Table table;
  table.Add("sealift", fmt::format("{} (API {})", rpc::kVersion, rpc::kApiVersion));
  return table;
}

absl::Status AskController(Session& session, Json& data, Table& table) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_ASSIGN_OR_RETURN(
      const v1::GetInfoResponse info,
      controller->Call(&v1::SessionService::Stub::GetInfo, v1::GetInfoRequest()));
  data["controller"] = ToJson(info);
  data["controller"]["address"] = controller->address();
  table.Add("controller", fmt::format("{} (API {}) at {}", info.controller_version(),
                                      info.api_version(), controller->address()));
  table.Add("identity", info.identity());
  return absl::OkStatus();
}

// Alone says that there is no controller to ask.
bool Alone(const Settings& settings, const Arguments& arguments) {
  return arguments.client || (settings.context.empty() && !FindContext("", ContextPaths()).ok());
}

absl::StatusOr<ExitCode> ShowVersion(Session& session, const Arguments& arguments) {
  Json data = OwnVersion();
  Table table = OwnTable();
  absl::Status status;
  if (!Alone(session.settings(), arguments)) status = AskController(session, data, table);
  session.output().Print(data, table);
  SEALIFT_RETURN_IF_ERROR(status);
  return ExitCode::kDone;
}

}  // namespace

void AddVersionCommand(const Noun& root, Action& chosen) {
  auto [verb, arguments] =
      AddVerb(root, chosen, "version", "Print the versions of this program and of the controller",
              ShowVersion);
  verb.Flag(
      "--client", [&to = arguments] { to.client = true; }, "Do not ask the controller");
}

}  // namespace sealift::cli
