// Calls a server of ours with any identity and any bytes, for tests that play somebody who should
// not be served. It is not installed.
//
//   raw-caller ADDRESS SERVER-IDENTITY CA-FILE [IDENTITY-FILE]
//
// Without the last it has no certificate. One call a line comes in, METHOD HEX; one answer a line
// goes out, CODE HEX TEXT.
#include <fmt/format.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <future>
#include <iostream>
#include <sstream>
#include <string>

#include "base/bytes.h"
#include "base/check.h"
#include "base/file.h"
#include "base/utf8.h"
#include "pki/identity.h"
#include "rpc/channel.h"
#include "rpc/credentials.h"

namespace sealift {
namespace {

constexpr std::chrono::seconds kTimeout{15};

std::shared_ptr<grpc::ChannelCredentials> CredentialsFrom(int argc, char** argv) {
  const pki::Identity server = pki::ParseIdentity(argv[2]).value();
  if (argc > 4) {
    return rpc::MakeChannelCredentials(rpc::CredentialFiles{.identity = argv[4], .ca = argv[3]},
                                       server);
  }
  return rpc::MakeEnrolmentChannelCredentials(base::ReadFile(argv[3]).value(), server);
}

std::string HexOf(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  if (!buffer.Valid() || !buffer.Dump(&slices).ok()) return "-";
  base::Bytes bytes;
  for (const grpc::Slice& slice : slices) {
    base::Append(bytes, std::as_bytes(std::span(slice.begin(), slice.size())));
  }
  return bytes.empty() ? "-" : base::ToHex(bytes);
}

std::string Call(grpc::GenericStub& stub, const std::string& method, const std::string& hex) {
  const base::Bytes bytes = hex == "-" ? base::Bytes() : base::FromHex(hex).value();
  const grpc::Slice slice(bytes.data(), bytes.size());
  const grpc::ByteBuffer request(&slice, 1);
  grpc::ByteBuffer response;
  grpc::ClientContext context;
  rpc::PrepareCall(context, kTimeout);
  std::promise<grpc::Status> ended;
  stub.UnaryCall(&context, "/sealift.v1." + method, {}, &request, &response,
                 [&](grpc::Status status) { ended.set_value(std::move(status)); });
  const grpc::Status status = ended.get_future().get();
  constexpr std::size_t kMaxText = 4000;
  return fmt::format("{} {} {}", static_cast<int>(status.error_code()), HexOf(response),
                     base::MakeLine(status.error_message(), kMaxText));
}

}  // namespace
}  // namespace sealift

int main(int argc, char** argv) {
  using namespace sealift;
  SEALIFT_CHECK(argc > 3);
  rpc::RequireTls13();
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetMaxSendMessageSize(-1);
  grpc::GenericStub stub(grpc::CreateCustomChannel(std::string("dns:///") + argv[1],
                                                   CredentialsFrom(argc, argv), arguments));
  for (std::string line; std::getline(std::cin, line);) {
    std::istringstream words(line);
    std::string method;
    std::string hex;
    words >> method >> hex;
    std::cout << Call(stub, method, hex) << std::endl;
  }
  return 0;
}
