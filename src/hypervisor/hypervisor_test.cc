#include "hypervisor/hypervisor.h"

#include <gtest/gtest.h>

namespace sealift::hypervisor {
namespace {

TEST(ForgetsWritesTest, OnlyEmulationBeforeQemu9Does) {
  EXPECT_TRUE(EmulationForgetsWrites("7.2.22"));
  EXPECT_TRUE(EmulationForgetsWrites("8.2.0"));
  EXPECT_FALSE(EmulationForgetsWrites("9.0.0"));
  EXPECT_FALSE(EmulationForgetsWrites("10.1.2"));
  EXPECT_FALSE(EmulationForgetsWrites(""));
  EXPECT_FALSE(EmulationForgetsWrites("unknown"));
}

TEST(ForgetsWritesTest, DependsOnWhatTheVmUsesOnItsHost) {
  HostCapabilities host;
  host.qemu_version = "7.2.22";
  VmDefinition vm;
  for (const Accelerator offered : {Accelerator::kKvm, Accelerator::kTcg}) {
    host.accelerator = offered;
    vm.accelerator = Accelerator::kAuto;
    EXPECT_EQ(ForgetsWrites(host, vm), offered == Accelerator::kTcg);
    vm.accelerator = Accelerator::kTcg;
    EXPECT_TRUE(ForgetsWrites(host, vm));
    vm.accelerator = Accelerator::kKvm;
    EXPECT_FALSE(ForgetsWrites(host, vm));
  }
}

}  // namespace
}  // namespace sealift::hypervisor
