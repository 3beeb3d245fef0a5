// Fixtures of the agent's tests.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "agent/inventory.h"
#include "agent/migration_record.h"
#include "base/testing.h"
#include "hypervisor/fake_hypervisor.h"

namespace sealift::agent {

// A folder of its own, removed afterwards, and VMs without processes.
class AgentFixture : public testing::Test {
 protected:
  [[nodiscard]] static VmRecord Record(const std::string& name = "web1") {
    VmRecord record;
    record.definition = *hypervisor::ParseVmDefinition(
        "name: " + name + "\nmemory: 64MiB\nuuid: 8c1f1c1e-6a0b-4a3e-9f7e-0c6a3f4d5e6f\n");
    record.epoch = 3;
    record.mode = policy::EncryptionMode::kRequired;
    record.policy_version = 7;
    return record;
  }

  const base::TestFolder folder_;
};

}  // namespace sealift::agent
