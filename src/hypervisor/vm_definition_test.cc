#include "hypervisor/vm_definition.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "base/status.h"
#include "hypervisor/definition_syntax.h"

namespace sealift::hypervisor {
namespace {

using ::testing::HasSubstr;

constexpr std::string_view kFull = R"(# a web server
name: web-1
uuid: 6FA3B2C4-0d1e-4f5a-8b9c-0123456789ab
cpus: 4
memory: 2GiB
machine: pc-q35-7.2
cpu_model: Nehalem
accel: tcg
disks:
  - path: /srv/images/web-1.qcow2
  - {path: "/srv/images/se, cond.raw", format: raw, read_only: true}
nics:
  - bridge: br0
    mac: 52:54:00:AB:cd:ef
  - user: true
    forwards: ["tcp:127.0.0.1:2222-:22", "udp::5353-10.0.2.15:53"]
firmware: /usr/share/ovmf/OVMF.fd
kernel: /boot/vmlinuz
initrd: /boot/initrd
append: "console=ttyS0 root=/dev/vda, quiet"
encryption: required
autostart: true
)";

// The error text of a definition that has `extra` after a good beginning of two lines.
std::string ErrorOf(const std::string& extra) {
  const absl::StatusOr<VmDefinition> vm = ParseVmDefinition("name: a\nmemory: 1GiB\n" + extra);
  EXPECT_FALSE(vm.ok()) << extra;
  EXPECT_EQ(vm.status().code(), absl::StatusCode::kInvalidArgument);
  return base::MessageOf(vm.status());
}

TEST(VmDefinition, ReadsEveryKey) {
  const absl::StatusOr<VmDefinition> vm = ParseVmDefinition(kFull);
  ASSERT_TRUE(vm.ok()) << vm.status();
  EXPECT_EQ(vm->name, "web-1");
  EXPECT_EQ(vm->uuid, "6fa3b2c4-0d1e-4f5a-8b9c-0123456789ab");
  EXPECT_EQ(vm->cpus, 4U);
  EXPECT_EQ(vm->memory_bytes, 2ULL << 30);
  EXPECT_EQ(vm->machine, "pc-q35-7.2");
  EXPECT_EQ(vm->cpu_model, "Nehalem");
  EXPECT_EQ(vm->accelerator, Accelerator::kTcg);
  ASSERT_EQ(vm->disks.size(), 2U);
  EXPECT_EQ(vm->disks[0], (Disk{"/srv/images/web-1.qcow2", DiskFormat::kQcow2, false}));
  EXPECT_EQ(vm->disks[1], (Disk{"/srv/images/se, cond.raw", DiskFormat::kRaw, true}));
  ASSERT_EQ(vm->nics.size(), 2U);
  EXPECT_EQ(vm->nics[0], (Nic{NicType::kBridge, "br0", "52:54:00:ab:cd:ef", {}}));
  EXPECT_EQ(vm->nics[1],
            (Nic{NicType::kUser, "", "", {"tcp:127.0.0.1:2222-:22", "udp::5353-10.0.2.15:53"}}));
  EXPECT_EQ(vm->firmware, "/usr/share/ovmf/OVMF.fd");
  EXPECT_EQ(vm->kernel, "/boot/vmlinuz");
  EXPECT_EQ(vm->initrd, "/boot/initrd");
  EXPECT_EQ(vm->append, "console=ttyS0 root=/dev/vda, quiet");
  EXPECT_EQ(vm->encryption, "required");
  EXPECT_TRUE(vm->autostart);
}

TEST(VmDefinition, FillsInDefaults) {
  const absl::StatusOr<VmDefinition> vm = ParseVmDefinition("{name: a, memory: 512MiB}");
  ASSERT_TRUE(vm.ok()) << vm.status();
  EXPECT_EQ(vm->cpus, 1U);
  EXPECT_EQ(vm->machine, kDefaultMachine);
  EXPECT_EQ(vm->cpu_model, kDefaultCpuModel);
  EXPECT_EQ(vm->accelerator, Accelerator::kAuto);
  EXPECT_EQ(vm->uuid, "");
  EXPECT_EQ(vm->backing, MemoryBacking::kShared);
  EXPECT_EQ(vm->huge_pages, HugePages::kAuto);
  EXPECT_EQ(vm->engine, Engine::kAuto);
  EXPECT_FALSE(vm->autostart);
}

TEST(VmDefinition, ReadsWhatMemoryIsMadeOf) {
  const auto vm = ParseVmDefinition(
      "{name: a, memory: {size: 4GiB, backing: shared, hugepages: 1G}, engine: direct}");
  ASSERT_TRUE(vm.ok()) << vm.status();
  EXPECT_EQ(vm->memory_bytes, 4ULL << 30);
  EXPECT_EQ(vm->huge_pages, HugePages::k1G);
  EXPECT_EQ(vm->engine, Engine::kDirect);
  EXPECT_EQ(ParseVmDefinition("{name: a, memory: {size: 64MiB, backing: private}}")->backing,
            MemoryBacking::kPrivate);
  EXPECT_EQ(ParseVmDefinition("{name: a, memory: {size: 64MiB, hugepages: 2M}}")->huge_pages,
            HugePages::k2M);
  EXPECT_EQ(ParseVmDefinition("{name: a, memory: {size: 64MiB, hugepages: off}}")->huge_pages,
            HugePages::kOff);
}

TEST(VmDefinition, RefusesMemoryThatCannotBe) {
  const auto error = [](const std::string& memory) {
    return base::MessageOf(ParseVmDefinition("name: a\nmemory: " + memory).status());
  };
  EXPECT_EQ(error("{backing: shared}"), "line 2: memory: size is missing");
  EXPECT_EQ(error("{size: 1GiB, backing: file}"),
            "line 2: memory.backing: 'file' is none of shared, private");
  EXPECT_EQ(error("{size: 1GiB, hugepages: 4M}"),
            "line 2: memory.hugepages: '4M' is none of auto, 2M, 1G, off");
  EXPECT_EQ(error("{size: 1536MiB, hugepages: 1G}"),
            "line 2: memory: 1536MiB is not a multiple of 1GiB, as hugepages: 1G needs");
  EXPECT_EQ(error("{size: 2GiB, hugepages: 2M, backing: private}"),
            "line 2: memory: hugepages: 2M needs 'backing: shared'");
  EXPECT_EQ(error("{size: 2GiB, backing: private}\nengine: direct"),
            "line 1: engine: direct needs memory with 'backing: shared'");
  EXPECT_EQ(error("2GiB\nengine: fast"), "line 3: engine: 'fast' is none of auto, direct, stream");
}

// An agent of an earlier version must understand a definition that asks for nothing new.
TEST(VmDefinition, WritesNewKeysOnlyWhenTheySaySomething) {
  const auto written = [](const char* yaml) {
    return FormatVmDefinition(*ParseVmDefinition(yaml));
  };
  const std::string plain = written("{name: a, memory: {size: 1GiB}, engine: auto}");
  EXPECT_THAT(plain, HasSubstr("memory: 1GiB\n"));
  EXPECT_THAT(plain, ::testing::Not(HasSubstr("engine")));
  EXPECT_THAT(written("{name: a, memory: 1GiB, engine: stream}"), HasSubstr("engine: stream\n"));
}

TEST(VmDefinition, FormatIsReadBackEqual) {
  for (const std::string_view yaml :
       {kFull, std::string_view("{name: a, memory: 1537MiB}"),
        std::string_view("{name: a, memory: {size: 2GiB, backing: private}, engine: stream}"),
        std::string_view("{name: a, memory: {size: 2GiB, hugepages: 2M}, engine: direct}"),
        std::string_view("{name: a, memory: {size: 2GiB, hugepages: off}}"),
        std::string_view(
            "{name: 'true', memory: 1GiB, kernel: \"/\\\"ü\\\\: #\", append: 'a: b'}")}) {
    const absl::StatusOr<VmDefinition> vm = ParseVmDefinition(yaml);
    ASSERT_TRUE(vm.ok()) << vm.status();
    const absl::StatusOr<VmDefinition> again = ParseVmDefinition(FormatVmDefinition(*vm));
    ASSERT_TRUE(again.ok()) << again.status() << "\n" << FormatVmDefinition(*vm);
    EXPECT_EQ(*again, *vm);
  }
}

TEST(VmDefinition, NamesLineAndKeyOfABadValue) {
  EXPECT_EQ(ErrorOf("cpus: 0\n"), "line 3: cpus: '0' is not a number from 1 to 255");
  EXPECT_EQ(ErrorOf("cpus: two\n"), "line 3: cpus: 'two' is not a number from 1 to 255");
  EXPECT_EQ(ErrorOf("cpus: [1]\n"), "line 3: cpus: must be a single value");
  EXPECT_EQ(ErrorOf("uuid:\n"), "line 3: uuid: has no value");
  EXPECT_EQ(ErrorOf("accel: xen\n"), "line 3: accel: 'xen' is none of auto, kvm, tcg");
  EXPECT_EQ(ErrorOf("autostart: yes\n"), "line 3: autostart: 'yes' is neither true nor false");
  EXPECT_EQ(ErrorOf("encryption: on\n"),
            "line 3: encryption: 'on' is none of disabled, opportunistic, required");
  EXPECT_EQ(ErrorOf("disks:\n  - path: x.img\n"),
            "line 4: disks[0].path: 'x.img' is not an absolute path");
  EXPECT_EQ(ErrorOf("disks:\n  - path: /a\n  - path: /b\n    format: vmdk\n"),
            "line 6: disks[1].format: 'vmdk' is none of raw, qcow2");
  EXPECT_EQ(ErrorOf("disks: /a.img\n"), "line 3: disks: must be a list");
  EXPECT_EQ(ErrorOf("nics:\n- bridge: br/0\n"),
            "line 4: nics[0].bridge: 'br/0' is not the name of a bridge such as br0");
}

TEST(VmDefinition, ExplainsASizeThatIsNone) {
  const auto error = [](const std::string& size) {
    return base::MessageOf(ParseVmDefinition("name: a\nmemory: " + size).status());
  };
  EXPECT_EQ(error("12 parsecs"),
            "line 2: memory: '12 parsecs' is not a size such as 512MiB or 2GiB");
  EXPECT_THAT(error("1024"), HasSubstr("'1024' is not a size"));
  EXPECT_THAT(error("-1GiB"), HasSubstr("'-1GiB' is not a size"));
  EXPECT_THAT(error("0GiB"), HasSubstr("'0GiB' is not a size"));
  EXPECT_THAT(error("512KiB"), HasSubstr("not a multiple of 1MiB"));
  EXPECT_THAT(error("99999999999TiB"), HasSubstr("too large"));
  EXPECT_THAT(error("2GB"), HasSubstr("'2GB' is not a size"));
}

TEST(VmDefinition, HintsAtTheNearestKey) {
  EXPECT_EQ(ErrorOf("memmory: 2GiB\n"), "line 3: unknown key 'memmory': did you mean 'memory'?");
  EXPECT_EQ(ErrorOf("disks:\n  - pth: /a\n"),
            "line 4: disks[0]: unknown key 'pth': did you mean 'path'?");
  EXPECT_EQ(ErrorOf("nics:\n  - vlan: 7\n"),
            "line 4: nics[0]: unknown key 'vlan' (known: user, bridge, mac, forwards)");
}

TEST(VmDefinition, RefusesAKeyThatIsThereTwice) {
  EXPECT_EQ(ErrorOf("name: b\n"), "line 3: the key 'name' is there twice");
}

TEST(VmDefinition, RefusesAMissingKey) {
  EXPECT_EQ(base::MessageOf(ParseVmDefinition("name: a\n").status()), "line 1: memory is missing");
  EXPECT_EQ(base::MessageOf(ParseVmDefinition("memory: 1GiB\n").status()),
            "line 1: name is missing");
  EXPECT_EQ(ErrorOf("disks:\n  - format: raw\n"), "line 4: disks[0]: path is missing");
}

TEST(VmDefinition, RefusesAMachineTypeThatChangesWithQemu) {
  EXPECT_EQ(ErrorOf("machine: q35\n"),
            "line 3: machine: 'q35' means another machine with each QEMU version: write "
            "pc-q35-7.2");
  EXPECT_THAT(ErrorOf("machine: pc\n"), HasSubstr("write pc-i440fx-7.2"));
  EXPECT_THAT(ErrorOf("machine: microvm\n"), HasSubstr("not a versioned machine type"));
  EXPECT_THAT(ErrorOf("machine: 'pc-q35-7.2,smm=off'\n"), HasSubstr("not a versioned"));
  EXPECT_TRUE(CheckMachine("pc-i440fx-2.12").ok());
  EXPECT_TRUE(CheckMachine("pc-q35-rhel9.2.0").ok());
}

TEST(VmDefinition, RefusesBadNames) {
  for (const char* name : {"''", "A", "a_b", "-a", "a-", "../a", "a b"}) {
    const auto vm = ParseVmDefinition(std::string("memory: 1GiB\nname: ") + name);
    EXPECT_THAT(base::MessageOf(vm.status()), HasSubstr("line 2: name: ")) << name;
  }
  EXPECT_FALSE(CheckName(std::string(64, 'a')).ok());
  EXPECT_TRUE(CheckName(std::string(63, 'a')).ok());
}

TEST(VmDefinition, RefusesBadUuidAndMac) {
  EXPECT_THAT(ErrorOf("uuid: 6fa3b2c4\n"), HasSubstr("not a UUID such as"));
  EXPECT_THAT(ErrorOf("uuid: 6fa3b2c4-0d1e-4f5a-8b9c-0123456789abc\n"), HasSubstr("not a UUID"));
  EXPECT_THAT(ErrorOf("nics: [{user: true, mac: '52-54-00-12-34-56'}]\n"),
              HasSubstr("nics[0].mac: '52-54-00-12-34-56' is not a MAC address"));
  EXPECT_THAT(ErrorOf("nics: [{user: true, mac: '53:54:00:12:34:56'}]\n"), HasSubstr("multicast"));
}

TEST(VmDefinition, RefusesContradictions) {
  EXPECT_THAT(ErrorOf("nics: [{user: true, bridge: br0}]\n"), HasSubstr("either 'bridge: NAME'"));
  EXPECT_THAT(ErrorOf("nics: [{mac: '52:54:00:12:34:56'}]\n"), HasSubstr("either 'bridge: NAME'"));
  EXPECT_THAT(ErrorOf("nics: [{user: false}]\n"), HasSubstr("nics[0].user: can only be true"));
  EXPECT_THAT(ErrorOf("nics: [{bridge: br0, forwards: ['tcp::1-:2']}]\n"),
              HasSubstr("forwards belong to 'user: true' only"));
  EXPECT_THAT(ErrorOf("initrd: /a\n"), HasSubstr("initrd needs kernel"));
  EXPECT_THAT(ErrorOf("append: quiet\n"), HasSubstr("append needs kernel"));
  EXPECT_THAT(ErrorOf("disks: [{path: /a}, {path: /a}]\n"), HasSubstr("/a is there twice"));
  EXPECT_THAT(ErrorOf("nics: [{user: true, mac: '52:54:00:12:34:56'},"
                      "       {bridge: b, mac: '52:54:00:12:34:56'}]\n"),
              HasSubstr("is there twice"));
}

TEST(VmDefinition, RefusesForwardsThatQemuWouldReadOtherwise) {
  for (const char* rule : {"tcp:2222", "tcp::2222", "sctp::1-:2", "tcp::0-:22", "tcp::70000-:22",
                           "tcp::1-:2,hostfwd=tcp::3-:4", "tcp::1-:2-", "tcp:host:1-:2"}) {
    EXPECT_FALSE(CheckForward(rule).ok()) << rule;
  }
}

TEST(VmDefinition, RefusesTooManyDevices) {
  std::string disks = "disks:\n";
  for (std::size_t i = 0; i <= kMaxDisks; ++i) disks += "  - path: /d" + std::to_string(i) + "\n";
  EXPECT_THAT(ErrorOf(disks), HasSubstr("has 17 entries, at most 16"));
}

TEST(VmDefinition, TurnsSyntaxErrorsIntoAStatusWithTheLine) {
  EXPECT_THAT(ErrorOf("disks: [\n"), HasSubstr("not valid YAML"));
  EXPECT_THAT(ErrorOf("append: \"unfinished"), HasSubstr("not valid YAML"));
  EXPECT_THAT(ErrorOf("machine: *nowhere\n"), HasSubstr("line 3: not valid YAML"));
  EXPECT_THAT(ErrorOf("---\nname: b\n"), HasSubstr("text after the end of the YAML document"));
  EXPECT_THAT(ErrorOf(std::string("append: a\xff\n")), HasSubstr("UTF-8"));
  EXPECT_THAT(ErrorOf(std::string(100'000, '\n')), HasSubstr("larger than 65536"));
  EXPECT_FALSE(ParseVmDefinition("{name: a, memory: 1GiB} ,").ok());
  EXPECT_FALSE(ParseVmDefinition("").ok());
  EXPECT_FALSE(ParseVmDefinition("- a\n- b\n").ok());
  EXPECT_FALSE(ParseVmDefinition(std::string(5000, '[')).ok());
}

TEST(VmDefinition, RefusesControlCharacters) {
  EXPECT_THAT(ErrorOf("kernel: \"/a\\nb\"\n"), HasSubstr("control character"));
  EXPECT_THAT(ErrorOf("kernel: /a\nappend: \"a\\tb\"\n"), HasSubstr("control character"));
  EXPECT_THAT(ErrorOf("kernel: \"/a\\0b\"\n"), HasSubstr("NUL"));
  EXPECT_THAT(ErrorOf("kernel: \"/a\\x9bb\"\n"), HasSubstr("control character"));
}

TEST(VmDefinition, RefusesEscapesThatAreNoCharacters) {
  for (const std::string_view escape : {"\\N", "\\_"}) {
    EXPECT_THAT(ErrorOf(fmt::format("kernel: \"/a{}b\"\n", escape)),
                HasSubstr("kernel: is not UTF-8 text"));
  }
}

TEST(VmDefinition, MakesTheSameMacEverywhere) {
  VmDefinition vm;
  vm.uuid = "6fa3b2c4-0d1e-4f5a-8b9c-0123456789ab";
  vm.nics = {{}, {}, {NicType::kBridge, "br0", "52:54:00:12:34:56", {}}};
  EXPECT_EQ(EffectiveMac(vm, 0), EffectiveMac(vm, 0));
  EXPECT_NE(EffectiveMac(vm, 0), EffectiveMac(vm, 1));
  EXPECT_EQ(EffectiveMac(vm, 2), "52:54:00:12:34:56");
  EXPECT_TRUE(ParseMac(EffectiveMac(vm, 1)).ok());
  EXPECT_EQ(EffectiveMac(vm, 0).substr(0, 9), "52:54:00:");
}

}  // namespace
}  // namespace sealift::hypervisor
