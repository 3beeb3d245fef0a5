// People and programs that may call the controller.
#pragma once

#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "controller/event_log.h"
#include "pki/certificate.h"
#include "policy/rights.h"
#include "sealift/v1/controller.pb.h"
#include "store/store.h"

namespace sealift::controller {

// SignForUser signs a user's request and notes the certificate in the store, which is what makes it
// good. Gives the chain. NOT_FOUND for an unknown user.
[[nodiscard]] absl::StatusOr<std::string> SignForUser(pki::CertificateAuthority& authority,
                                                      store::Store& store, const base::Clock& clock,
                                                      const pki::Identity& user,
                                                      const std::string& request_pem);

// Users is thread-safe; everything handed in outlives it. `actor` is who asked, for the event log.
class Users {
 public:
  Users(pki::CertificateAuthority& authority, store::Store& store, EventLog& events,
        const base::Clock& clock)
      : authority_(authority), store_(store), events_(events), clock_(clock) {}

  // Add makes a user and gives the chain of the first certificate. INVALID_ARGUMENT for a bad name,
  // role, right or request, ALREADY_EXISTS for a name taken. The same request once more, key and
  // all, is answered with another certificate for that key.
  [[nodiscard]] absl::StatusOr<v1::AddUserResponse> Add(const v1::AddUserRequest& request,
                                                        const std::string& actor);
  // Renew signs a fresh key of a user.
  [[nodiscard]] absl::StatusOr<std::string> Renew(const pki::Identity& user,
                                                  const std::string& request_pem);
  [[nodiscard]] absl::StatusOr<std::vector<v1::User>> List();
  // Revoke is FAILED_PRECONDITION for the last administrator.
  [[nodiscard]] absl::Status Revoke(const std::string& name, const std::string& actor);

 private:
  [[nodiscard]] absl::StatusOr<std::optional<store::UserRow>> Find(const std::string& name);

  pki::CertificateAuthority& authority_;
  store::Store& store_;
  EventLog& events_;
  const base::Clock& clock_;
  std::mutex mutex_;  // one change at a time: each looks at all users first
};

}  // namespace sealift::controller
