#include "cli/controller.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/socket.h"
#include "pki/certificate.h"
#include "rpc/credentials.h"
#include "rpc/protocol.h"

namespace sealift::cli {
namespace {

constexpr std::chrono::seconds kConnectTimeout{10};

// gRPC's own texts, for a deadline that passed on this side and for a call that a server dropped as
// it went away. The controller's own errors say more.
constexpr std::string_view kGrpcDeadlineText = "Deadline Exceeded";
constexpr std::string_view kGrpcCancelledText = "CANCELLED";

// CheckIdentity finds what is wrong with the context before the controller is bothered; gRPC would
// only say that a handshake failed.
absl::StatusOr<pki::CertificateInfo> CheckIdentity(const Context& context, base::WallTime now) {
  SEALIFT_ASSIGN_OR_RETURN(pki::CertificateInfo certificate,
                           pki::ReadCertificate(context.identity_pem));
  SEALIFT_ASSIGN_OR_RETURN(const bool matches,
                           pki::MatchesKey(context.identity_pem, context.identity_pem));
  SEALIFT_ASSIGN_OR_RETURN(const bool issued,
                           pki::IsIssuedBy(context.identity_pem, context.ca_pem));
  if (!matches || !issued) {
    return absl::InvalidArgumentError(matches ? "its certificate was not signed by its CA"
                                              : "its key and certificate do not belong together");
  }
  SEALIFT_RETURN_IF_ERROR(pki::CheckValidity(certificate, now));
  return certificate;
}

// CauseOf leaves of gRPC's text what went wrong: "failed to connect to all addresses; last error:
// UNKNOWN: ipv4:192.0.2.1:7430: Failed to connect to remote host: Connection refused" becomes its
// last sentence.
std::string_view CauseOf(std::string_view text) {
  constexpr std::string_view kLast = "last error: ";
  constexpr std::string_view kUnknown = "UNKNOWN: ";
  if (const std::size_t at = text.rfind(kLast); at != std::string_view::npos) {
    text.remove_prefix(at + kLast.size());
  }
  if (text.starts_with(kUnknown)) text.remove_prefix(kUnknown.size());
  if (text.starts_with("ipv4:") || text.starts_with("ipv6:")) {
    text.remove_prefix(std::min(text.find(": "), text.size() - 2) + 2);
  }
  return text;
}

bool IsTlsError(std::string_view cause) {
  return cause.find("handshake") != std::string_view::npos ||
         cause.find("verif") != std::string_view::npos;
}

bool Decided(grpc_connectivity_state state) {
  return state == GRPC_CHANNEL_READY || state == GRPC_CHANNEL_TRANSIENT_FAILURE ||
         state == GRPC_CHANNEL_SHUTDOWN;
}

}  // namespace

Controller::Controller(const Settings& settings, std::string context_path, Context context)
    : context_path_(std::move(context_path)),
      context_(std::move(context)),
      address_(settings.controller.empty() ? context_.controller : settings.controller),
      timeout_(settings.timeout_s) {}

absl::StatusOr<std::unique_ptr<Controller>> Controller::Connect(const Settings& settings,
                                                                Output& output,
                                                                const base::Clock& clock) {
  SEALIFT_ASSIGN_OR_RETURN(std::string path, FindContext(settings.context, ContextPaths()));
  SEALIFT_ASSIGN_OR_RETURN(Context context, ReadContext(path));
  const auto certificate = CheckIdentity(context, clock.Now());
  if (!certificate.ok()) {
    return base::Annotate(certificate.status(),
                          fmt::format("context file {} is of no use, have a new one made", path));
  }
  std::unique_ptr<Controller> controller(
      new Controller(settings, std::move(path), std::move(context)));
  SEALIFT_RETURN_IF_ERROR(controller->Open());
  if (!pki::RenewalDue(*certificate, clock.Now())) return controller;
  const absl::Status renewed = controller->RenewCertificate(certificate->identity);
  if (!renewed.ok()) {
    output.Warn(fmt::format("the certificate in {} ends at {} and could not be renewed: {}",
                            controller->context_path_, base::FormatUtc(certificate->not_after),
                            base::MessageOf(renewed)));
  }
  return controller;
}

absl::Status Controller::Open() {
  SEALIFT_ASSIGN_OR_RETURN(const base::HostPort address,
                           base::ParseHostPort(address_, rpc::kControllerPort));
  address_ = address.ToString();
  channel_ = rpc::MakeChannel(
      address, rpc::MakeChannelCredentials(
                   rpc::CredentialPem{context_.identity_pem, context_.ca_pem},
                   pki::Identity{context_.trust_domain, pki::Role::kController, /*name=*/""}));
  stubs_ = {v1::HostService::NewStub(channel_),      v1::VmService::NewStub(channel_),
            v1::MigrationService::NewStub(channel_), v1::EventService::NewStub(channel_),
            v1::SessionService::NewStub(channel_),   v1::PolicyService::NewStub(channel_),
            v1::UserService::NewStub(channel_)};
  return WaitUntilConnected();
}

absl::Status Controller::WaitUntilConnected() {
  const auto wait = std::min(timeout_, kConnectTimeout);
  const auto deadline = std::chrono::system_clock::now() + wait;
  grpc_connectivity_state state = channel_->GetState(/*try_to_connect=*/true);
  while (!Decided(state)) {
    if (!channel_->WaitForStateChange(state, deadline)) {
      return Unreachable(fmt::format("no answer within {} s", wait.count()));
    }
    state = channel_->GetState(/*try_to_connect=*/true);
  }
  if (state == GRPC_CHANNEL_READY) return absl::OkStatus();
  // Only a call says why; it fails at once.
  return Call(&v1::SessionService::Stub::GetInfo, v1::GetInfoRequest()).status();
}

void Controller::AwaitConnection(std::chrono::milliseconds limit) {
  channel_->WaitForConnected(std::chrono::system_clock::now() + limit);
}

absl::Status Controller::RenewCertificate(const pki::Identity& identity) {
  SEALIFT_ASSIGN_OR_RETURN(const std::string key, pki::GeneratePrivateKey());
  v1::RenewCertificateRequest request;
  SEALIFT_ASSIGN_OR_RETURN(*request.mutable_certificate_request_pem(),
                           pki::MakeRequest(key, identity));
  SEALIFT_ASSIGN_OR_RETURN(const v1::RenewCertificateResponse response,
                           Call(&v1::SessionService::Stub::RenewCertificate, request));
  SEALIFT_ASSIGN_OR_RETURN(const bool matches,
                           pki::MatchesKey(response.certificate_chain_pem(), key));
  if (!matches) return absl::InternalError("the controller signed another key");
  context_.identity_pem = key + response.certificate_chain_pem();
  return WriteContext(context_path_, context_);
}

absl::Status Controller::Explain(const grpc::Status& status) const {
  absl::Status error = rpc::FromGrpc(status);
  if (absl::IsUnavailable(error) && channel_->GetState(false) != GRPC_CHANNEL_READY) {
    return Unreachable(CauseOf(status.error_message()));
  }
  if (absl::IsDeadlineExceeded(error) && status.error_message() == kGrpcDeadlineText) {
    return absl::DeadlineExceededError(fmt::format(
        "the controller at {} did not answer within {} s (--timeout)", address_, timeout_.count()));
  }
  if (absl::IsCancelled(error) && status.error_message() == kGrpcCancelledText) {
    return Unreachable("it ended the call, as it does when it is being stopped");
  }
  if (absl::IsUnimplemented(error) && status.error_message().empty()) {
    return absl::UnimplementedError(
        fmt::format("the server at {} does not know this call: it is not the controller's port for "
                    "operators ({} unless configured), or has another version",
                    address_, rpc::kControllerPort));
  }
  return error;
}

absl::Status Controller::Unreachable(std::string_view cause) const {
  if (IsTlsError(cause)) {
    return absl::UnavailableError(fmt::format(
        "the server at {} is not the controller of context file {}: {}. Name the context "
        "file of that controller with --context, or check the address",
        address_, context_path_, cause));
  }
  return absl::UnavailableError(
      fmt::format("the controller at {} (context file {}) cannot be reached: {}. Check that "
                  "sealift-controllerd runs there and that the address is right",
                  address_, context_path_, cause));
}

}  // namespace sealift::cli
