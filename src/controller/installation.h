// What an installation keeps in its state folder: the CA, the controller's own identity, its
// address, the store.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "base/socket.h"
#include "pki/certificate.h"
#include "rpc/credentials.h"

namespace sealift::controller {

inline constexpr char kAdminName[] = "admin";

// StateFiles are the paths in a state folder.
struct StateFiles {
  explicit StateFiles(const std::string& state_dir);
  std::string ca_certificate;
  std::string ca_key;    // mode 0600
  std::string identity;  // the controller's key and chain, mode 0600
  std::string address;   // one line: the controller's own HOST:PORT, as others reach it
  std::string database;
};

// AdminContext is what the first operator needs.
struct AdminContext {
  std::string controller;  // host:port
  std::string trust_domain;
  std::string ca_pem;
  std::string identity_pem;  // private key and chain
};

using WriteContext = std::function<absl::Status(const AdminContext&)>;

// InitInstallation makes the CA, the controller's identity, the store and the user "admin", and
// hands that user's context to `write_context` before it writes its own files, the CA's key last.
// FAILED_PRECONDITION, with a way out, when there is a CA, or a store with hosts.
[[nodiscard]] absl::Status InitInstallation(const std::string& state_dir,
                                            const base::HostPort& address, const base::Clock& clock,
                                            const WriteContext& write_context);

// Installation is one that was initialised.
struct Installation {
  StateFiles files;
  base::HostPort address;  // of the operator endpoint, as others reach it
  std::unique_ptr<pki::CertificateAuthority> authority;

  [[nodiscard]] rpc::CredentialFiles credentials() const {
    return {files.identity, files.ca_certificate};
  }
};

// LoadInstallation is NOT_FOUND, naming the remedy, for a folder that was not initialised, and
// FAILED_PRECONDITION for one that only lacks the CA's key.
[[nodiscard]] absl::StatusOr<Installation> LoadInstallation(const std::string& state_dir,
                                                            const base::Clock& clock);

// MakeAdminContext gives the user "admin" another context, for when the first was lost.
// FAILED_PRECONDITION while the controller runs: the store is its own.
[[nodiscard]] absl::Status MakeAdminContext(const std::string& state_dir, const base::Clock& clock,
                                            const WriteContext& write_context);

// RenewOwnCertificate gives the controller a new key and certificate when there is none, or less
// than a third of the old one's life is left.
[[nodiscard]] absl::Status RenewOwnCertificate(const Installation& installation,
                                               const base::Clock& clock);

}  // namespace sealift::controller
