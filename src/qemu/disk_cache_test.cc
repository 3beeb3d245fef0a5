#include "qemu/disk_cache.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <vector>

#include "base/status.h"

namespace sealift::qemu {
namespace {

using hypervisor::Disk;
using hypervisor::DiskFormat;
using hypervisor::VmDefinition;
using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// QEMU's block nodes, as far as cache modes go.
class FakeQemu {
 public:
  struct Node {
    std::string driver;
    bool direct = false;
  };
  std::map<std::string, Node> nodes;
  std::vector<json> reopened;  // the options of each blockdev-reopen
  std::string refuses;         // node that cannot be reopened

  QmpCall Call() {
    return [this](std::string_view command, const json& arguments) -> absl::StatusOr<json> {
      if (command == "query-named-block-nodes") return Query();
      EXPECT_EQ(command, "blockdev-reopen");
      return Reopen(arguments.at("options").at(0));
    };
  }

 private:
  json Query() const {
    json reply = json::array();
    for (const auto& [name, node] : nodes) {
      reply.push_back({{"node-name", name},
                       {"drv", node.driver},
                       {"file", "/image-of-" + name},
                       {"cache", {{"direct", node.direct}}}});
    }
    return reply;
  }
  absl::StatusOr<json> Reopen(const json& options) {
    const std::string name = options.at("node-name");
    if (name == refuses) return absl::InternalError("no way");
    reopened.push_back(options);
    nodes.at(name).direct = options.at("cache").at("direct");
    return json::object();
  }
};

VmDefinition WithDisks() {
  VmDefinition vm;
  vm.disks = {{"/a", DiskFormat::kQcow2, false},
              {"/tmpfs", DiskFormat::kRaw, false},
              {"/dev/b", DiskFormat::kRaw, true}};
  return vm;
}

FakeQemu Qemu() {
  FakeQemu qemu;
  qemu.nodes = {{"disk0", {"qcow2", false}}, {"disk0-direct", {"file", true}},
                {"disk1", {"raw", false}},   {"disk1-cached", {"file", false}},
                {"disk2", {"raw", false}},   {"disk2-direct", {"host_device", true}},
                {"#block9", {"file", false}}};
  return qemu;
}

absl::Status Nothing(const Disk& /*disk*/) { return absl::OkStatus(); }

TEST(DiskCache, ReopensWhatBypassesThePageCacheAndGivesItBack) {
  FakeQemu qemu = Qemu();
  std::vector<std::string> forgotten;
  const auto forget = [&](const Disk& disk) {
    forgotten.push_back(disk.path);
    return absl::OkStatus();
  };
  ASSERT_TRUE(UsePageCache(WithDisks(), qemu.Call(), forget).ok());
  EXPECT_THAT(forgotten, ElementsAre("/a", "/dev/b"));
  ASSERT_EQ(qemu.reopened.size(), 2U);
  // Everything is named: QEMU resets what is not.
  EXPECT_EQ(qemu.reopened[1], json::parse(R"({"driver": "host_device", "node-name": "disk2-direct",
      "filename": "/dev/b", "read-only": true, "aio": "threads", "discard": "unmap",
      "cache": {"direct": false}})"));
  ASSERT_TRUE(BypassPageCache(WithDisks(), qemu.Call(), Nothing).ok());
  EXPECT_EQ(qemu.reopened.size(), 4U);
  EXPECT_TRUE(qemu.nodes["disk0-direct"].direct);
  EXPECT_FALSE(qemu.nodes["disk1-cached"].direct);
  EXPECT_TRUE(qemu.nodes["disk2-direct"].direct);
  ASSERT_TRUE(BypassPageCache(WithDisks(), qemu.Call(), Nothing).ok());
  EXPECT_EQ(qemu.reopened.size(), 4U);
}

TEST(DiskCache, UndoesAllWhenOneDiskCannotBeReopened) {
  FakeQemu qemu = Qemu();
  qemu.refuses = "disk2-direct";
  const absl::Status status = UsePageCache(WithDisks(), qemu.Call(), Nothing);
  EXPECT_THAT(base::MessageOf(status),
              HasSubstr("disk /dev/b cannot go through the host's page cache: no way"));
  EXPECT_TRUE(qemu.nodes["disk0-direct"].direct);
}

TEST(DiskCache, ReopensNothingWhoseStaleCacheItCannotDrop) {
  FakeQemu qemu = Qemu();
  EXPECT_FALSE(UsePageCache(WithDisks(), qemu.Call(), [](const Disk&) {
                 return absl::InternalError("bad disk");
               }).ok());
  EXPECT_THAT(qemu.reopened, IsEmpty());
}

TEST(DiskCache, GivesBackWhatItCanAndReportsTheRest) {
  FakeQemu qemu = Qemu();
  qemu.nodes["disk0-direct"].direct = false;
  qemu.nodes["disk2-direct"].direct = false;
  qemu.refuses = "disk0-direct";
  EXPECT_THAT(base::MessageOf(BypassPageCache(WithDisks(), qemu.Call(), Nothing)),
              HasSubstr("disk /a stays in the host's page cache"));
  EXPECT_TRUE(qemu.nodes["disk2-direct"].direct);
}

TEST(DiskCache, RefusesAnImageThatItCannotReopen) {
  FakeQemu qemu = Qemu();
  qemu.nodes["#block9"].direct = true;
  const absl::Status status = UsePageCache(WithDisks(), qemu.Call(), Nothing);
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(base::MessageOf(status), HasSubstr("image /image-of-#block9 is open past"));
  EXPECT_TRUE(qemu.nodes["disk0-direct"].direct);
}

TEST(DiskCache, WritesBackOnlyWhatItReopens) {
  FakeQemu qemu = Qemu();
  qemu.nodes["disk2-direct"].direct = false;
  std::vector<std::string> written;
  const auto write_back = [&](const Disk& disk) {
    written.push_back(disk.path);
    return disk.path == "/a" ? absl::OkStatus() : absl::DataLossError("bad sector");
  };
  EXPECT_THAT(base::MessageOf(BypassPageCache(WithDisks(), qemu.Call(), write_back)),
              HasSubstr("disk /dev/b stays in the host's page cache: bad sector"));
  EXPECT_THAT(written, ElementsAre("/dev/b"));
  EXPECT_FALSE(qemu.nodes["disk2-direct"].direct);
}

// A QEMU that an earlier version started gives its file nodes other names, or none.
TEST(DiskCache, LeavesAloneWhatItDoesNotKnow) {
  FakeQemu qemu;
  qemu.nodes = {{"disk0", {"qcow2", true}}, {"#block123", {"file", true}}};
  EXPECT_TRUE(BypassPageCache(WithDisks(), qemu.Call(), Nothing).ok());
  EXPECT_THAT(qemu.reopened, IsEmpty());
  EXPECT_FALSE(UsePageCache(WithDisks(), qemu.Call(), Nothing).ok());
  const QmpCall strange = [](std::string_view, const json&) -> absl::StatusOr<json> {
    return json::parse(R"([{"node-name": 7}])");
  };
  EXPECT_FALSE(BypassPageCache(WithDisks(), strange, Nothing).ok());
}

}  // namespace
}  // namespace sealift::qemu
