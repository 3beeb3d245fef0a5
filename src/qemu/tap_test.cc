#include "qemu/tap.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <functional>
#include <thread>

#include "base/status.h"

namespace sealift::qemu {
namespace {

using ::testing::HasSubstr;

// Runs `body` on a thread in a network namespace of its own; false when that is not allowed here.
bool InNewNetwork(const std::function<void()>& body) {
  bool allowed = false;
  std::thread([&] {
    allowed = unshare(CLONE_NEWNET) == 0;
    if (allowed) body();
  }).join();
  return allowed;
}

class Network {
 public:
  Network() : control_(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {}
  void MakeBridge(const char* name, int mtu) const {
    ASSERT_EQ(ioctl(control_.get(), SIOCBRADDBR, name), 0) << strerror(errno);
    ifreq request = Request(name);
    request.ifr_mtu = mtu;
    ASSERT_EQ(ioctl(control_.get(), SIOCSIFMTU, &request), 0);
  }
  [[nodiscard]] ifreq Ask(unsigned long call, const char* name) const {
    ifreq request = Request(name);
    EXPECT_EQ(ioctl(control_.get(), call, &request), 0) << name << ": " << strerror(errno);
    return request;
  }

 private:
  static ifreq Request(const char* name) {
    ifreq request{};
    std::strncpy(request.ifr_name, name, sizeof request.ifr_name - 1);
    return request;
  }
  base::UniqueFd control_;
};

// One test, because a namespace is not given back.
TEST(Tap, JoinsABridgeAndVanishesWithItsDescriptor) {
  const bool allowed = InNewNetwork([] {
    const Network network;
    network.MakeBridge("br0", 1400);
    EXPECT_TRUE(CheckBridge("br0").ok());
    EXPECT_THAT(base::MessageOf(CheckBridge("br1")), HasSubstr("no bridge br1: make one"));
    EXPECT_THAT(base::MessageOf(CheckBridge("lo")), HasSubstr("no bridge"));

    absl::StatusOr<base::UniqueFd> tap = OpenTap("br0", "52:54:00:12:34:56");
    ASSERT_TRUE(tap.ok()) << tap.status();
    EXPECT_NE(network.Ask(SIOCGIFFLAGS, "sealift0").ifr_flags & IFF_UP, 0);
    EXPECT_EQ(network.Ask(SIOCGIFMTU, "sealift0").ifr_mtu, 1400);
    const auto address = network.Ask(SIOCGIFHWADDR, "sealift0").ifr_hwaddr;
    EXPECT_EQ(std::memcmp(address.sa_data, "\xfe\x54\x00\x12\x34\x56", 6), 0);
    // Only a member can be taken out of a bridge.
    ifreq member = network.Ask(SIOCGIFINDEX, "sealift0");
    std::strcpy(member.ifr_name, "br0");
    const base::UniqueFd control(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(ioctl(control.get(), SIOCBRDELIF, &member), 0);

    tap->reset();
    EXPECT_EQ(if_nametoindex("sealift0"), 0U);
    EXPECT_FALSE(OpenTap("br1", "52:54:00:12:34:56").ok());
    EXPECT_EQ(if_nametoindex("sealift0"), 0U);
  });
  if (!allowed) GTEST_SKIP() << "network namespaces are not allowed here";
}

}  // namespace
}  // namespace sealift::qemu
