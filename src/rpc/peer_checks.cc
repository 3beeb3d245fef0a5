#include "rpc/peer_checks.h"

#include <fmt/format.h>
#include <grpc/grpc_security_constants.h>

#include <charconv>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/log.h"
#include "base/status.h"
#include "pki/certificate.h"
#include "rpc/protocol.h"

namespace sealift::rpc {
namespace {

using grpc::experimental::TlsCustomVerificationCheckRequest;
using Metadata = grpc::AuthMetadataProcessor::InputMetadata;

class PeerVerifier final : public grpc::experimental::ExternalCertificateVerifier {
 public:
  PeerVerifier(AcceptIdentity accept, Admit admit)
      : accept_(std::move(accept)), admit_(std::move(admit)) {}

  bool Verify(TlsCustomVerificationCheckRequest* request, std::function<void(grpc::Status)>,
              grpc::Status* sync_status) override {
    const absl::Status status = Check(request->peer_cert());
    if (!status.ok()) spdlog::warn("connection refused: {}", base::MessageOf(status));
    *sync_status = ToGrpc(status);
    return true;  // decided at once
  }
  void Cancel(TlsCustomVerificationCheckRequest*) override {}

 private:
  absl::Status Check(grpc::string_ref pem) const {
    SEALIFT_ASSIGN_OR_RETURN(const pki::CertificateInfo certificate,
                             pki::ReadCertificate({pem.data(), pem.size()}));
    SEALIFT_RETURN_IF_ERROR(pki::CheckValidity(certificate, base::SystemClock().Now()));
    SEALIFT_RETURN_IF_ERROR(accept_(certificate.identity));
    return admit_ ? admit_({certificate.identity, certificate.serial}) : absl::OkStatus();
  }

  const AcceptIdentity accept_;
  const Admit admit_;
};

absl::StatusOr<pki::CertificateInfo> CertificateOf(const grpc::AuthContext* context) {
  if (context != nullptr) {
    const std::vector<grpc::string_ref> pem =
        context->FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME);
    if (pem.size() == 1) return pki::ReadCertificate({pem[0].data(), pem[0].size()});
  }
  return absl::UnauthenticatedError("the call carries no certificate");
}

std::string ValueOf(const Metadata& metadata, const char* key) {
  const auto found = metadata.find(key);
  return found == metadata.end() ? "" : std::string(found->second.data(), found->second.size());
}

absl::Status CheckVersion(const Metadata& metadata) {
  const bool once = metadata.count(kApiVersionKey) == 1;
  return CheckApiVersion(once ? ValueOf(metadata, kApiVersionKey) : "",
                         ValueOf(metadata, kVersionKey), {kOldestApiVersion, kApiVersion});
}

// The one way to write a number; nothing for any other text.
std::optional<std::uint32_t> NumberIn(std::string_view text) {
  std::uint32_t number = 0;
  const char* end = text.data() + text.size();
  if (std::from_chars(text.data(), end, number).ptr != end) return std::nullopt;
  return std::to_string(number) == text ? std::optional(number) : std::nullopt;
}

class VersionGuard final : public grpc::AuthMetadataProcessor {
 public:
  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext*, OutputMetadata*,
                       OutputMetadata*) override {
    return ToGrpc(CheckVersion(metadata));
  }
};

class CallGuard final : public grpc::AuthMetadataProcessor {
 public:
  explicit CallGuard(Admit admit) : admit_(std::move(admit)) {}

  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext* context, OutputMetadata*,
                       OutputMetadata*) override {
    return ToGrpc(Check(metadata, context));
  }

 private:
  absl::Status Check(const Metadata& metadata, const grpc::AuthContext* context) const {
    SEALIFT_RETURN_IF_ERROR(CheckVersion(metadata));
    SEALIFT_ASSIGN_OR_RETURN(const pki::CertificateInfo certificate, CertificateOf(context));
    SEALIFT_RETURN_IF_ERROR(pki::CheckValidity(certificate, base::SystemClock().Now()));
    if (!admit_) return absl::OkStatus();
    return admit_(Peer{certificate.identity, certificate.serial});
  }

  const Admit admit_;
};

}  // namespace

absl::Status CheckApiVersion(std::string_view version, std::string_view program,
                             ApiVersions served) {
  const std::optional<std::uint32_t> number = NumberIn(version);
  if (number && *number >= served.oldest && *number <= served.newest) return absl::OkStatus();
  const bool newer = number && *number > served.newest;
  return absl::FailedPreconditionError(fmt::format(
      "the caller (sealift {}) speaks API version {}, the called (sealift {}) serves {} to {}: "
      "upgrade sealift where it is {}",
      program.empty() ? "of unknown version" : program, number ? version : "none", kVersion,
      served.oldest, served.newest, newer ? "called" : "called from"));
}

std::shared_ptr<grpc::experimental::CertificateVerifier> MakePeerVerifier(AcceptIdentity accept,
                                                                          Admit admit) {
  return grpc::experimental::ExternalCertificateVerifier::Create<PeerVerifier>(std::move(accept),
                                                                               std::move(admit));
}

std::shared_ptr<grpc::AuthMetadataProcessor> MakeCallGuard(Admit admit) {
  return std::make_shared<CallGuard>(std::move(admit));
}

std::shared_ptr<grpc::AuthMetadataProcessor> MakeVersionGuard() {
  return std::make_shared<VersionGuard>();
}

absl::StatusOr<Peer> PeerOf(const grpc::ServerContextBase& context) {
  SEALIFT_ASSIGN_OR_RETURN(pki::CertificateInfo certificate,
                           CertificateOf(context.auth_context().get()));
  return Peer{std::move(certificate.identity), std::move(certificate.serial)};
}

}  // namespace sealift::rpc
