#include "controller/host_certificates.h"

#include <fmt/format.h>

#include "base/log.h"
#include "base/status.h"

namespace sealift::controller {
namespace {

// The part of a certificate's life that an agent's report tells, enough to judge whether renewal is
// due.
pki::CertificateInfo LifeOf(const v1::AgentStatus& status) {
  pki::CertificateInfo info;
  info.not_after = base::FromUnixMillis(status.certificate_not_after_ms());
  info.not_before = info.not_after - pki::kCertificateLifetime;
  return info;
}

}  // namespace

HostCertificates::HostCertificates(pki::CertificateAuthority& authority, store::Store& store,
                                   HostRows& rows, EventLog& events, const base::Clock& clock)
    : authority_(authority), store_(store), rows_(rows), events_(events), clock_(clock) {}

absl::StatusOr<std::string> HostCertificates::IssueToJoiner(const std::string& host,
                                                            const std::string& request_pem) {
  SEALIFT_ASSIGN_OR_RETURN(const Issued issued, Issue(host, request_pem));
  SEALIFT_ASSIGN_OR_RETURN(const std::string old_serial, Record(host, issued.info));
  if (!old_serial.empty()) {
    SEALIFT_RETURN_IF_ERROR(store_.RevokeCertificate(old_serial, base::UnixMillis(clock_.Now())));
  }
  return issued.chain_pem;
}

void HostCertificates::RenewIfDue(AgentConnection& agent, const v1::AgentStatus& status) {
  if (status.certificate_not_after_ms() == 0) return;
  if (Installing(agent.host(), status.certificate_not_after_ms())) return;
  if (!pki::RenewalDue(LifeOf(status), clock_.Now())) return;
  const absl::Status renewed = Renew(agent);
  if (!renewed.ok()) {
    spdlog::warn("renew the certificate of host {}: {}", agent.host(), base::MessageOf(renewed));
  }
}

absl::StatusOr<HostCertificates::Issued> HostCertificates::Issue(const std::string& host,
                                                                 const std::string& request_pem) {
  const pki::Identity identity{authority_.trust_domain(), pki::Role::kHost, host};
  SEALIFT_ASSIGN_OR_RETURN(std::string chain,
                           authority_.Issue(request_pem, identity, pki::kCertificateLifetime));
  SEALIFT_ASSIGN_OR_RETURN(pki::CertificateInfo info, pki::ReadCertificate(chain));
  return Issued{std::move(chain), std::move(info)};
}

absl::StatusOr<std::string> HostCertificates::Record(const std::string& host,
                                                     const pki::CertificateInfo& info) {
  std::string old_serial;
  SEALIFT_RETURN_IF_ERROR(rows_.Update(host, [&](store::HostRow& row) {
    old_serial = std::exchange(row.certificate_serial, info.serial);
    row.certificate_not_after = base::UnixMillis(info.not_after);
  }));
  return old_serial;
}

absl::Status HostCertificates::Renew(AgentConnection& agent) {
  SEALIFT_ASSIGN_OR_RETURN(const v1::MakeCertificateRequestResponse request,
                           agent.Call(&AgentConnection::Stub::MakeCertificateRequest,
                                      v1::MakeCertificateRequestRequest()));
  SEALIFT_ASSIGN_OR_RETURN(const Issued issued,
                           Issue(agent.host(), request.certificate_request_pem()));
  v1::InstallCertificateRequest install;
  install.set_certificate_chain_pem(issued.chain_pem);
  SEALIFT_RETURN_IF_ERROR(agent.Call(&AgentConnection::Stub::InstallCertificate, install).status());
  SEALIFT_ASSIGN_OR_RETURN(const std::string old_serial, Record(agent.host(), issued.info));
  {
    const std::lock_guard lock(mutex_);
    superseded_[agent.host()] = {old_serial, base::UnixMillis(issued.info.not_after)};
  }
  events_.Add("host.certificate_renewed", "host/" + agent.host(), kControllerActor,
              fmt::format("valid until {}", base::FormatUtc(issued.info.not_after)));
  return absl::OkStatus();
}

bool HostCertificates::Installing(const std::string& host, std::int64_t not_after_in_force) {
  const std::lock_guard lock(mutex_);
  const auto found = superseded_.find(host);
  if (found == superseded_.end()) return false;
  if (found->second.successor_not_after != not_after_in_force) return true;
  const absl::Status revoked =
      store_.RevokeCertificate(found->second.serial, base::UnixMillis(clock_.Now()));
  if (revoked.ok()) superseded_.erase(found);
  return false;
}

}  // namespace sealift::controller
