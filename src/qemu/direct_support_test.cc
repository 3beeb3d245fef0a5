#include "qemu/direct_support.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sealift::qemu {
namespace {

using ::testing::HasSubstr;

DirectFacts Good() {
  return {"6.12.1", {"memfd_secret", "userfaultfd-wp-async", "pagemap-scan"}, "7.2.22", true};
}

TEST(DirectSupport, NeedsKernelAndQemu) {
  EXPECT_EQ(DirectReason(Good()), "");
  DirectFacts facts = Good();
  facts.kernel_version = "6.1.0-44";
  facts.kernel_features = {"userfaultfd-wp-async"};
  EXPECT_EQ(DirectReason(facts), "Linux 6.1.0-44 has no PAGEMAP_SCAN, which comes with 6.7");
  facts.kernel_features = {"pagemap-scan"};
  EXPECT_THAT(DirectReason(facts), HasSubstr("no userfaultfd with async write-protection"));
  facts = Good();
  facts.ignore_shared = false;
  EXPECT_EQ(DirectReason(facts), "QEMU 7.2.22 has no migration capability x-ignore-shared");
}

TEST(DirectSupport, TakesOnlyTestedVersionsOfQemu) {
  for (const char* version : {"8.2.1", "7.20.0", "7.1.0", "17.2.0", ""}) {
    DirectFacts facts = Good();
    facts.qemu_version = version;
    EXPECT_THAT(DirectReason(facts), HasSubstr("tested with (7.2.x)")) << version;
  }
}

TEST(DirectSupport, AdvisesHugePagesForMemoryFiles) {
  EXPECT_THAT(MemoryAdvice("always within_size advise [never] deny force\n"),
              HasSubstr("shmem_enabled is never: guests and the direct engine are faster with "
                        "advise (echo advise > /sys/"));
  EXPECT_THAT(MemoryAdvice("always within_size advise never [deny] force\n"), HasSubstr("is deny"));
  EXPECT_EQ(MemoryAdvice("always within_size [advise] never deny force\n"), "");
  EXPECT_EQ(MemoryAdvice("[always] within_size advise never deny force\n"), "");
  EXPECT_EQ(MemoryAdvice(""), "");  // a kernel without huge pages
}

}  // namespace
}  // namespace sealift::qemu
