// The two points where a peer is judged: once when it connects, and at each of its calls. Private
// to this folder.
#pragma once

#include <grpcpp/security/auth_metadata_processor.h>
#include <grpcpp/security/tls_certificate_verifier.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "pki/identity.h"
#include "rpc/credentials.h"

namespace sealift::rpc {

using AcceptIdentity = std::function<absl::Status(const pki::Identity&)>;

// MakePeerVerifier makes the check of a connection, after TLS has verified the chain: the
// certificate names exactly one identity, is valid now, and `accept` agrees. Whatever cannot be
// read is refused.
[[nodiscard]] std::shared_ptr<grpc::experimental::CertificateVerifier> MakePeerVerifier(
    AcceptIdentity accept, Admit admit = nullptr);

// ApiVersions is what one side serves.
struct ApiVersions {
  std::uint32_t oldest;
  std::uint32_t newest;
};

// CheckApiVersion judges a caller by what its metadata says: the API version and that of its
// program, both as text. An error names both sides and which one is to be upgraded.
[[nodiscard]] absl::Status CheckApiVersion(std::string_view version, std::string_view program,
                                           ApiVersions served);

// MakeCallGuard makes the check of a call: see MakeServerCredentials. MakeVersionGuard checks the
// API version only.
[[nodiscard]] std::shared_ptr<grpc::AuthMetadataProcessor> MakeCallGuard(Admit admit);
[[nodiscard]] std::shared_ptr<grpc::AuthMetadataProcessor> MakeVersionGuard();

}  // namespace sealift::rpc
