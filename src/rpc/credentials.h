// Mutual TLS 1.3 for gRPC, with identities checked by their spiffe:// URI.
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "pki/identity.h"

namespace sealift::rpc {

// RequireTls13 leaves gRPC's TLS 1.2 without a usable cipher suite (gRPC 1.51 has no call for it). Call it in main() before anything of
// gRPC; a later call has no effect.
void RequireTls13();

// CredentialFiles of one process: `identity` holds private key and chain in one PEM file, so that a renewal
// replaces both in one rename; it is read again within a few seconds.
struct CredentialFiles {
  std::string identity;
  std::string ca;
};

// ServerCredentials let in only peers whose certificate our CA signed and whose role is among `accepted`.
[[nodiscard]] std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(
    const CredentialFiles& files, const std::string& trust_domain, std::set<pki::Role> accepted);

// ChannelCredentials connect only to the very identity named; host names are not looked at.
[[nodiscard]] std::shared_ptr<grpc::ChannelCredentials> MakeChannelCredentials(
    const CredentialFiles& files, const pki::Identity& server);

// CredentialPem is for a client that lives for one command and has read its own files: the same content, in memory.
struct CredentialPem {
  std::string identity;
  std::string ca;
};
[[nodiscard]] std::shared_ptr<grpc::ChannelCredentials> MakeChannelCredentials(
    const CredentialPem& pem, const pki::Identity& server);

// EnrolmentServerCredentials ask for no client certificate; EnrolmentChannelCredentials trust `ca_pem` and the controller's identity only.
[[nodiscard]] std::shared_ptr<grpc::ServerCredentials> MakeEnrolmentServerCredentials(
    const CredentialFiles& files);
[[nodiscard]] std::shared_ptr<grpc::ChannelCredentials> MakeEnrolmentChannelCredentials(
    const std::string& ca_pem, const pki::Identity& controller);

// Peer of a call, from its verified certificate.
struct Peer {
  pki::Identity identity;
  std::string certificate_serial;
};
[[nodiscard]] absl::StatusOr<Peer> PeerOf(const grpc::ServerContext& context);

// VerifyTls13Only connects to a server of ours with TLS 1.2 at most and returns an error if it is let in. Daemons run it once at start.
[[nodiscard]] absl::Status VerifyTls13Only(const std::string& address);

// The two status types have the same codes.
[[nodiscard]] grpc::Status ToGrpc(const absl::Status& status);
[[nodiscard]] absl::Status FromGrpc(const grpc::Status& status);

}  // namespace sealift::rpc
