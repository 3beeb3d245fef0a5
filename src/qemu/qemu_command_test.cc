#include "qemu/qemu_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace sealift::qemu {
namespace {

using hypervisor::Accelerator;
using hypervisor::DiskFormat;
using hypervisor::NicType;
using hypervisor::StartMode;
using hypervisor::VmDefinition;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Not;

VmDefinition Definition() {
  VmDefinition vm;
  vm.name = "web-1";
  vm.uuid = "6fa3b2c4-0d1e-4f5a-8b9c-0123456789ab";
  vm.cpus = 3;
  vm.memory_bytes = 1536ULL << 20;
  vm.machine = "pc-q35-7.2";
  vm.cpu_model = "Westmere";
  return vm;
}

CommandInput Input(const VmDefinition& vm) {
  CommandInput input{.definition = vm};
  input.qmp_fd = 7;
  input.console_fd = 8;
  input.console_log = "/run/a,b/console.log";
  input.memory_fd = 9;
  input.disks.resize(vm.disks.size());
  input.tap_fds.resize(vm.nics.size(), -1);
  return input;
}

// Every value that follows `option`.
std::vector<std::string> ValuesOf(const std::vector<std::string>& arguments,
                                  const std::string& option) {
  std::vector<std::string> values;
  for (std::size_t i = 0; i + 1 < arguments.size(); ++i) {
    if (arguments[i] == option) values.push_back(arguments[i + 1]);
  }
  return values;
}

TEST(QemuCommand, DescribesTheMachine) {
  const VmDefinition vm = Definition();
  const auto arguments = QemuArguments(Input(vm));
  EXPECT_THAT(ValuesOf(arguments, "-name"), ElementsAre("guest=web-1,debug-threads=on"));
  EXPECT_THAT(ValuesOf(arguments, "-uuid"), ElementsAre(vm.uuid));
  EXPECT_THAT(ValuesOf(arguments, "-machine"), ElementsAre("pc-q35-7.2,memory-backend=pc.ram"));
  EXPECT_THAT(ValuesOf(arguments, "-accel"), ElementsAre("tcg,thread=multi"));
  EXPECT_THAT(ValuesOf(arguments, "-cpu"), ElementsAre("Westmere,enforce"));
  EXPECT_THAT(ValuesOf(arguments, "-smp"), ElementsAre("3,sockets=1,cores=3,threads=1"));
  EXPECT_THAT(ValuesOf(arguments, "-m"), ElementsAre("1536M"));
  EXPECT_THAT(ValuesOf(arguments, "-display"), ElementsAre("none"));
  EXPECT_THAT(
      ValuesOf(arguments, "-sandbox"),
      ElementsAre("on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"));
  EXPECT_THAT(arguments, Contains("-nodefaults"));
  EXPECT_THAT(arguments, Contains("-no-user-config"));
  EXPECT_THAT(ValuesOf(arguments, "-kernel"), IsEmpty());
}

TEST(QemuCommand, PutsGuestMemoryIntoTheFileItInherits) {
  VmDefinition vm = Definition();
  EXPECT_THAT(ValuesOf(QemuArguments(Input(vm)), "-object"),
              ElementsAre("memory-backend-file,id=pc.ram,size=1536M,mem-path=/proc/self/fd/9,"
                          "share=on,align=2M,x-use-canonical-path-for-ramblock-id=off"));
  vm.huge_pages = hypervisor::HugePages::k2M;  // which have an alignment of their own
  EXPECT_THAT(ValuesOf(QemuArguments(Input(vm)), "-object"),
              ElementsAre(::testing::Not(::testing::HasSubstr("align="))));
}

TEST(QemuCommand, LeavesPrivateMemoryToQemu) {
  VmDefinition vm = Definition();
  vm.backing = hypervisor::MemoryBacking::kPrivate;
  CommandInput input = Input(vm);
  input.memory_fd = -1;
  EXPECT_THAT(ValuesOf(QemuArguments(input), "-object"), IsEmpty());
  EXPECT_THAT(ValuesOf(QemuArguments(input), "-machine"), ElementsAre("pc-q35-7.2"));
  EXPECT_THAT(ValuesOf(QemuArguments(input), "-m"), ElementsAre("1536M"));
}

// How each device writes to guest memory. The direct engine sees a write only if it goes through
// QEMU's page tables. Whoever adds a device says here how it writes; vhost, vhost-user, balloons,
// virtio-mem and passed-through devices write past QEMU or take pages away, and need more than a
// line.
constexpr std::string_view kWaysOfWriting[][2] = {
    {"virtio-blk-pci", "QEMU's pread() from the page cache while tracked (disk_cache.h)"},
    {"virtio-net-pci", "QEMU's read() from a tap without vhost, or its own user network"},
    {"isa-serial", "the CPU, through port I/O"},
    {"pvpanic", "nothing"},
};

TEST(QemuCommand, HasNoDeviceWhoseWritesWereNotThoughtAbout) {
  VmDefinition vm = Definition();
  vm.disks.resize(2);
  vm.nics = {{NicType::kBridge, "br0", "", {}}, {NicType::kUser, "", "", {}}};
  vm.firmware = vm.kernel = vm.initrd = "/f";
  for (const char* machine : {"pc-q35-7.2", "pc-i440fx-7.2"}) {
    vm.machine = machine;
    CommandInput input = Input(vm);
    input.tap_fds = {9, -1};
    const auto arguments = QemuArguments(input);
    for (const std::string& device : ValuesOf(arguments, "-device")) {
      const std::string model = device.substr(0, device.find(','));
      EXPECT_TRUE(std::ranges::any_of(kWaysOfWriting, [&](auto& way) { return way[0] == model; }))
          << device;
      EXPECT_THAT(device, Not(::testing::HasSubstr("iothread")));  // of which nothing was tried
    }
    for (const std::string& netdev : ValuesOf(arguments, "-netdev")) {
      EXPECT_THAT(netdev,
                  ::testing::AnyOf(::testing::StartsWith("tap,"), ::testing::StartsWith("user,")));
      EXPECT_THAT(netdev, Not(::testing::HasSubstr("vhost")));
    }
    for (const std::string& node : ValuesOf(arguments, "-blockdev")) {
      EXPECT_EQ(nlohmann::json::parse(node).at("file").at("aio"), "threads");
    }
    // Nothing that brings a device by another word.
    for (const std::string& argument : arguments) {
      EXPECT_THAT(argument, Not(::testing::MatchesRegex(
                                "-(net|nic|drive|hda|cdrom|vga|usb|usbdevice|virtfs|fsdev|soundhw|"
                                "audio|global|device.*vfio.*)")));
    }
    EXPECT_THAT(arguments, Contains("-nodefaults"));
  }
}

TEST(QemuCommand, ServesQmpAndConsoleOnDescriptors) {
  const VmDefinition vm = Definition();
  EXPECT_THAT(ValuesOf(QemuArguments(Input(vm)), "-chardev"),
              ElementsAre("socket,id=qmp,fd=7,server=on,wait=off",
                          "socket,id=console,fd=8,server=on,wait=off,"
                          "logfile=/run/a,,b/console.log,logappend=on"));
}

TEST(QemuCommand, AlwaysStartsStoppedAndWaitsForAMigrationWhenIncoming) {
  const VmDefinition vm = Definition();
  CommandInput input = Input(vm);
  EXPECT_THAT(QemuArguments(input), Contains("-S"));
  EXPECT_THAT(ValuesOf(QemuArguments(input), "-incoming"), IsEmpty());
  input.mode = StartMode::kIncoming;
  EXPECT_THAT(QemuArguments(input), Contains("-S"));
  EXPECT_THAT(ValuesOf(QemuArguments(input), "-incoming"), ElementsAre("defer"));
}

TEST(QemuCommand, UsesKvmWhenToldTo) {
  const VmDefinition vm = Definition();
  CommandInput input = Input(vm);
  input.accelerator = Accelerator::kKvm;
  EXPECT_THAT(ValuesOf(QemuArguments(input), "-accel"), ElementsAre("kvm"));
}

TEST(QemuCommand, PassesKernelAndFirmwareAsTheyAre) {
  VmDefinition vm = Definition();
  vm.firmware = "/f,w";
  vm.kernel = "/k";
  vm.initrd = "/i";
  vm.append = "console=ttyS0,115200 quiet";
  const auto arguments = QemuArguments(Input(vm));
  EXPECT_THAT(ValuesOf(arguments, "-bios"), ElementsAre("/f,w"));
  EXPECT_THAT(ValuesOf(arguments, "-kernel"), ElementsAre("/k"));
  EXPECT_THAT(ValuesOf(arguments, "-initrd"), ElementsAre("/i"));
  EXPECT_THAT(ValuesOf(arguments, "-append"), ElementsAre("console=ttyS0,115200 quiet"));
}

TEST(QemuCommand, OpensDisksPastTheHostCache) {
  VmDefinition vm = Definition();
  vm.disks = {{"/a, \"b\".qcow2", DiskFormat::kQcow2, false}, {"/dev/sdb", DiskFormat::kRaw, true}};
  CommandInput input = Input(vm);
  input.disks = {{DiskDriver::kFile, HostCache::kBypassed},
                 {DiskDriver::kHostDevice, HostCache::kUsed}};
  const auto nodes = ValuesOf(QemuArguments(input), "-blockdev");
  ASSERT_EQ(nodes.size(), 2U);
  const auto first = nlohmann::json::parse(nodes[0]);
  EXPECT_EQ(first.at("driver"), "qcow2");
  EXPECT_EQ(first.at("node-name"), "disk0");
  EXPECT_EQ(first.at("read-only"), false);
  // What a backing file inherits.
  EXPECT_EQ(first.at("cache").at("direct"), false);
  EXPECT_EQ(first.at("file").at("driver"), "file");
  EXPECT_EQ(first.at("file").at("filename"), "/a, \"b\".qcow2");
  EXPECT_EQ(first.at("file").at("cache").at("direct"), true);
  EXPECT_EQ(first.at("file").at("aio"), "threads");
  EXPECT_EQ(first.at("file").at("node-name"), "disk0-direct");
  const auto second = nlohmann::json::parse(nodes[1]);
  EXPECT_EQ(second.at("driver"), "raw");
  EXPECT_EQ(second.at("read-only"), true);
  EXPECT_EQ(second.at("file").at("driver"), "host_device");
  EXPECT_EQ(second.at("file").at("cache").at("direct"), false);
}

TEST(QemuCommand, ConnectsNics) {
  VmDefinition vm = Definition();
  vm.nics = {{NicType::kBridge, "br0", "52:54:00:12:34:56", {}},
             {NicType::kUser, "", "52:54:00:12:34:57", {"tcp::2222-:22", "udp::53-:53"}}};
  CommandInput input = Input(vm);
  input.tap_fds = {9, -1};
  EXPECT_THAT(
      ValuesOf(QemuArguments(input), "-netdev"),
      ElementsAre("tap,id=net0,fd=9", "user,id=net1,hostfwd=tcp::2222-:22,hostfwd=udp::53-:53"));
}

// The addresses of all devices on the root bus.
std::vector<std::string> Addresses(const VmDefinition& vm) {
  std::vector<std::string> addresses;
  for (const std::string& device : ValuesOf(QemuArguments(Input(vm)), "-device")) {
    const std::size_t at = device.find(",addr=");
    if (at == std::string::npos) continue;
    addresses.push_back(device.substr(at + 6, device.find(',', at + 1) - at - 6));
  }
  return addresses;
}

TEST(QemuCommand, GivesEveryDeviceItsOwnSlot) {
  VmDefinition vm = Definition();
  vm.disks.resize(hypervisor::kMaxDisks);
  vm.nics.resize(hypervisor::kMaxNics);
  std::vector<std::string> addresses = Addresses(vm);
  EXPECT_EQ(addresses.size(), hypervisor::kMaxDisks + hypervisor::kMaxNics);
  std::ranges::sort(addresses);
  EXPECT_EQ(std::ranges::adjacent_find(addresses), addresses.end());
  EXPECT_THAT(addresses, Not(Contains("0x1f")));
}

TEST(QemuCommand, AddingANicMovesNoDisk) {
  VmDefinition vm = Definition();
  vm.disks.resize(1);
  const std::vector<std::string> before = Addresses(vm);
  vm.nics.resize(1);
  EXPECT_THAT(Addresses(vm), Contains(before.at(0)));
}

TEST(QemuCommand, KnowsTheRootBusOfBothFamilies) {
  VmDefinition vm = Definition();
  vm.nics.resize(1);
  const auto device = [&] { return ValuesOf(QemuArguments(Input(vm)), "-device").back(); };
  EXPECT_THAT(device(), ::testing::HasSubstr(",bus=pcie.0,addr=0x2,romfile="));
  vm.machine = "pc-i440fx-7.2";
  EXPECT_THAT(device(), ::testing::HasSubstr(",bus=pci.0,addr=0x2,romfile="));
}

}  // namespace
}  // namespace sealift::qemu
