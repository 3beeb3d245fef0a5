#include "qemu/disk_cache.h"

#include <fmt/format.h>

#include <map>

#include "base/status.h"
#include "qemu/qemu_command.h"

namespace sealift::qemu {
namespace {

using hypervisor::Disk;
using hypervisor::VmDefinition;
using nlohmann::json;

// One of QEMU's block nodes, as it is open now.
struct OpenNode {
  std::string driver;
  std::string file;
  bool bypasses = false;
};
using OpenNodes = std::map<std::string, OpenNode>;

OpenNodes ReadNodes(const json& reply) {
  OpenNodes nodes;
  for (const json& node : reply) {
    nodes[node.at("node-name").get<std::string>()] = {node.at("drv").get<std::string>(),
                                                      node.at("file").get<std::string>(),
                                                      node.at("cache").at("direct").get<bool>()};
  }
  return nodes;
}

absl::StatusOr<OpenNodes> QueryNodes(const QmpCall& qmp) {
  SEALIFT_ASSIGN_OR_RETURN(const json reply, qmp("query-named-block-nodes", {{"flat", true}}));
  try {
    return ReadNodes(reply);
  } catch (const json::exception& error) {
    return absl::InternalError(fmt::format(
        "QEMU's answer to query-named-block-nodes is not understood: {}", error.what()));
  }
}

bool IsHostFile(const OpenNode& node) {
  return node.driver == "file" || node.driver == "host_device";
}

absl::Status Reopen(const Disk& disk, std::size_t position, const OpenNode& file, HostCache cache,
                    const QmpCall& qmp) {
  const DiskBackend backend{
      file.driver == "host_device" ? DiskDriver::kHostDevice : DiskDriver::kFile, cache};
  const json node = DiskFileNode(disk, backend, DiskFileNodeName(position, HostCache::kBypassed));
  return qmp("blockdev-reopen", {{"options", json::array({node})}}).status();
}

// The files of the disks whose cache mode is `now`, of those that were started with O_DIRECT.
absl::StatusOr<std::map<std::size_t, OpenNode>> FilesThatAre(HostCache now,
                                                             const VmDefinition& definition,
                                                             const QmpCall& qmp) {
  std::map<std::size_t, OpenNode> files;
  if (definition.disks.empty()) return files;
  SEALIFT_ASSIGN_OR_RETURN(const OpenNodes nodes, QueryNodes(qmp));
  for (std::size_t i = 0; i < definition.disks.size(); ++i) {
    const auto file = nodes.find(DiskFileNodeName(i, HostCache::kBypassed));
    if (file == nodes.end()) continue;
    if (file->second.bypasses == (now == HostCache::kBypassed)) files.emplace(i, file->second);
  }
  return files;
}

// An image that QEMU has opened for another, or was told to open by an earlier version of us.
absl::Status CheckThatNoneBypasses(const QmpCall& qmp) {
  SEALIFT_ASSIGN_OR_RETURN(const OpenNodes nodes, QueryNodes(qmp));
  for (const auto& [name, node] : nodes) {
    if (!IsHostFile(node) || !node.bypasses) continue;
    return absl::FailedPreconditionError(fmt::format(
        "image {} is open past the host's page cache: take the stream engine, or shut the VM down "
        "and start it again",
        node.file));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status UsePageCache(const VmDefinition& definition, const QmpCall& qmp,
                          const BeforeReopening& forget) {
  SEALIFT_ASSIGN_OR_RETURN(const auto files, FilesThatAre(HostCache::kBypassed, definition, qmp));
  absl::Status status;
  for (auto at = files.begin(); status.ok() && at != files.end(); ++at) {
    const Disk& disk = definition.disks[at->first];
    status = forget(disk);
    if (status.ok()) status = Reopen(disk, at->first, at->second, HostCache::kUsed, qmp);
    status = base::Annotate(
        status, fmt::format("disk {} cannot go through the host's page cache", disk.path));
  }
  if (status.ok() && !definition.disks.empty()) status = CheckThatNoneBypasses(qmp);
  if (status.ok()) return status;
  const auto nothing_to_write = [](const Disk&) { return absl::OkStatus(); };
  status.Update(BypassPageCache(definition, qmp, nothing_to_write));
  return status;
}

absl::Status BypassPageCache(const VmDefinition& definition, const QmpCall& qmp,
                             const BeforeReopening& write_back) {
  SEALIFT_ASSIGN_OR_RETURN(const auto files, FilesThatAre(HostCache::kUsed, definition, qmp));
  absl::Status first;
  for (const auto& [position, file] : files) {
    const Disk& disk = definition.disks[position];
    absl::Status status = write_back(disk);
    if (status.ok()) status = Reopen(disk, position, file, HostCache::kBypassed, qmp);
    first.Update(
        base::Annotate(status, fmt::format("disk {} stays in the host's page cache", disk.path)));
  }
  return first;
}

}  // namespace sealift::qemu
