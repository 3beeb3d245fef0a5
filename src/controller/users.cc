#include "controller/users.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "base/bytes.h"
#include "base/status.h"
#include "controller/convert.h"
#include "controller/requests.h"

namespace sealift::controller {
namespace {

constexpr std::string_view kRevoked = "user.revoked";

// The key in the request is the same, so whoever asks has it.
bool IsRepeated(const store::UserRow& made, const store::UserRow& asked) {
  return made.role == asked.role && made.rights == asked.rights &&
         made.request_sha256 == asked.request_sha256;
}

absl::StatusOr<pki::Role> PkiRole(const store::UserRow& user) {
  for (const pki::Role role : pki::UserRoles()) {
    if (pki::RoleName(role) == user.role) return role;
  }
  return absl::InternalError(fmt::format("user {} has the unknown role {}", user.name, user.role));
}

}  // namespace

absl::StatusOr<std::string> SignForUser(pki::CertificateAuthority& authority, store::Store& store,
                                        const base::Clock& clock, const pki::Identity& user,
                                        const std::string& request_pem) {
  SEALIFT_ASSIGN_OR_RETURN(std::string chain,
                           authority.Issue(request_pem, user, pki::kCertificateLifetime));
  SEALIFT_ASSIGN_OR_RETURN(const pki::CertificateInfo info, pki::ReadCertificate(chain));
  SEALIFT_RETURN_IF_ERROR(store.PutUserCertificate(
      {info.serial, user.name, base::UnixMillis(info.not_after)}, base::UnixMillis(clock.Now())));
  return chain;
}

absl::StatusOr<v1::AddUserResponse> Users::Add(const v1::AddUserRequest& request,
                                               const std::string& actor) {
  SEALIFT_ASSIGN_OR_RETURN(store::UserRow row, Read(request));
  SEALIFT_ASSIGN_OR_RETURN(const pki::Role role, PkiRole(row));
  row.created = base::UnixMillis(clock_.Now());
  const std::lock_guard lock(mutex_);
  SEALIFT_ASSIGN_OR_RETURN(const std::optional<store::UserRow> before, Find(row.name));
  if (before && !IsRepeated(*before, row)) {
    return absl::AlreadyExistsError(
        fmt::format("there is a user named {} already: choose another name, or revoke that one "
                    "first with sealift user revoke {}",
                    row.name, row.name));
  }
  if (!before) SEALIFT_RETURN_IF_ERROR(store_.CreateUser(row));
  absl::StatusOr<std::string> chain =
      SignForUser(authority_, store_, clock_, {authority_.trust_domain(), role, row.name},
                  request.certificate_request_pem());
  if (!chain.ok()) {
    const absl::Status undone = before ? absl::OkStatus() : store_.DeleteUser(row.name);
    return undone.ok() ? chain.status() : undone;
  }
  if (before) {
    events_.Add("user.certificate_renewed", "user/" + row.name, actor, "its request was repeated");
  } else {
    events_.Add("user.added", "user/" + row.name, actor,
                row.rights.empty() ? fmt::format("as {}", row.role)
                                   : fmt::format("as {}, with {}", row.role, row.rights));
  }
  v1::AddUserResponse response;
  *response.mutable_user() = ToProto(before.value_or(row));
  response.set_certificate_chain_pem(*std::move(chain));
  return response;
}

absl::StatusOr<std::string> Users::Renew(const pki::Identity& user,
                                         const std::string& request_pem) {
  SEALIFT_ASSIGN_OR_RETURN(std::string chain,
                           SignForUser(authority_, store_, clock_, user, request_pem));
  events_.Add("user.certificate_renewed", "user/" + user.name, user.ToUri(), "by its owner");
  return chain;
}

absl::StatusOr<std::optional<store::UserRow>> Users::Find(const std::string& name) {
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<store::UserRow> users, store_.ListUsers());
  const auto user = std::ranges::find(users, name, &store::UserRow::name);
  return user == users.end() ? std::nullopt : std::optional(*user);
}

absl::StatusOr<std::vector<v1::User>> Users::List() {
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<store::UserRow> rows, store_.ListUsers());
  std::vector<v1::User> users;
  for (const store::UserRow& row : rows) users.push_back(ToProto(row));
  return users;
}

absl::Status Users::Revoke(const std::string& name, const std::string& actor) {
  const std::lock_guard lock(mutex_);
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<store::UserRow> users, store_.ListUsers());
  const auto user = std::ranges::find(users, name, &store::UserRow::name);
  if (user == users.end()) {
    if (events_.LastIs(kRevoked, "user/" + name)) return absl::OkStatus();
    return absl::NotFoundError(
        fmt::format("there is no user named '{}': sealift user list shows those there are", name));
  }
  const std::string_view admin = policy::RoleName(policy::UserRole::kAdmin);
  if (user->role == admin && std::ranges::count(users, admin, &store::UserRow::role) == 1) {
    return absl::FailedPreconditionError(
        fmt::format("{} is the last administrator: add another one first", name));
  }
  SEALIFT_RETURN_IF_ERROR(store_.DeleteUser(name));
  events_.Add(kRevoked, "user/" + name, actor, "its certificates are worthless from now on");
  return absl::OkStatus();
}

}  // namespace sealift::controller
