// Mutual TLS 1.3 for gRPC, with identities checked by their spiffe:// URI.
#pragma once

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "base/clock.h"
#include "pki/certificate.h"
#include "pki/identity.h"

namespace sealift::rpc {

// RequireTls13 leaves gRPC's TLS 1.2 without a usable cipher suite (gRPC 1.51 has no call for it).
// Call it in main() before anything of gRPC; a later call has no effect.
void RequireTls13();

// CredentialFiles of one process: `identity` holds private key and chain in one PEM file, so that a
// renewal replaces both in one rename (base::WriteFileDurably); it is read again within a second or
// two and used for every connection made from then on.
struct CredentialFiles {
  std::string identity;
  std::string ca;
};

// CheckCredentials says what is wrong with the files, before gRPC silently fails every handshake:
// missing, key and certificate that do not belong together, another CA, expired. It returns the
// certificate.
[[nodiscard]] absl::StatusOr<pki::CertificateInfo> CheckCredentials(const CredentialFiles& files,
                                                                    base::WallTime now);

// Peer of a call, from its verified certificate.
struct Peer {
  pki::Identity identity;
  std::string certificate_serial;
};

// Admit has the last word on a peer, at every call: an error is the answer to that call, and no
// method runs. Called from many threads at once. It is where revoked certificates are refused.
using Admit = std::function<absl::Status(const Peer&)>;

// ServerCredentials let in only peers whose certificate our CA signed and whose role is among
// `accepted`. Every call, before its method runs: the API version must be ours, the certificate
// must not have expired since the connection was made, and `admit` (none: all) must agree.
[[nodiscard]] std::shared_ptr<grpc::ServerCredentials> MakeServerCredentials(
    const CredentialFiles& files, const std::string& trust_domain, std::set<pki::Role> accepted,
    Admit admit = nullptr);

// ChannelCredentials connect only to the very identity named; host names are not looked at. `admit`
// (none: all) has the last word on the server's certificate, at every connection.
[[nodiscard]] std::shared_ptr<grpc::ChannelCredentials> MakeChannelCredentials(
    const CredentialFiles& files, const pki::Identity& server, Admit admit = nullptr);

// CredentialPem is the same content in memory, for a client that lives for one command and whose
// file is not ours (the operator's context).
struct CredentialPem {
  std::string identity;
  std::string ca;
};
[[nodiscard]] std::shared_ptr<grpc::ChannelCredentials> MakeChannelCredentials(
    const CredentialPem& pem, const pki::Identity& server);

// EnrolmentServerCredentials ask for no client certificate (of a call only the API version is
// checked); EnrolmentChannelCredentials trust `ca_pem` and the controller's identity only.
[[nodiscard]] std::shared_ptr<grpc::ServerCredentials> MakeEnrolmentServerCredentials(
    const CredentialFiles& files);
[[nodiscard]] std::shared_ptr<grpc::ChannelCredentials> MakeEnrolmentChannelCredentials(
    const std::string& ca_pem, const pki::Identity& controller);

// PeerOf gives who is calling; UNAUTHENTICATED when the connection carries no certificate.
[[nodiscard]] absl::StatusOr<Peer> PeerOf(const grpc::ServerContextBase& context);

// VerifyTls13Only asks a server of ours at "host:port" for TLS 1.2 and 1.3; an error unless it
// refuses the one and agrees to the other. Server::Start does it.
[[nodiscard]] absl::Status VerifyTls13Only(const std::string& address);

// ToGrpc and FromGrpc: the two status types have the same codes. ToGrpc cuts a very long text,
// which would not fit into the trailers and turn every error into another one; FromGrpc makes the
// peer's text one line of UTF-8, and every connection that is lost kUnavailable.
[[nodiscard]] grpc::Status ToGrpc(const absl::Status& status);
[[nodiscard]] absl::Status FromGrpc(const grpc::Status& status);

}  // namespace sealift::rpc
