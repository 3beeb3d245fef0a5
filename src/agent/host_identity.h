// Who this host is: its key, certificate and CA, on disk under the agent's state folder.
#pragma once

#include <mutex>
#include <string>

#include "absl/status/statusor.h"
#include "base/clock.h"
#include "pki/certificate.h"
#include "pki/join_token.h"
#include "rpc/credentials.h"

namespace sealift::agent {

// CredentialPaths of an agent with this state folder: identity.pem (key and chain, 0600) and
// ca.crt.
[[nodiscard]] rpc::CredentialFiles CredentialPaths(const std::string& state_dir);

// Join makes a key, has the controller's enrolment endpoint at `controller` (host or host:port)
// sign it against the token, and stores the result. The key never leaves this host. Errors name the
// remedy; nothing is stored then.
[[nodiscard]] absl::Status Join(const std::string& state_dir, const std::string& controller,
                                const pki::JoinToken& token);

// HostIdentity is the identity in force. Thread-safe.
class HostIdentity {
 public:
  // Load reads and checks the files. FAILED_PRECONDITION when this host has not joined yet.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<HostIdentity>> Load(
      const std::string& state_dir, const base::Clock& clock);

  [[nodiscard]] pki::CertificateInfo certificate() const;
  [[nodiscard]] const rpc::CredentialFiles& files() const { return files_; }

  // MakeRequest makes a new key, kept until its certificate comes, and returns the request for it.
  [[nodiscard]] absl::StatusOr<std::string> MakeRequest();
  // Install puts a certificate for that key into force. PERMISSION_DENIED for another key, another
  // identity or another CA.
  [[nodiscard]] absl::Status Install(const std::string& chain_pem);

 private:
  HostIdentity(rpc::CredentialFiles files, std::string ca_pem, pki::CertificateInfo certificate);

  const rpc::CredentialFiles files_;
  const std::string ca_pem_;
  mutable std::mutex mutex_;
  pki::CertificateInfo certificate_;  // guarded by mutex_
  std::string next_key_;              // guarded by mutex_
};

}  // namespace sealift::agent
