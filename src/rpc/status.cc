#include "base/status.h"
#include "base/utf8.h"
#include "rpc/credentials.h"

namespace sealift::rpc {
namespace {

// A peer takes 8 KiB of trailers, and a byte of the text may need three there (percent-encoding).
constexpr std::size_t kMaxText = 2000;

// What gRPC says, as UNKNOWN, of a call whose connection went away at a certain moment
// (https://github.com/grpc/grpc/issues/34076).
constexpr std::string_view kConnectionLost = "Stream removed";

std::string Cut(std::string text) {
  if (text.size() <= kMaxText) return text;
  return base::MakeUtf8(text, kMaxText) + " [cut]";
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(status.code()), Cut(base::MessageOf(status))};
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  if (status.error_code() == grpc::StatusCode::UNKNOWN &&
      status.error_message() == kConnectionLost) {
    return absl::UnavailableError("the connection was lost");
  }
  // The text is bytes of any kind, and will be logged, stored and shown.
  constexpr std::size_t kMaxForeignText = 2 * kMaxText;
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()),
                      base::MakeLine(status.error_message(), kMaxForeignText));
}

}  // namespace sealift::rpc
