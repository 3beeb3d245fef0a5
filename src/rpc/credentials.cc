#include "rpc/credentials.h"

#include <fmt/format.h>
#include <grpcpp/security/server_credentials.h>
#include <grpcpp/security/tls_credentials_options.h>

#include <cstdlib>
#include <utility>
#include <vector>

#include "base/file.h"
#include "base/socket.h"
#include "base/status.h"
#include "pki/tls_probe.h"
#include "rpc/peer_checks.h"

namespace sealift::rpc {
namespace {

using grpc::experimental::FileWatcherCertificateProvider;
using grpc::experimental::StaticDataCertificateProvider;
using grpc::experimental::TlsChannelCredentialsOptions;
using grpc::experimental::TlsServerCredentialsOptions;

constexpr unsigned kRefreshSeconds = 1;
constexpr std::chrono::seconds kProbeTimeout{10};

AcceptIdentity OnlyRoles(std::string trust_domain, std::set<pki::Role> accepted) {
  return [trust_domain = std::move(trust_domain),
          accepted = std::move(accepted)](const pki::Identity& peer) -> absl::Status {
    if (peer.trust_domain == trust_domain && accepted.contains(peer.role)) return absl::OkStatus();
    return absl::PermissionDeniedError(fmt::format("{} is not served here", peer.ToUri()));
  };
}

AcceptIdentity OnlyIdentity(const pki::Identity& expected) {
  return [expected](const pki::Identity& peer) -> absl::Status {
    if (peer == expected) return absl::OkStatus();
    return absl::PermissionDeniedError(fmt::format(
        "{} answers where {} is expected: check the address", peer.ToUri(), expected.ToUri()));
  };
}

std::shared_ptr<FileWatcherCertificateProvider> Watch(const CredentialFiles& files) {
  return std::make_shared<FileWatcherCertificateProvider>(files.identity, files.identity, files.ca,
                                                          kRefreshSeconds);
}

// Roots without any certificate let nobody in, but gRPC aborts the process over an empty text.
std::string Roots(const std::string& ca_pem) { return ca_pem.empty() ? "none" : ca_pem; }

std::shared_ptr<grpc::ChannelCredentials> ConnectTo(TlsChannelCredentialsOptions& options,
                                                    const pki::Identity& server,
                                                    Admit admit = nullptr) {
  // Always our own roots: gRPC would fall back to the system's.
  options.watch_root_certs();
  options.set_certificate_verifier(MakePeerVerifier(OnlyIdentity(server), std::move(admit)));
  options.set_check_call_host(false);
  return grpc::experimental::TlsCredentials(options);
}

absl::Status CheckKeyAndIssuer(const std::string& identity, const std::string& ca,
                               const CredentialFiles& files) {
  SEALIFT_ASSIGN_OR_RETURN(const bool matches, pki::MatchesKey(identity, identity));
  if (!matches) {
    return absl::FailedPreconditionError(
        fmt::format("{}: its key and its certificate do not belong together", files.identity));
  }
  SEALIFT_ASSIGN_OR_RETURN(const bool issued, pki::IsIssuedBy(identity, ca));
  if (issued) return absl::OkStatus();
  return absl::FailedPreconditionError(
      fmt::format("{}: its certificate was not signed by {}", files.identity, files.ca));
}

}  // namespace

void RequireTls13() {
  // The one TLS 1.2 suite left needs a pre-shared key, and there is none. TLS 1.3 suites are not
  // configured by this list.
  setenv("GRPC_SSL_CIPHER_SUITES", "PSK-AES256-GCM-SHA384", /*overwrite=*/1);
}

absl::StatusOr<pki::CertificateInfo> CheckCredentials(const CredentialFiles& files,
                                                      base::WallTime now) {
  SEALIFT_ASSIGN_OR_RETURN(std::string identity, base::ReadFile(files.identity));
  SEALIFT_ASSIGN_OR_RETURN(const std::string ca, base::ReadFile(files.ca));
  absl::StatusOr<pki::CertificateInfo> certificate = pki::ReadCertificate(identity);
  absl::Status status = certificate.status();
  if (status.ok()) status = CheckKeyAndIssuer(identity, ca, files);
  if (status.ok()) status = pki::CheckValidity(*certificate, now);
  pki::WipeKey(identity);
  if (!status.ok()) return base::Annotate(status, fmt::format("credentials in {}", files.identity));
  return certificate;
}

std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(const CredentialFiles& files,
                                                               const std::string& trust_domain,
                                                               std::set<pki::Role> accepted,
                                                               Admit admit) {
  TlsServerCredentialsOptions options(Watch(files));
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.set_certificate_verifier(MakePeerVerifier(OnlyRoles(trust_domain, std::move(accepted))));
  auto credentials = grpc::experimental::TlsServerCredentials(options);
  credentials->SetAuthMetadataProcessor(MakeCallGuard(std::move(admit)));
  return credentials;
}

std::shared_ptr<grpc::ChannelCredentials> MakeChannelCredentials(const CredentialFiles& files,
                                                                 const pki::Identity& server,
                                                                 Admit admit) {
  TlsChannelCredentialsOptions options;
  options.set_certificate_provider(Watch(files));
  options.watch_identity_key_cert_pairs();
  return ConnectTo(options, server, std::move(admit));
}

std::shared_ptr<grpc::ChannelCredentials> MakeChannelCredentials(const CredentialPem& pem,
                                                                 const pki::Identity& server) {
  TlsChannelCredentialsOptions options;
  options.set_certificate_provider(std::make_shared<StaticDataCertificateProvider>(
      Roots(pem.ca),
      std::vector<grpc::experimental::IdentityKeyCertPair>{{pem.identity, pem.identity}}));
  options.watch_identity_key_cert_pairs();
  return ConnectTo(options, server);
}

std::shared_ptr<grpc::ServerCredentials> MakeEnrolmentServerCredentials(
    const CredentialFiles& files) {
  TlsServerCredentialsOptions options(Watch(files));
  options.watch_identity_key_cert_pairs();
  options.set_cert_request_type(GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
  options.set_certificate_verifier(std::make_shared<grpc::experimental::NoOpCertificateVerifier>());
  auto credentials = grpc::experimental::TlsServerCredentials(options);
  credentials->SetAuthMetadataProcessor(MakeVersionGuard());
  return credentials;
}

std::shared_ptr<grpc::ChannelCredentials> MakeEnrolmentChannelCredentials(
    const std::string& ca_pem, const pki::Identity& controller) {
  TlsChannelCredentialsOptions options;
  options.set_certificate_provider(std::make_shared<StaticDataCertificateProvider>(Roots(ca_pem)));
  return ConnectTo(options, controller);
}

absl::Status VerifyTls13Only(const std::string& address) {
  SEALIFT_ASSIGN_OR_RETURN(const base::HostPort where, base::ParseHostPort(address, 0));
  SEALIFT_ASSIGN_OR_RETURN(const bool old_accepted,
                           pki::ProbeTls(where, pki::TlsVersion::k12, kProbeTimeout));
  if (old_accepted) {
    return absl::InternalError(
        fmt::format("the server at {} accepts TLS 1.2; only TLS 1.3 may be", address));
  }
  SEALIFT_ASSIGN_OR_RETURN(const bool new_accepted,
                           pki::ProbeTls(where, pki::TlsVersion::k13, kProbeTimeout));
  if (new_accepted) return absl::OkStatus();
  return absl::UnavailableError(
      fmt::format("the server at {} does not answer with TLS 1.3", address));
}

}  // namespace sealift::rpc
