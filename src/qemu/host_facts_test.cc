#include "qemu/host_facts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace sealift::qemu {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(HostFacts, ReadsCpuInfo) {
  const CpuFacts cpu = ParseCpuInfo(
      "processor\t: 0\nvendor_id\t: GenuineIntel\nmodel name\t: Xeon: fast\n"
      "flags\t\t: fpu vmx_x aes avx512fp svm\nvmx flags\t: vaes vmx\n\n"
      "processor\t: 1\nmodel name\t: other\nflags\t\t: vmx\n");
  EXPECT_EQ(cpu.model_name, "Xeon: fast");
  EXPECT_THAT(cpu.flags, ElementsAre("aes", "svm"));
  EXPECT_TRUE(cpu.Has("svm"));
  EXPECT_FALSE(cpu.Has("vmx"));
}

TEST(HostFacts, ToleratesMissingLines) {
  EXPECT_EQ(ParseCpuInfo("").model_name, "");
  EXPECT_THAT(ParseCpuInfo(":\nflags\nflags :").flags, IsEmpty());
  EXPECT_EQ(ParseMemInfo("MemTotal: many kB").total_bytes, 0U);
}

TEST(HostFacts, ReadsMemInfo) {
  const MemoryFacts memory =
      ParseMemInfo("MemTotal:       16000000 kB\nMemFree: 1 kB\nMemAvailable:    8000000 kB\n");
  EXPECT_EQ(memory.total_bytes, 16000000ULL << 10);
  EXPECT_EQ(memory.available_bytes, 8000000ULL << 10);
}

TEST(HostFacts, ReadsThisHost) {
  const MemoryFacts memory = ReadMemoryFacts();
  EXPECT_GT(memory.available_bytes, 0U);
  EXPECT_GE(memory.total_bytes, memory.available_bytes);
  EXPECT_NE(ReadCpuFacts().model_name, "");
  EXPECT_NE(KernelVersion().find('.'), std::string::npos);
  for (const std::string& feature : KernelFeatures()) {
    EXPECT_THAT(feature, ::testing::AnyOf("memfd_secret", "userfaultfd-wp-async", "pagemap-scan",
                                          "io_uring"));
  }
}

}  // namespace
}  // namespace sealift::qemu
