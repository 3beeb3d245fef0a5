#include "keys/self_test.h"

#include <gtest/gtest.h>

namespace sealift::keys {
namespace {

// What a wrong result does is shown on the daemons, with a damaged libcrypto: tests/keys.
TEST(KeysSelfTest, PassesAndMayBeRepeated) {
  EXPECT_TRUE(SelfTest().ok()) << SelfTest();
  EXPECT_TRUE(SelfTest().ok());
}

}  // namespace
}  // namespace sealift::keys
