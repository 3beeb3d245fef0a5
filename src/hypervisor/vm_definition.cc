#include "hypervisor/vm_definition.h"

#include <fmt/format.h>

#include <charconv>
#include <set>

#include "base/status.h"
#include "base/utf8.h"
#include "hypervisor/definition_syntax.h"
#include "hypervisor/yaml_reader.h"

namespace sealift::hypervisor {
namespace {

constexpr std::uint64_t kMebibyte = 1ULL << 20;
constexpr std::uint64_t kGibibyte = 1ULL << 30;

absl::Status ReadPath(const Value& value, std::string& out) {
  return ReadText(value, CheckPath, out);
}

absl::Status ReadDiskFormat(const Value& value, Disk& disk) {
  static constexpr Choice<DiskFormat> kFormats[] = {{"raw", DiskFormat::kRaw},
                                                    {"qcow2", DiskFormat::kQcow2}};
  return ReadChoice<DiskFormat>(value, kFormats, disk.format);
}

absl::Status ReadDisk(const Value& value, Disk& disk) {
  static constexpr Key<Disk> kKeys[] = {
      {"path", Presence::kRequired, [](const Value& v, Disk& d) { return ReadPath(v, d.path); }},
      {"format", Presence::kOptional, ReadDiskFormat},
      {"read_only", Presence::kOptional,
       [](const Value& v, Disk& d) { return ReadBool(v, d.read_only); }},
  };
  return ReadMap<Disk>(value, kKeys, disk);
}

absl::Status ReadUser(const Value& value, Nic& /*nic*/) {
  bool user = false;
  SEALIFT_RETURN_IF_ERROR(ReadBool(value, user));
  return user ? absl::OkStatus() : Fail(value, "can only be true; for a bridge leave it out");
}

absl::Status ReadForwards(const Value& value, Nic& nic) {
  constexpr std::size_t kMaxForwards = 64;
  return ReadList<std::string>(
      value, kMaxForwards,
      [](const Value& v, std::string& rule) { return ReadText(v, CheckForward, rule); },
      nic.forwards);
}

absl::Status ReadNic(const Value& value, Nic& nic) {
  static constexpr Key<Nic> kKeys[] = {
      {"user", Presence::kOptional, ReadUser},
      {"bridge", Presence::kOptional,
       [](const Value& v, Nic& n) { return ReadText(v, CheckBridge, n.bridge); }},
      {"mac", Presence::kOptional,
       [](const Value& v, Nic& n) { return ReadParsed<std::string>(v, ParseMac, n.mac); }},
      {"forwards", Presence::kOptional, ReadForwards},
  };
  SEALIFT_RETURN_IF_ERROR(ReadMap<Nic>(value, kKeys, nic));
  const bool user = value.node["user"].IsDefined();
  const bool bridge = !nic.bridge.empty();
  if (user == bridge) return Fail(value, "needs either 'bridge: NAME' or 'user: true'");
  if (bridge && !nic.forwards.empty()) return Fail(value, "forwards belong to 'user: true' only");
  nic.type = bridge ? NicType::kBridge : NicType::kUser;
  return absl::OkStatus();
}

absl::Status ReadCpus(const Value& value, VmDefinition& vm) {
  SEALIFT_ASSIGN_OR_RETURN(const std::string text, Scalar(value));
  const char* last = text.data() + text.size();
  const auto [end, error] = std::from_chars(text.data(), last, vm.cpus);
  if (error != std::errc() || end != last || vm.cpus < 1 || vm.cpus > kMaxCpus) {
    return Fail(value, fmt::format("'{}' is not a number from 1 to {}", text, kMaxCpus));
  }
  return absl::OkStatus();
}

absl::Status ReadMemorySize(const Value& value, VmDefinition& vm) {
  SEALIFT_RETURN_IF_ERROR(ReadParsed<std::uint64_t>(value, ParseSize, vm.memory_bytes));
  if (vm.memory_bytes % kMebibyte != 0) return Fail(value, "is not a multiple of 1MiB");
  return absl::OkStatus();
}

absl::Status ReadBacking(const Value& value, VmDefinition& vm) {
  static constexpr Choice<MemoryBacking> kBackings[] = {{"shared", MemoryBacking::kShared},
                                                        {"private", MemoryBacking::kPrivate}};
  return ReadChoice<MemoryBacking>(value, kBackings, vm.backing);
}

absl::Status ReadHugePages(const Value& value, VmDefinition& vm) {
  static constexpr Choice<HugePages> kHugePages[] = {{"auto", HugePages::kAuto},
                                                     {"2M", HugePages::k2M},
                                                     {"1G", HugePages::k1G},
                                                     {"off", HugePages::kOff}};
  return ReadChoice<HugePages>(value, kHugePages, vm.huge_pages);
}

absl::Status CheckHugePageSize(const Value& memory, const VmDefinition& vm) {
  const std::uint64_t page = HugePageBytes(vm.huge_pages);
  if (page == 0) return absl::OkStatus();
  if (vm.backing == MemoryBacking::kPrivate) {
    return Fail(memory,
                fmt::format("hugepages: {} needs 'backing: shared'", HugePagesName(vm.huge_pages)));
  }
  if (vm.memory_bytes % page != 0) {
    return Fail(memory, fmt::format("{} is not a multiple of {}, as hugepages: {} needs",
                                    FormatSize(vm.memory_bytes), FormatSize(page),
                                    HugePagesName(vm.huge_pages)));
  }
  return absl::OkStatus();
}

// Either a size alone or a map that says more.
absl::Status ReadMemory(const Value& value, VmDefinition& vm) {
  static constexpr Key<VmDefinition> kKeys[] = {
      {"size", Presence::kRequired, ReadMemorySize},
      {"backing", Presence::kOptional, ReadBacking},
      {"hugepages", Presence::kOptional, ReadHugePages},
  };
  if (!value.node.IsMap()) return ReadMemorySize(value, vm);
  SEALIFT_RETURN_IF_ERROR(ReadMap<VmDefinition>(value, kKeys, vm));
  return CheckHugePageSize(value, vm);
}

absl::Status ReadEngine(const Value& value, VmDefinition& vm) {
  static constexpr Choice<Engine> kEngines[] = {
      {"auto", Engine::kAuto}, {"direct", Engine::kDirect}, {"stream", Engine::kStream}};
  return ReadChoice<Engine>(value, kEngines, vm.engine);
}

absl::Status ReadAccelerator(const Value& value, VmDefinition& vm) {
  static constexpr Choice<Accelerator> kAccelerators[] = {
      {"auto", Accelerator::kAuto}, {"kvm", Accelerator::kKvm}, {"tcg", Accelerator::kTcg}};
  return ReadChoice<Accelerator>(value, kAccelerators, vm.accelerator);
}

absl::Status ReadEncryption(const Value& value, VmDefinition& vm) {
  static constexpr Choice<std::string_view> kModes[] = {
      {"disabled", "disabled"}, {"opportunistic", "opportunistic"}, {"required", "required"}};
  std::string_view mode;
  SEALIFT_RETURN_IF_ERROR(ReadChoice<std::string_view>(value, kModes, mode));
  vm.encryption = mode;
  return absl::OkStatus();
}

absl::Status ReadLabels(const Value& value, VmDefinition& vm) {
  if (!value.node.IsMap()) return Fail(value, "must be a list of 'key: value' lines");
  if (value.node.size() > base::kMaxLabels) {
    return Fail(value, fmt::format("has {} labels, at most {} are possible", value.node.size(),
                                   base::kMaxLabels));
  }
  for (const auto& pair : value.node) {
    const int line = LineOf(pair.first);
    SEALIFT_ASSIGN_OR_RETURN(const std::string key, Scalar({pair.first, value.path, line}));
    const Value label{pair.second, fmt::format("{}.{}", value.path, key), line};
    SEALIFT_ASSIGN_OR_RETURN(const std::string text, Scalar(label));
    const absl::Status status = base::CheckLabel(key, text);
    if (!status.ok()) return FailWith(label, status);
    if (!vm.labels.emplace(key, text).second) {
      return Fail(label, fmt::format("the label '{}' is there twice", key));
    }
  }
  return absl::OkStatus();
}

constexpr Key<VmDefinition> kVmKeys[] = {
    {"name", Presence::kRequired,
     [](const Value& v, VmDefinition& d) { return ReadText(v, CheckName, d.name); }},
    {"uuid", Presence::kOptional,
     [](const Value& v, VmDefinition& d) { return ReadParsed<std::string>(v, ParseUuid, d.uuid); }},
    {"cpus", Presence::kOptional, ReadCpus},
    {"memory", Presence::kRequired, ReadMemory},
    {"engine", Presence::kOptional, ReadEngine},
    {"machine", Presence::kOptional,
     [](const Value& v, VmDefinition& d) { return ReadText(v, CheckMachine, d.machine); }},
    {"cpu_model", Presence::kOptional,
     [](const Value& v, VmDefinition& d) { return ReadText(v, CheckCpuModel, d.cpu_model); }},
    {"accel", Presence::kOptional, ReadAccelerator},
    {"disks", Presence::kOptional,
     [](const Value& v, VmDefinition& d) { return ReadList(v, kMaxDisks, ReadDisk, d.disks); }},
    {"nics", Presence::kOptional,
     [](const Value& v, VmDefinition& d) { return ReadList(v, kMaxNics, ReadNic, d.nics); }},
    {"firmware", Presence::kOptional,
     [](const Value& v, VmDefinition& d) { return ReadPath(v, d.firmware); }},
    {"kernel", Presence::kOptional,
     [](const Value& v, VmDefinition& d) { return ReadPath(v, d.kernel); }},
    {"initrd", Presence::kOptional,
     [](const Value& v, VmDefinition& d) { return ReadPath(v, d.initrd); }},
    {"append", Presence::kOptional,
     [](const Value& v, VmDefinition& d) { return ReadText(v, CheckAppend, d.append); }},
    {"encryption", Presence::kOptional, ReadEncryption},
    {"encrypted", Presence::kOptional,
     [](const Value& v, VmDefinition& d) { return ReadBool(v, d.encrypted); }},
    {"labels", Presence::kOptional, ReadLabels},
    {"autostart", Presence::kOptional,
     [](const Value& v, VmDefinition& d) { return ReadBool(v, d.autostart); }},
};

absl::Status CheckTogether(const Value& root, const VmDefinition& vm) {
  if (vm.kernel.empty() && !vm.initrd.empty()) return Fail(root, "initrd needs kernel");
  if (vm.kernel.empty() && !vm.append.empty()) return Fail(root, "append needs kernel");
  if (vm.encrypted && !vm.encryption.empty() && vm.encryption != "required") {
    return Fail(root, fmt::format("encryption: '{}' is not possible for an encrypted VM: leave it "
                                  "out, it is required",
                                  vm.encryption));
  }
  if (vm.engine == Engine::kDirect && vm.backing == MemoryBacking::kPrivate) {
    return Fail(root, "engine: direct needs memory with 'backing: shared'");
  }
  std::set<std::string> paths;
  for (const Disk& disk : vm.disks) {
    if (!paths.insert(disk.path).second) {
      return Fail(root, fmt::format("disks: {} is there twice", disk.path));
    }
  }
  std::set<std::string> macs;
  for (const Nic& nic : vm.nics) {
    if (!nic.mac.empty() && !macs.insert(nic.mac).second) {
      return Fail(root, fmt::format("nics: the MAC address {} is there twice", nic.mac));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<VmDefinition> ReadDefinition(const std::string& yaml) {
  SEALIFT_ASSIGN_OR_RETURN(const YAML::Node document, LoadYaml(yaml));
  VmDefinition vm;
  vm.machine = kDefaultMachine;
  vm.cpu_model = kDefaultCpuModel;
  const Value root{document, "", LineOf(document)};
  SEALIFT_RETURN_IF_ERROR(ReadMap<VmDefinition>(root, kVmKeys, vm));
  SEALIFT_RETURN_IF_ERROR(CheckTogether(root, vm));
  return vm;
}

// FNV-1a, because the address must be the same in every process and on every host.
std::uint64_t StableHash(std::string_view text) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  return hash;
}

void EmitText(YAML::Emitter& out, const char* key, const std::string& text) {
  if (text.empty()) return;
  out << YAML::Key << key << YAML::Value << YAML::DoubleQuoted << text;
}

void EmitMemory(YAML::Emitter& out, const VmDefinition& vm) {
  const std::string size = FormatSize(vm.memory_bytes);
  out << YAML::Key << "memory" << YAML::Value;
  if (vm.backing == MemoryBacking::kShared && vm.huge_pages == HugePages::kAuto) {
    out << size;
    return;
  }
  out << YAML::BeginMap << YAML::Key << "size" << YAML::Value << size;
  out << YAML::Key << "backing" << YAML::Value
      << (vm.backing == MemoryBacking::kShared ? "shared" : "private");
  out << YAML::Key << "hugepages" << YAML::Value << std::string(HugePagesName(vm.huge_pages))
      << YAML::EndMap;
}

void EmitDisks(YAML::Emitter& out, const std::vector<Disk>& disks) {
  if (disks.empty()) return;
  out << YAML::Key << "disks" << YAML::Value << YAML::BeginSeq;
  for (const Disk& disk : disks) {
    out << YAML::BeginMap;
    EmitText(out, "path", disk.path);
    out << YAML::Key << "format" << YAML::Value << std::string(DiskFormatName(disk.format));
    out << YAML::Key << "read_only" << YAML::Value << disk.read_only << YAML::EndMap;
  }
  out << YAML::EndSeq;
}

void EmitNics(YAML::Emitter& out, const std::vector<Nic>& nics) {
  if (nics.empty()) return;
  out << YAML::Key << "nics" << YAML::Value << YAML::BeginSeq;
  for (const Nic& nic : nics) {
    out << YAML::BeginMap;
    if (nic.type == NicType::kUser) out << YAML::Key << "user" << YAML::Value << true;
    EmitText(out, "bridge", nic.bridge);
    EmitText(out, "mac", nic.mac);
    if (!nic.forwards.empty()) out << YAML::Key << "forwards" << YAML::Value << nic.forwards;
    out << YAML::EndMap;
  }
  out << YAML::EndSeq;
}

void EmitLabels(YAML::Emitter& out, const base::Labels& labels) {
  if (labels.empty()) return;
  out << YAML::Key << "labels" << YAML::Value << YAML::BeginMap;
  for (const auto& [key, value] : labels) {
    out << YAML::Key << YAML::DoubleQuoted << key << YAML::Value << YAML::DoubleQuoted << value;
  }
  out << YAML::EndMap;
}

}  // namespace

absl::StatusOr<VmDefinition> ParseVmDefinition(std::string_view yaml) {
  if (yaml.size() > kMaxDefinitionBytes) {
    return absl::InvalidArgumentError(fmt::format("a VM definition of {} bytes is larger than {}",
                                                  yaml.size(), kMaxDefinitionBytes));
  }
  if (!base::IsUtf8(yaml)) return absl::InvalidArgumentError("a VM definition must be UTF-8 text");
  try {
    return ReadDefinition(std::string(yaml));
  } catch (const YAML::Exception& error) {
    return absl::InvalidArgumentError(
        fmt::format("line {}: not valid YAML: {}", error.mark.line + 1, error.msg));
  }
}

std::string FormatVmDefinition(const VmDefinition& definition) {
  YAML::Emitter out;
  out << YAML::BeginMap;
  EmitText(out, "name", definition.name);
  EmitText(out, "uuid", definition.uuid);
  out << YAML::Key << "cpus" << YAML::Value << definition.cpus;
  EmitMemory(out, definition);
  if (definition.engine != Engine::kAuto) {
    out << YAML::Key << "engine" << YAML::Value << std::string(EngineName(definition.engine));
  }
  EmitText(out, "machine", definition.machine);
  EmitText(out, "cpu_model", definition.cpu_model);
  out << YAML::Key << "accel" << YAML::Value
      << std::string(AcceleratorName(definition.accelerator));
  EmitDisks(out, definition.disks);
  EmitNics(out, definition.nics);
  EmitText(out, "firmware", definition.firmware);
  EmitText(out, "kernel", definition.kernel);
  EmitText(out, "initrd", definition.initrd);
  EmitText(out, "append", definition.append);
  EmitText(out, "encryption", definition.encryption);
  if (definition.encrypted) out << YAML::Key << "encrypted" << YAML::Value << true;
  EmitLabels(out, definition.labels);
  out << YAML::Key << "autostart" << YAML::Value << definition.autostart << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

std::string EffectiveMac(const VmDefinition& definition, std::size_t position) {
  const std::string& written = definition.nics.at(position).mac;
  if (!written.empty()) return written;
  const std::uint64_t hash = StableHash(fmt::format("{}/{}", definition.uuid, position));
  return fmt::format("52:54:00:{:02x}:{:02x}:{:02x}", (hash >> 16) & 0xff, (hash >> 8) & 0xff,
                     hash & 0xff);
}

std::string_view AcceleratorName(Accelerator accelerator) {
  switch (accelerator) {
    case Accelerator::kAuto:
      return "auto";
    case Accelerator::kKvm:
      return "kvm";
    case Accelerator::kTcg:
      return "tcg";
  }
  return "unknown";
}

std::string_view DiskFormatName(DiskFormat format) {
  return format == DiskFormat::kRaw ? "raw" : "qcow2";
}

std::string_view EngineName(Engine engine) {
  switch (engine) {
    case Engine::kAuto:
      return "auto";
    case Engine::kDirect:
      return "direct";
    case Engine::kStream:
      return "stream";
  }
  return "unknown";
}

std::string_view HugePagesName(HugePages huge_pages) {
  switch (huge_pages) {
    case HugePages::kAuto:
      return "auto";
    case HugePages::k2M:
      return "2M";
    case HugePages::k1G:
      return "1G";
    case HugePages::kOff:
      return "off";
  }
  return "unknown";
}

std::uint64_t HugePageBytes(HugePages huge_pages) {
  if (huge_pages == HugePages::k2M) return 2 * kMebibyte;
  if (huge_pages == HugePages::k1G) return kGibibyte;
  return 0;
}

std::string FormatSize(std::uint64_t bytes) {
  return bytes % kGibibyte == 0 ? fmt::format("{}GiB", bytes / kGibibyte)
                                : fmt::format("{}MiB", bytes / kMebibyte);
}

}  // namespace sealift::hypervisor
