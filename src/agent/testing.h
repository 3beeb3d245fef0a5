// Fixtures of the agent's tests.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "agent/inventory.h"
#include "agent/migration_record.h"
#include "hypervisor/fake_hypervisor.h"

namespace sealift::agent {

// A folder of its own, removed afterwards, and VMs without processes.
class AgentFixture : public testing::Test {
 protected:
  void SetUp() override {
    std::string name = std::filesystem::temp_directory_path() / "sealift-agent-XXXXXX";
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] static VmRecord Record(const std::string& name = "web1") {
    VmRecord record;
    record.definition = *hypervisor::ParseVmDefinition(
        "name: " + name + "\nmemory: 64MiB\nuuid: 8c1f1c1e-6a0b-4a3e-9f7e-0c6a3f4d5e6f\n");
    record.epoch = 3;
    record.mode = policy::EncryptionMode::kRequired;
    record.policy_version = 7;
    return record;
  }

  std::string folder_;
};

}  // namespace sealift::agent
