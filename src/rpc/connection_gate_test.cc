// A real server with few places, and more connections than that.
#include "rpc/connection_gate.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <filesystem>
#include <vector>

#include "base/check.h"
#include "base/socket.h"
#include "rpc/channel.h"
#include "rpc/credentials.h"
#include "rpc/server.h"
#include "rpc/test_installation.h"
#include "sealift/v1/controller.grpc.pb.h"

namespace sealift::rpc {
namespace {

using std::chrono::seconds;

constexpr std::size_t kPlaces = 8;
constexpr std::size_t kFlood = 200;

// Session answers with the name of the connection that the call came by.
class Session final : public v1::SessionService::Service {
 public:
  grpc::Status GetInfo(grpc::ServerContext* context, const v1::GetInfoRequest*,
                       v1::GetInfoResponse* response) override {
    response->set_identity(context->peer());
    return grpc::Status::OK;
  }
};

bool IsOver(const base::UniqueFd& socket, std::chrono::milliseconds patience) {
  pollfd waiting{socket.get(), POLLIN, 0};
  char byte = 0;
  return poll(&waiting, 1, static_cast<int>(patience.count())) > 0 &&
         recv(socket.get(), &byte, 1, 0) <= 0;
}

class ConnectionGateTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { RequireTls13(); }

  void Serve(const std::string& at) {
    auto server = Server::Start(
        {.address = {at, 0},
         .credentials = MakeServerCredentials(site_.Enrol("controller.pem", site_.Controller()),
                                              site_.trust_domain(), {pki::Role::kOperator}),
         .services = {&session_},
         .max_connections = kPlaces});
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    at_ = {at, server_->port()};
  }

  std::shared_ptr<grpc::Channel> Channel() {
    return MakeChannel(at_, MakeChannelCredentials(site_.Enrol("me.pem", site_.Operator("me")),
                                                   site_.Controller()));
  }
  // The connection by which a call of this channel arrived; empty if it did not.
  static std::string Call(const std::shared_ptr<grpc::Channel>& channel) {
    grpc::ClientContext context;
    PrepareCall(context, seconds(20));
    v1::GetInfoResponse response;
    const grpc::Status status =
        v1::SessionService::NewStub(channel)->GetInfo(&context, {}, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.identity();
  }

  // A connection that says nothing, from an address of the loopback network.
  [[nodiscard]] base::UniqueFd Connect(std::uint32_t from = INADDR_LOOPBACK) const {
    base::UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    SEALIFT_CHECK(fd.valid());
    Connect(fd, from);
    return fd;
  }
  void Connect(const base::UniqueFd& fd, std::uint32_t from) const {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(from);
    SEALIFT_CHECK(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(at_.port);
    SEALIFT_CHECK(connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  }
  [[nodiscard]] std::vector<base::UniqueFd> Flood(std::uint32_t from = INADDR_LOOPBACK) const {
    std::vector<base::UniqueFd> strangers;
    for (std::size_t i = 0; i < kFlood; ++i) strangers.push_back(Connect(from));
    // All but those that have a place are ended, the oldest first.
    for (std::size_t i = 0; i + kPlaces < kFlood; ++i) {
      EXPECT_TRUE(IsOver(strangers[i], seconds(10))) << i;
    }
    return strangers;
  }

  TestInstallation site_;
  Session session_;
  std::unique_ptr<Server> server_;
  base::HostPort at_;
};

std::size_t Descriptors() {
  const std::filesystem::directory_iterator all("/proc/self/fd");
  return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

TEST_F(ConnectionGateTest, TheOldestStrangersAreEndedWhenAllPlacesAreTaken) {
  Serve("127.0.0.1");
  Call(Channel());
  const std::size_t before = Descriptors();
  const std::vector<base::UniqueFd> strangers = Flood();
  EXPECT_LE(Descriptors(), before + kFlood + 4 * kPlaces);
  EXPECT_NE(Call(Channel()), "") << "who comes last still gets in";
}

TEST_F(ConnectionGateTest, WhoWasAdmittedKeepsItsConnection) {
  for (const char* address : {"127.0.0.1", "::1"}) {
    if (!base::ListenTcp(address, 0, 0).ok()) continue;  // this machine has no IPv6
    Serve(address);
    const auto channel = Channel();
    const std::string connection = Call(channel);
    std::vector<base::UniqueFd> strangers;
    for (std::size_t i = 0; i < kFlood; ++i) {
      strangers.push_back(*base::ConnectTcp(at_, seconds(10)));
    }
    EXPECT_TRUE(IsOver(strangers.front(), seconds(10)));
    EXPECT_EQ(Call(channel), connection);
  }
}

TEST_F(ConnectionGateTest, WhoFloodsPushesOutHisOwn) {
  Serve("127.0.0.1");
  const base::UniqueFd quiet = Connect();
  const std::vector<base::UniqueFd> strangers = Flood(INADDR_LOOPBACK + 1);
  EXPECT_FALSE(IsOver(quiet, std::chrono::milliseconds(0)));
}

TEST_F(ConnectionGateTest, AServerThatHadNoDescriptorLeftServesAgain) {
  Serve("127.0.0.1");
  const auto channel = Channel();
  const std::string connection = Call(channel);
  std::vector<base::UniqueFd> strangers;
  for (std::size_t i = 0; i < kFlood; ++i) {
    strangers.emplace_back(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  }
  rlimit limit{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const rlimit few{static_cast<rlim_t>(strangers.back().get()) + 2, limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &few), 0);
  for (const base::UniqueFd& stranger : strangers) Connect(stranger, INADDR_LOOPBACK);
  EXPECT_EQ(Call(channel), connection);
  strangers.clear();
  EXPECT_NE(Call(Channel()), "");
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

}  // namespace
}  // namespace sealift::rpc
