#include "qemu/qemu_command.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/check.h"
#include "qemu/guest_memory.h"

namespace sealift::qemu {
namespace {

using hypervisor::Accelerator;
using hypervisor::Disk;
using hypervisor::MemoryBacking;
using hypervisor::Nic;
using hypervisor::NicType;
using hypervisor::StartMode;
using hypervisor::VmDefinition;
using nlohmann::json;
using Arguments = std::vector<std::string>;

// Every device sits in a slot of the root bus that depends on its kind and position only, so that a
// NIC more does not move the disks. Slots 0, 1 and 31 belong to the chipsets.
constexpr std::size_t kFirstNicSlot = 2;
constexpr std::size_t kFirstDiskSlot = kFirstNicSlot + hypervisor::kMaxNics;
static_assert(kFirstDiskSlot + hypervisor::kMaxDisks <= 31);

void Add(Arguments& to, const Arguments& more) { to.insert(to.end(), more.begin(), more.end()); }

// A comma inside a value of a QEMU option is written twice.
std::string Escape(const std::string& text) {
  std::string escaped;
  for (const char c : text) escaped.append(c == ',' ? 2 : 1, c);
  return escaped;
}

std::string RootBus(const VmDefinition& vm) {
  return vm.machine.starts_with("pc-q35") ? "pcie.0" : "pci.0";
}

std::string AcceleratorArgument(Accelerator accelerator) {
  return accelerator == Accelerator::kKvm ? "kvm" : "tcg,thread=multi";
}

// The one place that says what guest RAM is made of. The RAM of a memory file gets the name that
// QEMU gives to private RAM, in every version of a machine type, and addresses that fit huge pages.
Arguments MemoryArguments(const CommandInput& input) {
  const VmDefinition& vm = input.definition;
  const std::string size = fmt::format("{}M", vm.memory_bytes >> 20);
  if (vm.backing == MemoryBacking::kPrivate) return {"-m", size};
  SEALIFT_CHECK(input.memory_fd >= 0);
  const bool reserved = hypervisor::HugePageBytes(vm.huge_pages) != 0;
  return {"-m", size, "-object",
          fmt::format("memory-backend-file,id={},size={},mem-path=/proc/self/fd/{},share=on,{}"
                      "x-use-canonical-path-for-ramblock-id=off",
                      kGuestRam, size, input.memory_fd, reserved ? "" : "align=2M,")};
}

std::string MachineArgument(const VmDefinition& vm) {
  if (vm.backing == MemoryBacking::kPrivate) return vm.machine;
  return fmt::format("{},memory-backend={}", vm.machine, kGuestRam);
}

Arguments MachineArguments(const CommandInput& input) {
  const VmDefinition& vm = input.definition;
  Arguments arguments = {
      "-name",
      fmt::format("guest={},debug-threads=on", vm.name),
      "-uuid",
      vm.uuid,
      "-nodefaults",
      "-no-user-config",
      "-machine",
      MachineArgument(vm),
      "-accel",
      AcceleratorArgument(input.accelerator),
      // enforce: a CPU that lacks a feature of the model must not pretend to have it, or a
      // migration breaks the guest.
      "-cpu",
      fmt::format("{},enforce", vm.cpu_model),
      "-smp",
      fmt::format("{0},sockets=1,cores={0},threads=1", vm.cpus),
  };
  Add(arguments, MemoryArguments(input));
  return arguments;
}

Arguments BootArguments(const VmDefinition& vm) {
  Arguments arguments;
  if (!vm.firmware.empty()) Add(arguments, {"-bios", vm.firmware});
  if (!vm.kernel.empty()) Add(arguments, {"-kernel", vm.kernel});
  if (!vm.initrd.empty()) Add(arguments, {"-initrd", vm.initrd});
  if (!vm.append.empty()) Add(arguments, {"-append", vm.append});
  return arguments;
}

json Cache(HostCache cache) { return {{"direct", cache == HostCache::kBypassed}}; }

// A backing file inherits the cache mode of this node, not that of the file: it goes through the
// page cache always, for it could not be reopened while writes are tracked. Nobody writes it, so no
// host's cache of it is ever stale.
json BlockNode(const Disk& disk, const DiskBackend& backend, std::size_t position) {
  return {{"driver", std::string(hypervisor::DiskFormatName(disk.format))},
          {"node-name", fmt::format("disk{}", position)},
          {"read-only", disk.read_only},
          {"discard", "unmap"},
          {"cache", Cache(HostCache::kUsed)},
          {"file", DiskFileNode(disk, backend, DiskFileNodeName(position, backend.cache))}};
}

Arguments DiskArguments(const CommandInput& input) {
  const VmDefinition& vm = input.definition;
  SEALIFT_CHECK(input.disks.size() == vm.disks.size());
  Arguments arguments;
  for (std::size_t i = 0; i < vm.disks.size(); ++i) {
    Add(arguments,
        {"-blockdev", BlockNode(vm.disks[i], input.disks[i], i).dump(), "-device",
         fmt::format("virtio-blk-pci,id=blk{0},drive=disk{0},bus={1},addr={2:#x},bootindex={3},"
                     "write-cache=on",
                     i, RootBus(vm), kFirstDiskSlot + i, i + 1)});
  }
  return arguments;
}

std::string Netdev(const Nic& nic, int tap_fd, std::size_t position) {
  if (nic.type == NicType::kBridge) return fmt::format("tap,id=net{},fd={}", position, tap_fd);
  std::string netdev = fmt::format("user,id=net{}", position);
  for (const std::string& rule : nic.forwards) netdev += fmt::format(",hostfwd={}", rule);
  return netdev;
}

Arguments NicArguments(const CommandInput& input) {
  const VmDefinition& vm = input.definition;
  SEALIFT_CHECK(input.tap_fds.size() == vm.nics.size());
  Arguments arguments;
  for (std::size_t i = 0; i < vm.nics.size(); ++i) {
    // No boot ROM: its size is part of the migrated state and differs between packages of QEMU.
    Add(arguments,
        {"-netdev", Netdev(vm.nics[i], input.tap_fds[i], i), "-device",
         fmt::format("virtio-net-pci,id=nic{0},netdev=net{0},mac={1},bus={2},addr={3:#x},romfile=",
                     i, hypervisor::EffectiveMac(vm, i), RootBus(vm), kFirstNicSlot + i)});
  }
  return arguments;
}

// Console, QMP, and a panic device, through which a guest kernel reports its own death. What QEMU
// does then is its default
// (-action panic=shutdown): the process ends and the VM counts as crashed.
Arguments ControlArguments(const CommandInput& input) {
  return {"-display",
          "none",
          "-chardev",
          fmt::format("socket,id=qmp,fd={},server=on,wait=off", input.qmp_fd),
          "-mon",
          "chardev=qmp,mode=control",
          "-chardev",
          fmt::format("socket,id=console,fd={},server=on,wait=off,logfile={},logappend=on",
                      input.console_fd, Escape(input.console_log)),
          "-device",
          "isa-serial,id=serial0,chardev=console",
          "-device",
          "pvpanic,id=panic0"};
}

}  // namespace

std::string DiskFileNodeName(std::size_t position, HostCache started_with) {
  return fmt::format("disk{}-{}", position,
                     started_with == HostCache::kBypassed ? "direct" : "cached");
}

json DiskFileNode(const Disk& disk, const DiskBackend& backend, const std::string& node_name) {
  return {{"driver", backend.driver == DiskDriver::kFile ? "file" : "host_device"},
          {"node-name", node_name},
          {"filename", disk.path},
          {"read-only", disk.read_only},
          {"aio", "threads"},
          {"discard", "unmap"},
          {"cache", Cache(backend.cache)}};
}

std::vector<std::string> SandboxArguments() {
  return {"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"};
}

std::vector<std::string> QemuArguments(const CommandInput& input) {
  Arguments arguments = MachineArguments(input);
  Add(arguments, BootArguments(input.definition));
  Add(arguments, ControlArguments(input));
  Add(arguments, DiskArguments(input));
  Add(arguments, NicArguments(input));
  Add(arguments, SandboxArguments());
  Add(arguments, {"-msg", "timestamp=on", "-S"});
  if (input.mode == StartMode::kIncoming) Add(arguments, {"-incoming", "defer"});
  return arguments;
}

}  // namespace sealift::qemu
