// What a virtual machine is, as its owner wrote it down in YAML.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "base/label.h"

namespace sealift::hypervisor {

// Limits of a definition: every device has a PCI slot of its own, the same on every host.
inline constexpr std::size_t kMaxDisks = 16;
inline constexpr std::size_t kMaxNics = 8;
inline constexpr unsigned kMaxCpus = 255;
inline constexpr std::size_t kMaxDefinitionBytes = std::size_t{64} * 1024;

// What a definition that does not say otherwise gets. Westmere is the newest named model that also
// TCG emulates in full (query-cpu-definitions of QEMU 7.2 names no unavailable feature), so such a
// VM can move between any two hosts.
inline constexpr std::string_view kDefaultMachine = "pc-q35-7.2";
inline constexpr std::string_view kDefaultCpuModel = "Westmere";

enum class Accelerator { kAuto, kKvm, kTcg };
enum class DiskFormat { kRaw, kQcow2 };
enum class NicType { kUser, kBridge };
enum class Engine { kAuto, kDirect, kStream };   // how a migration copies memory, as wanted
enum class MemoryBacking { kShared, kPrivate };  // a memory file, which `direct` needs, or not
enum class HugePages { kAuto, k2M, k1G, kOff };  // kAuto: transparent ones, as the host allows

struct Disk {
  std::string path;  // absolute; both hosts see the same file under it
  DiskFormat format = DiskFormat::kQcow2;
  bool read_only = false;
  bool operator==(const Disk&) const = default;
};

struct Nic {
  NicType type = NicType::kUser;
  std::string bridge;                 // kBridge: name of a bridge of the host
  std::string mac;                    // "52:54:00:…"; empty: EffectiveMac() makes one
  std::vector<std::string> forwards;  // kUser: QEMU's hostfwd rules, "tcp:127.0.0.1:2222-:22"
  bool operator==(const Nic&) const = default;
};

// VmDefinition is a value; every field is valid once ParseVmDefinition returned it.
struct VmDefinition {
  std::string name;  // [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most 63: it becomes a folder and a QEMU id
  std::string uuid;  // lower case; made by the controller at creation when left out
  unsigned cpus = 1;
  std::uint64_t memory_bytes = 0;  // a multiple of 1 MiB, and of the huge page size
  MemoryBacking backing = MemoryBacking::kShared;
  HugePages huge_pages = HugePages::kAuto;
  Engine engine = Engine::kAuto;
  std::string machine;    // versioned machine type, "pc-q35-7.2": an alias such as "q35" is refused
  std::string cpu_model;  // QEMU CPU model
  Accelerator accelerator = Accelerator::kAuto;
  std::vector<Disk> disks;
  std::vector<Nic> nics;
  std::string firmware;  // absolute path of a firmware image; empty: the machine type's own
  std::string kernel;    // direct kernel boot: absolute paths; empty: boot from disk
  std::string initrd;
  std::string append;
  std::string
      encryption;  // "disabled", "opportunistic", "required"; empty: the installation's default
  bool encrypted = false;  // an encrypted VM: it never crosses a network in the clear
  base::Labels labels;
  bool autostart = false;  // start again after the host was rebooted
  bool operator==(const VmDefinition&) const = default;
};

// EffectiveMac is the address of NIC number `position`: the one written down, else one made from
// the VM's uuid and the position, so that it is the same on every host.
[[nodiscard]] std::string EffectiveMac(const VmDefinition& definition, std::size_t position);

[[nodiscard]] std::string_view AcceleratorName(Accelerator accelerator);  // "auto", "kvm", "tcg"
[[nodiscard]] std::string_view DiskFormatName(DiskFormat format);         // "raw", "qcow2"
[[nodiscard]] std::string_view EngineName(Engine engine);            // "auto", "direct", "stream"
[[nodiscard]] std::string_view HugePagesName(HugePages huge_pages);  // "auto", "2M", "1G", "off"
// HugePageBytes is the size of the huge pages that memory is reserved from; 0 for kAuto and kOff.
[[nodiscard]] std::uint64_t HugePageBytes(HugePages huge_pages);

// FormatSize writes a size the way a definition does: "2GiB", or "1536MiB" when it is no whole
// number of GiB.
[[nodiscard]] std::string FormatSize(std::uint64_t bytes);

// ParseVmDefinition reads YAML. An error is INVALID_ARGUMENT and says line and key: "line 4:
// memory: '12 parsecs' is not a size such as 2GiB". Unknown keys are errors, with the nearest known
// key as a hint.
[[nodiscard]] absl::StatusOr<VmDefinition> ParseVmDefinition(std::string_view yaml);

// FormatVmDefinition writes YAML that ParseVmDefinition reads back to an equal value; defaults are
// written out, except those of keys that an agent of an earlier version does not know.
[[nodiscard]] std::string FormatVmDefinition(const VmDefinition& definition);

}  // namespace sealift::hypervisor
