#include "controller/installation.h"

#include <fmt/format.h>

#include "base/file.h"
#include "base/log.h"
#include "base/status.h"
#include "controller/users.h"
#include "rpc/protocol.h"
#include "store/sqlite_store.h"

namespace sealift::controller {
namespace {

// A new private key with a certificate for `identity`: PEM of the key, then of the chain.
absl::StatusOr<std::string> MakeIdentity(pki::CertificateAuthority& authority,
                                         const pki::Identity& identity) {
  SEALIFT_ASSIGN_OR_RETURN(const std::string key, pki::GeneratePrivateKey());
  SEALIFT_ASSIGN_OR_RETURN(const std::string request, pki::MakeRequest(key, identity));
  SEALIFT_ASSIGN_OR_RETURN(const std::string chain,
                           authority.Issue(request, identity, pki::kCertificateLifetime));
  return key + chain;
}

pki::Identity ControllerOf(const pki::CertificateAuthority& authority) {
  return {authority.trust_domain(), pki::Role::kController, ""};
}

// A context for the user "admin", who is made when there is none.
absl::StatusOr<AdminContext> MakeAdmin(pki::CertificateAuthority& authority, store::Store& store,
                                       const base::HostPort& address, const base::Clock& clock) {
  const pki::Identity admin{authority.trust_domain(), pki::Role::kAdmin, kAdminName};
  const absl::Status created =
      store.CreateUser({.name = kAdminName,
                        .role = std::string(pki::RoleName(pki::Role::kAdmin)),
                        .rights = "",
                        .created = base::UnixMillis(clock.Now())});
  if (!created.ok() && !absl::IsAlreadyExists(created)) return created;
  SEALIFT_ASSIGN_OR_RETURN(const std::string key, pki::GeneratePrivateKey());
  SEALIFT_ASSIGN_OR_RETURN(const std::string request, pki::MakeRequest(key, admin));
  SEALIFT_ASSIGN_OR_RETURN(const std::string chain,
                           SignForUser(authority, store, clock, admin, request));
  return AdminContext{address.ToString(), authority.trust_domain(), authority.certificate_pem(),
                      key + chain};
}

absl::Status CheckNotInitialised(const StateFiles& files) {
  const auto key = base::ReadFile(files.ca_key);
  if (absl::IsNotFound(key.status())) return absl::OkStatus();
  SEALIFT_RETURN_IF_ERROR(key.status());
  return absl::FailedPreconditionError(
      fmt::format("{} exists: this installation has a certificate authority, and a new one would "
                  "lock out every host and operator; "
                  "to start over, move the folder away or name another one with --state-dir",
                  files.ca_key));
}

// An installation that has lost its CA's key is not to be given another CA.
absl::Status CheckNew(store::Store& store, const StateFiles& files) {
  SEALIFT_ASSIGN_OR_RETURN(const std::vector<store::HostRow> hosts, store.ListHosts());
  SEALIFT_ASSIGN_OR_RETURN(const auto restore, store.LastRestore());
  if (hosts.empty() && !restore) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("{} belongs to an installation: put the key of its CA at {}, or, to start over, "
                  "move the folder away",
                  files.database, files.ca_key));
}

absl::Status NoKey(const StateFiles& files) {
  if (base::ReadFile(files.ca_certificate).ok()) {
    return absl::FailedPreconditionError(fmt::format(
        "{} is not there, but the certificate that belongs to it is: put the CA's private key "
        "there (PEM, mode 0600, owned by the controller's user), from where it was kept when it "
        "was left out of the backup",
        files.ca_key));
  }
  return absl::NotFoundError(
      fmt::format("{} is not there: run sealift-controllerd init first, or name the state folder "
                  "with --state-dir",
                  files.ca_key));
}

}  // namespace

StateFiles::StateFiles(const std::string& state_dir)
    : ca_certificate(state_dir + "/ca.crt"),
      ca_key(state_dir + "/ca.key"),
      identity(state_dir + "/identity.pem"),
      address(state_dir + "/address"),
      database(state_dir + "/controller.db") {}

absl::Status InitInstallation(const std::string& state_dir, const base::HostPort& address,
                              const base::Clock& clock, const WriteContext& write_context) {
  const StateFiles files(state_dir);
  SEALIFT_RETURN_IF_ERROR(base::MakeDirectories(state_dir, 0700));
  SEALIFT_RETURN_IF_ERROR(CheckNotInitialised(files));
  SEALIFT_ASSIGN_OR_RETURN(const auto authority, pki::CertificateAuthority::Create(clock));
  SEALIFT_ASSIGN_OR_RETURN(const std::string own,
                           MakeIdentity(*authority, ControllerOf(*authority)));
  SEALIFT_ASSIGN_OR_RETURN(const auto store, store::OpenSqliteStore(files.database));
  SEALIFT_RETURN_IF_ERROR(CheckNew(*store, files));
  SEALIFT_ASSIGN_OR_RETURN(const AdminContext admin, MakeAdmin(*authority, *store, address, clock));
  SEALIFT_ASSIGN_OR_RETURN(const std::string ca_key, authority->key_pem());
  SEALIFT_RETURN_IF_ERROR(write_context(admin));
  SEALIFT_RETURN_IF_ERROR(
      base::WriteFileDurably(files.ca_certificate, authority->certificate_pem(), 0644));
  SEALIFT_RETURN_IF_ERROR(base::WriteFileDurably(files.identity, own));
  SEALIFT_RETURN_IF_ERROR(base::WriteFileDurably(files.address, address.ToString() + "\n", 0644));
  return base::WriteFileDurably(files.ca_key, ca_key);
}

absl::StatusOr<Installation> LoadInstallation(const std::string& state_dir,
                                              const base::Clock& clock) {
  Installation installation{StateFiles(state_dir), {}, nullptr};
  const auto key = base::ReadFile(installation.files.ca_key);
  if (absl::IsNotFound(key.status())) return NoKey(installation.files);
  SEALIFT_RETURN_IF_ERROR(key.status());
  SEALIFT_ASSIGN_OR_RETURN(const std::string certificate,
                           base::ReadFile(installation.files.ca_certificate));
  SEALIFT_ASSIGN_OR_RETURN(std::string address, base::ReadFile(installation.files.address));
  if (address.ends_with('\n')) address.pop_back();
  SEALIFT_ASSIGN_OR_RETURN(installation.address,
                           base::ParseHostPort(address, rpc::kControllerPort));
  auto authority = pki::CertificateAuthority::Load(certificate, *key, clock);
  if (!authority.ok()) return base::Annotate(authority.status(), installation.files.ca_key);
  installation.authority = *std::move(authority);
  return installation;
}

absl::Status MakeAdminContext(const std::string& state_dir, const base::Clock& clock,
                              const WriteContext& write_context) {
  SEALIFT_ASSIGN_OR_RETURN(const Installation installation, LoadInstallation(state_dir, clock));
  SEALIFT_ASSIGN_OR_RETURN(const auto store, store::OpenSqliteStore(installation.files.database));
  SEALIFT_ASSIGN_OR_RETURN(const AdminContext admin,
                           MakeAdmin(*installation.authority, *store, installation.address, clock));
  return write_context(admin);
}

absl::Status RenewOwnCertificate(const Installation& installation, const base::Clock& clock) {
  const auto identity = base::ReadFile(installation.files.identity);
  // No backup holds it.
  if (!absl::IsNotFound(identity.status())) {
    SEALIFT_RETURN_IF_ERROR(identity.status());
    SEALIFT_ASSIGN_OR_RETURN(const pki::CertificateInfo info, pki::ReadCertificate(*identity));
    if (!pki::RenewalDue(info, clock.Now())) return absl::OkStatus();
  }
  SEALIFT_ASSIGN_OR_RETURN(
      const std::string renewed,
      MakeIdentity(*installation.authority, ControllerOf(*installation.authority)));
  SEALIFT_RETURN_IF_ERROR(base::WriteFileDurably(installation.files.identity, renewed));
  spdlog::info("the controller has a new certificate");
  return absl::OkStatus();
}

}  // namespace sealift::controller
