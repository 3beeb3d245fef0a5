#include "qemu/probe.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>

#include "base/status.h"
#include "base/testing.h"

namespace sealift::qemu {
namespace {

using hypervisor::Accelerator;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

ProbeOptions Options() {
  return {"/usr/bin/qemu-system-x86_64", *base::LookUpUser(base::TestUser())};
}

CpuFacts CpuWith(const std::string& flag) { return {"x", {flag}}; }

bool HasFeature(const hypervisor::HostCapabilities& host, const std::string& feature) {
  return std::ranges::find(host.kernel_features, feature) != host.kernel_features.end();
}

TEST(Probe, DescribesThisHost) {
  const auto start = std::chrono::steady_clock::now();
  const absl::StatusOr<hypervisor::HostCapabilities> host = ProbeHost(Options());
  const auto took = std::chrono::steady_clock::now() - start;
  ASSERT_TRUE(host.ok()) << host.status();
  EXPECT_THAT(host->qemu_version, HasSubstr("."));
  EXPECT_THAT(host->machine_types, Contains(std::string(hypervisor::kDefaultMachine)));
  EXPECT_THAT(host->machine_types, Not(Contains("q35")));
  EXPECT_THAT(host->usable_cpu_models, Contains(std::string(hypervisor::kDefaultCpuModel)));
  EXPECT_THAT(host->usable_cpu_models, Contains("max"));
  EXPECT_THAT(host->accelerator_reason, Not(IsEmpty()));
  EXPECT_EQ(host->host_cpu_digest.size(), 16U);
  EXPECT_GE(host->cpus, 1U);
  EXPECT_EQ(host->direct_reason.empty(), host->qemu_version.starts_with("7.2.") &&
                                             HasFeature(*host, "userfaultfd-wp-async") &&
                                             HasFeature(*host, "pagemap-scan"))
      << host->direct_reason;
  EXPECT_LT(took, seconds(20));  // generous: sanitizers and a busy machine
  EXPECT_EQ(ProbeHost(Options())->host_cpu_digest, host->host_cpu_digest);
}

TEST(Probe, AGuestThatExecutesAnInstructionIsSeen) {
  const absl::Status status =
      RunProbeGuest(Options(), Accelerator::kTcg, ProbeFirmware(), seconds(20));
  EXPECT_TRUE(status.ok()) << status;
}

TEST(Probe, AGuestThatHangsIsKilledInTime) {
  std::string firmware = ProbeFirmware();
  firmware.replace(firmware.size() - 16, 2, "\xeb\xfe");  // jmp to itself
  EXPECT_EQ(RunProbeGuest(Options(), Accelerator::kTcg, firmware, milliseconds(500)),
            absl::DeadlineExceededError("a test guest executes no instruction"));
}

TEST(Probe, AnEndOfAnotherKindDoesNotCount) {
  EXPECT_THAT(
      base::MessageOf(RunProbeGuest(Options(), Accelerator::kTcg, "too short", seconds(20))),
      HasSubstr("a test guest ended with code 1"));
}

TEST(Probe, WantsHardwareSupportForKvm) {
  const AcceleratorChoice choice = ChooseAccelerator(Options(), CpuWith("aes"), "/dev/kvm");
  EXPECT_EQ(choice.accelerator, Accelerator::kTcg);
  EXPECT_EQ(choice.reason, "the CPU has neither vmx nor svm");
}

TEST(Probe, WantsToOpenTheKvmDevice) {
  const AcceleratorChoice choice =
      ChooseAccelerator(Options(), CpuWith("vmx"), "/dev/sealift-none");
  EXPECT_EQ(choice.accelerator, Accelerator::kTcg);
  EXPECT_THAT(choice.reason, HasSubstr("KVM device /dev/sealift-none does not exist"));
}

TEST(Probe, ReportsAQemuThatCannotRun) {
  EXPECT_THAT(
      base::MessageOf(ProbeHost({"/bin/false", *base::LookUpUser(base::TestUser())}).status()),
      HasSubstr("ask /bin/false what it can run"));
}

TEST(Probe, DigestsDependOnEveryPart) {
  EXPECT_EQ(CpuModelDigest("tcg", "{}"), CpuModelDigest("tcg", "{}"));
  EXPECT_NE(CpuModelDigest("tcg", "{}"), CpuModelDigest("kvm", "{}"));
  EXPECT_NE(CpuModelDigest("tcg", "{}"), CpuModelDigest("tcg", "{\"aes\":true}"));
}

}  // namespace
}  // namespace sealift::qemu
