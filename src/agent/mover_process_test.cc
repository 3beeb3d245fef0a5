#include "agent/mover_process.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <chrono>

#include "base/status.h"
#include "base/testing.h"
#include "keys/hpke.h"
#include "mover/testing.h"

namespace sealift::agent {
namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;
using ::testing::HasSubstr;

// A port whose queue of connections is full: one more is neither taken nor refused.
class MuteHost {
 public:
  MuteHost() {
    listener_.reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    address_.sin_family = AF_INET;
    address_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address_;
    EXPECT_EQ(bind(listener_.get(), Address(), size), 0);
    EXPECT_EQ(listen(listener_.get(), 0), 0);
    EXPECT_EQ(getsockname(listener_.get(), Address(), &size), 0);
    for (base::UniqueFd& waiting : queue_) {
      waiting.reset(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
      static_cast<void>(connect(waiting.get(), Address(), size));
    }
  }

  [[nodiscard]] base::HostPort address() const { return {"127.0.0.1", ntohs(address_.sin_port)}; }

 private:
  sockaddr* Address() { return reinterpret_cast<sockaddr*>(&address_); }

  base::UniqueFd listener_;
  sockaddr_in address_{};
  std::array<base::UniqueFd, 4> queue_;
};

TEST(MoverProcessTest, AMoverIsHeardWhileItsConnectionsAreMade) {
  const MuteHost host;
  const base::TestFolder folder;
  const auto process = MoverProcess::Spawn({.binary = SEALIFT_MOVER,
                                            .user = *base::LookUpUser(base::TestUser()),
                                            .crypto = {},
                                            .reconnect_seconds = 1});
  ASSERT_TRUE(process.ok()) << process.status();
  const auto offer = (*process)->WaitOffer();
  ASSERT_TRUE(offer.ok()) << offer.status();
  const keys::MigrationSpec spec = mover::testing::Spec(keys::Protection::kSealed, 4);
  const auto sealed =
      keys::HpkeSeal(offer->public_key, keys::HashSpec(spec), mover::testing::Key().bytes);
  ASSERT_TRUE(sealed.ok()) << sealed.status();
  const auto listener = base::ListenUnix(folder / "out.sock", SOCK_STREAM, 0600);
  ASSERT_TRUE(listener.ok()) << listener.status();
  const auto start = steady_clock::now();
  ASSERT_TRUE((*process)->StartSource(spec, *sealed, *listener, {host.address()}).ok());
  const absl::Status established = (*process)->WaitEstablished(seconds(20));
  EXPECT_THAT(base::MessageOf(established), HasSubstr("had no connection for 1 s"));
  EXPECT_LT(steady_clock::now() - start, seconds(4)) << "a connection is given 5 s";
}

}  // namespace
}  // namespace sealift::agent
