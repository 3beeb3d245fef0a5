#include "qemu/tap.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/ethtool.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "base/bytes.h"
#include "base/status.h"

namespace sealift::qemu {
namespace {

// Request is an ifreq for the device of that name.
ifreq Request(std::string_view name) {
  ifreq request{};
  const std::size_t length = std::min(name.size(), sizeof request.ifr_name - 1);
  std::memcpy(request.ifr_name, name.data(), length);
  return request;
}

absl::StatusOr<base::UniqueFd> ControlSocket() {
  base::UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return base::ErrnoStatus("socket", errno);
  return fd;
}

absl::Status Control(int fd, unsigned long call, ifreq& request, std::string_view what) {
  if (ioctl(fd, call, &request) == 0) return absl::OkStatus();
  return base::ErrnoStatus(fmt::format("{} {}", what, std::string_view(request.ifr_name)), errno);
}

// The kind of a device according to its driver; asked through a socket because /sys may show
// another network namespace.
std::string DriverOf(int control, const std::string& name) {
  ethtool_drvinfo info{};
  info.cmd = ETHTOOL_GDRVINFO;
  ifreq request = Request(name);
  request.ifr_data = reinterpret_cast<char*>(&info);
  if (ioctl(control, SIOCETHTOOL, &request) != 0) return "";
  return std::string(info.driver, strnlen(info.driver, sizeof info.driver));
}

// A bridge takes the lowest address of its ports as its own, which would change under everybody's
// feet when a VM starts. So the tap gets the guest's address with the highest first octet that is a
// local unicast one.
absl::Status SetHighAddress(int control, const std::string& tap, const std::string& guest_mac) {
  std::string digits = guest_mac;
  std::erase(digits, ':');
  SEALIFT_ASSIGN_OR_RETURN(const base::Bytes address, base::FromHex(digits));
  ifreq request = Request(tap);
  request.ifr_hwaddr.sa_family = ARPHRD_ETHER;
  std::memcpy(request.ifr_hwaddr.sa_data, address.data(), std::min<std::size_t>(address.size(), 6));
  request.ifr_hwaddr.sa_data[0] = static_cast<char>(0xfe);
  return Control(control, SIOCSIFHWADDR, request, "set the address of");
}

absl::Status CopyMtu(int control, const std::string& from, const std::string& to) {
  ifreq source = Request(from);
  SEALIFT_RETURN_IF_ERROR(Control(control, SIOCGIFMTU, source, "read the MTU of"));
  ifreq target = Request(to);
  target.ifr_mtu = source.ifr_mtu;
  return Control(control, SIOCSIFMTU, target, "set the MTU of");
}

absl::Status Attach(int control, const std::string& bridge, const std::string& tap) {
  ifreq request = Request(bridge);
  request.ifr_ifindex = static_cast<int>(if_nametoindex(tap.c_str()));
  return Control(control, SIOCBRADDIF, request, fmt::format("attach {} to bridge", tap));
}

absl::Status BringUp(int control, const std::string& tap) {
  ifreq request = Request(tap);
  SEALIFT_RETURN_IF_ERROR(Control(control, SIOCGIFFLAGS, request, "read the flags of"));
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  return Control(control, SIOCSIFFLAGS, request, "bring up");
}

}  // namespace

absl::Status CheckBridge(const std::string& name) {
  SEALIFT_ASSIGN_OR_RETURN(const base::UniqueFd control, ControlSocket());
  const std::string driver = DriverOf(control.get(), name);
  if (driver == "bridge") return absl::OkStatus();
  if (if_nametoindex(name.c_str()) == 0) {
    return absl::FailedPreconditionError(
        fmt::format("this host has no bridge {0}: make one, for example 'ip link add {0} type "
                    "bridge && ip link set {0} up'",
                    name));
  }
  return absl::FailedPreconditionError(fmt::format("{} is a network device but no bridge", name));
}

absl::StatusOr<base::UniqueFd> OpenTap(const std::string& bridge, const std::string& guest_mac) {
  SEALIFT_ASSIGN_OR_RETURN(const base::UniqueFd control, ControlSocket());
  base::UniqueFd tap(open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (!tap.valid()) return base::ErrnoStatus("open /dev/net/tun", errno);
  ifreq request = Request("sealift%d");  // the kernel fills in the first free number
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  SEALIFT_RETURN_IF_ERROR(Control(tap.get(), TUNSETIFF, request, "make tap device"));
  const std::string name = request.ifr_name;
  SEALIFT_RETURN_IF_ERROR(SetHighAddress(control.get(), name, guest_mac));
  SEALIFT_RETURN_IF_ERROR(CopyMtu(control.get(), bridge, name));
  SEALIFT_RETURN_IF_ERROR(Attach(control.get(), bridge, name));
  SEALIFT_RETURN_IF_ERROR(BringUp(control.get(), name));
  return tap;
}

}  // namespace sealift::qemu
