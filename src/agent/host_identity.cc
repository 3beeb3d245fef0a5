#include "agent/host_identity.h"

#include <fmt/format.h>

#include <utility>

#include "base/file.h"
#include "base/socket.h"
#include "base/status.h"
#include "rpc/channel.h"
#include "rpc/protocol.h"
#include "sealift/v1/enrolment.grpc.pb.h"

namespace sealift::agent {
namespace {

constexpr std::chrono::seconds kEnrolTimeout{15};

absl::Status CheckChain(const std::string& chain_pem, const std::string& key_pem,
                        const std::string& ca_pem, const pki::Identity& expected) {
  SEALIFT_ASSIGN_OR_RETURN(const bool matches, pki::MatchesKey(chain_pem, key_pem));
  SEALIFT_ASSIGN_OR_RETURN(const bool issued, pki::IsIssuedBy(chain_pem, ca_pem));
  SEALIFT_ASSIGN_OR_RETURN(const pki::CertificateInfo info, pki::ReadCertificate(chain_pem));
  if (matches && issued && info.identity == expected) return absl::OkStatus();
  return absl::PermissionDeniedError("the certificate received is not for this host and its key");
}

// The key's text is wiped on the way out.
absl::Status StoreIdentity(const std::string& path, const std::string& key_pem,
                           const std::string& chain_pem) {
  std::string content = key_pem + chain_pem;
  absl::Status stored = base::WriteFileDurably(path, content, 0600);
  pki::WipeKey(content);
  return stored;
}

absl::StatusOr<std::string> Enrol(const base::HostPort& address, const pki::JoinToken& token,
                                  const pki::Identity& controller, const std::string& request) {
  const auto channel = rpc::MakeChannel(
      address, rpc::MakeEnrolmentChannelCredentials(token.ca_certificate_pem, controller));
  const auto stub = v1::EnrolmentService::NewStub(channel);
  grpc::ClientContext context;
  rpc::PrepareCall(context, kEnrolTimeout);
  v1::EnrolRequest message;
  message.set_token_secret(std::string(base::AsText(token.secret)));
  message.set_host(token.host);
  message.set_certificate_request_pem(request);
  v1::EnrolResponse response;
  const absl::Status status = rpc::FromGrpc(stub->Enrol(&context, message, &response));
  if (!status.ok()) {
    return base::Annotate(status, fmt::format("enrol at {}", address.ToString()));
  }
  return response.certificate_chain_pem();
}

}  // namespace

rpc::CredentialFiles CredentialPaths(const std::string& state_dir) {
  return {.identity = state_dir + "/identity.pem", .ca = state_dir + "/ca.crt"};
}

absl::Status Join(const std::string& state_dir, const std::string& controller,
                  const pki::JoinToken& token) {
  SEALIFT_ASSIGN_OR_RETURN(const base::HostPort address,
                           base::ParseHostPort(controller, rpc::kEnrolmentPort));
  SEALIFT_ASSIGN_OR_RETURN(const std::string domain,
                           pki::ReadTrustDomain(token.ca_certificate_pem));
  const pki::Identity self{domain, pki::Role::kHost, token.host};
  SEALIFT_ASSIGN_OR_RETURN(std::string key, pki::GeneratePrivateKey());
  SEALIFT_ASSIGN_OR_RETURN(const std::string request, pki::MakeRequest(key, self));
  SEALIFT_ASSIGN_OR_RETURN(const std::string chain,
                           Enrol(address, token, {domain, pki::Role::kController, ""}, request));
  SEALIFT_RETURN_IF_ERROR(CheckChain(chain, key, token.ca_certificate_pem, self));
  SEALIFT_RETURN_IF_ERROR(base::MakeDirectories(state_dir, 0700));
  const rpc::CredentialFiles files = CredentialPaths(state_dir);
  SEALIFT_RETURN_IF_ERROR(base::WriteFileDurably(files.ca, token.ca_certificate_pem, 0644));
  absl::Status stored = StoreIdentity(files.identity, key, chain);
  pki::WipeKey(key);
  return stored;
}

absl::StatusOr<std::unique_ptr<HostIdentity>> HostIdentity::Load(const std::string& state_dir,
                                                                 const base::Clock& clock) {
  rpc::CredentialFiles files = CredentialPaths(state_dir);
  absl::StatusOr<std::string> ca_pem = base::ReadFile(files.ca);
  if (absl::IsNotFound(ca_pem.status())) {
    return absl::FailedPreconditionError(
        fmt::format("this host has not joined a controller yet (no {}): run 'sealift host add NAME "
                    "--address ADDR' there, then the 'sealift-agentd join' command it prints here",
                    files.ca));
  }
  SEALIFT_RETURN_IF_ERROR(ca_pem.status());
  SEALIFT_ASSIGN_OR_RETURN(pki::CertificateInfo certificate,
                           rpc::CheckCredentials(files, clock.Now()));
  return std::unique_ptr<HostIdentity>(
      new HostIdentity(std::move(files), *std::move(ca_pem), std::move(certificate)));
}

HostIdentity::HostIdentity(rpc::CredentialFiles files, std::string ca_pem,
                           pki::CertificateInfo certificate)
    : files_(std::move(files)), ca_pem_(std::move(ca_pem)), certificate_(std::move(certificate)) {}

pki::CertificateInfo HostIdentity::certificate() const {
  const std::lock_guard lock(mutex_);
  return certificate_;
}

absl::StatusOr<std::string> HostIdentity::MakeRequest() {
  const std::lock_guard lock(mutex_);
  pki::WipeKey(next_key_);
  SEALIFT_ASSIGN_OR_RETURN(next_key_, pki::GeneratePrivateKey());
  return pki::MakeRequest(next_key_, certificate_.identity);
}

absl::Status HostIdentity::Install(const std::string& chain_pem) {
  const std::lock_guard lock(mutex_);
  if (next_key_.empty()) return absl::FailedPreconditionError("no certificate was requested");
  SEALIFT_RETURN_IF_ERROR(CheckChain(chain_pem, next_key_, ca_pem_, certificate_.identity));
  SEALIFT_ASSIGN_OR_RETURN(pki::CertificateInfo info, pki::ReadCertificate(chain_pem));
  SEALIFT_RETURN_IF_ERROR(StoreIdentity(files_.identity, next_key_, chain_pem));
  pki::WipeKey(next_key_);
  certificate_ = std::move(info);
  return absl::OkStatus();
}

}  // namespace sealift::agent
