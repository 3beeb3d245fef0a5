// sealift user add|list|revoke
#include <fmt/format.h>

#include <sys/stat.h>

#include "cli/command.h"
#include "cli/format.h"
#include "pki/certificate.h"

namespace sealift::cli {
namespace {

using UserStub = v1::UserService::Stub;

struct AddArguments {
  std::string name;
  std::string role;
  std::vector<std::string> rights;
  std::string context_out;
};

absl::StatusOr<pki::Role> PkiRole(const std::string& word) {
  for (const pki::Role role : pki::UserRoles()) {
    if (pki::RoleName(role) == word) return role;
  }
  return absl::InvalidArgumentError(fmt::format("'{}' is not a role", word));
}

v1::UserRole ApiRole(pki::Role role) {
  if (role == pki::Role::kAdmin) return v1::USER_ROLE_ADMIN;
  return role == pki::Role::kOperator ? v1::USER_ROLE_OPERATOR : v1::USER_ROLE_VIEWER;
}

// The key is made here and never leaves this machine but in the context file.
absl::StatusOr<ExitCode> AddUser(Session& session, const AddArguments& arguments) {
  const std::string path =
      arguments.context_out.empty() ? arguments.name + ".context.yaml" : arguments.context_out;
  struct stat existing {};
  if (stat(path.c_str(), &existing) == 0) {
    return absl::AlreadyExistsError(
        fmt::format("{} exists: name another file with --context-out", path));
  }
  SEALIFT_ASSIGN_OR_RETURN(const pki::Role role, PkiRole(arguments.role));
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  Context context = controller->context();
  SEALIFT_ASSIGN_OR_RETURN(std::string key, pki::GeneratePrivateKey());
  v1::AddUserRequest request;
  request.set_name(arguments.name);
  request.set_role(ApiRole(role));
  for (const std::string& right : arguments.rights) request.add_rights(right);
  SEALIFT_ASSIGN_OR_RETURN(*request.mutable_certificate_request_pem(),
                           pki::MakeRequest(key, {context.trust_domain, role, arguments.name}));
  SEALIFT_ASSIGN_OR_RETURN(const v1::AddUserResponse response,
                           controller->Call(&UserStub::Add, request));
  context.controller = controller->address();
  context.identity_pem = key + response.certificate_chain_pem();
  const absl::Status written = WriteContext(path, context);
  pki::WipeKey(key);
  pki::WipeKey(context.identity_pem);
  if (!written.ok()) {
    return base::Annotate(written,
                          fmt::format("user {} was made, but has no context: revoke it and try "
                                      "again with another --context-out",
                                      arguments.name));
  }
  session.output().Note(fmt::format("user {} may {}; the context is {}: keep it secret",
                                    arguments.name, fmt::join(response.user().rights(), ", "),
                                    path));
  session.output().PrintData(ToJson(response.user()));
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> ListUsers(Session& session, const v1::ListUsersRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_ASSIGN_OR_RETURN(const v1::ListUsersResponse response,
                           controller->Call(&UserStub::List, request));
  Table table({"NAME", "ROLE", "RIGHTS", "CREATED"});
  for (const v1::User& user : response.users()) {
    table.AddRow({user.name(), Word(user.role()), fmt::format("{}", fmt::join(user.rights(), ",")),
                  FormatShortTime(user.created_ms())});
  }
  session.output().Print(ToJsonList(response.users()), table);
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> RevokeUser(Session& session, const v1::RevokeUserRequest& request) {
  SEALIFT_ASSIGN_OR_RETURN(Controller * controller, session.Connect());
  SEALIFT_RETURN_IF_ERROR(controller->Call(&UserStub::Revoke, request).status());
  session.output().Note(fmt::format("user {} is revoked", request.name()));
  return ExitCode::kDone;
}

}  // namespace

void AddUserCommands(const Noun& root, Action& chosen) {
  const Noun user = root.AddNoun("user", "People and programs that may call the controller");
  auto [add, arguments] =
      AddVerb(user, chosen, "add", "Make a user and the context file to hand over", AddUser);
  add.Name("NAME", "NAME", arguments.name, "Lower-case letters, digits and dashes");
  add.Choice("--role", {"viewer", "operator", "admin"}, arguments.role,
             "Look only, operate and migrate VMs, or everything", Need::kRequired);
  add.Texts("--right", "RIGHT", arguments.rights,
            "A right beyond those of the role, such as migrate-encrypted; may be given again");
  add.Text("--context-out", kFileType, arguments.context_out,
           "Where the context goes (default: NAME.context.yaml)");
  AddVerb(user, chosen, "list", "List the users", ListUsers);
  auto [revoke, gone] = AddVerb(user, chosen, "revoke",
                                "Make the certificates of a user worthless at once", RevokeUser);
  revoke.Name("NAME", kUserType, *gone.mutable_name(), "Name of the user");
}

}  // namespace sealift::cli
