#include "base/status.h"

#include "rpc/credentials.h"

namespace sealift::rpc {
namespace {

// A peer takes 8 KiB of trailers, and a byte of the text may need three there (percent-encoding).
constexpr std::size_t kMaxText = 2000;

std::string Cut(std::string text) {
  if (text.size() <= kMaxText) return text;
  std::size_t size = kMaxText;
  while (size > 0 && (static_cast<unsigned char>(text[size]) & 0xc0U) == 0x80U) --size;  // UTF-8
  return text.substr(0, size) + " [cut]";
}

}  // namespace

grpc::Status ToGrpc(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(status.code()), Cut(base::MessageOf(status))};
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

}  // namespace sealift::rpc
