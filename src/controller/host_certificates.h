// Certificates of hosts, from joining to renewal.
#pragma once

#include <map>
#include <mutex>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "controller/agent_connection.h"
#include "controller/event_log.h"
#include "controller/host_rows.h"
#include "pki/certificate.h"
#include "sealift/v1/agent.pb.h"
#include "store/store.h"

namespace sealift::controller {

// HostCertificates is thread-safe; everything handed in outlives it.
class HostCertificates {
 public:
  HostCertificates(pki::CertificateAuthority& authority, store::Store& store, HostRows& rows,
                   EventLog& events, const base::Clock& clock);

  // IssueToJoiner signs the request of a host whose token was accepted and records the certificate
  // as the host's. It returns the chain in PEM.
  [[nodiscard]] absl::StatusOr<std::string> IssueToJoiner(const std::string& host,
                                                          const std::string& request_pem);

  // RenewIfDue gives an agent a new certificate when less than a third of its life is left, and
  // revokes the old one once the agent reports the new one. It is called with every report; errors
  // are logged and tried again with the next.
  void RenewIfDue(AgentConnection& agent, const v1::AgentStatus& status);

 private:
  struct Issued {
    std::string chain_pem;
    pki::CertificateInfo info;
  };
  [[nodiscard]] absl::StatusOr<Issued> Issue(const std::string& host,
                                             const std::string& request_pem);
  // Record makes a certificate the host's and returns the serial of the one before.
  [[nodiscard]] absl::StatusOr<std::string> Record(const std::string& host,
                                                   const pki::CertificateInfo& info);
  [[nodiscard]] absl::Status Renew(AgentConnection& agent);
  // Installing says that a renewed certificate is on its way into force; once it is, the old one is
  // revoked.
  [[nodiscard]] bool Installing(const std::string& host, std::int64_t not_after_in_force);

  pki::CertificateAuthority& authority_;
  store::Store& store_;
  HostRows& rows_;
  EventLog& events_;
  const base::Clock& clock_;

  struct Superseded {
    std::string serial;
    std::int64_t successor_not_after;
  };
  std::mutex mutex_;
  std::map<std::string, Superseded> superseded_;  // by host; guarded by mutex_
};

}  // namespace sealift::controller
