#include "policy/selector.h"

#include <gtest/gtest.h>

namespace sealift::policy {
namespace {

bool Selects(const char* text, const base::Labels& labels) {
  const absl::StatusOr<Selector> selector = Selector::Parse(text);
  EXPECT_TRUE(selector.ok()) << text;
  return selector.ok() && selector->Matches(labels);
}

const base::Labels kWeb{{"env", "prod"}, {"tier", "web"}, {"backup", ""}};

TEST(Selector, EachCondition) {
  EXPECT_TRUE(Selects("env=prod", kWeb));
  EXPECT_FALSE(Selects("env=test", kWeb));
  EXPECT_FALSE(Selects("zone=a", kWeb));
  EXPECT_FALSE(Selects("env!=prod", kWeb));
  EXPECT_TRUE(Selects("env!=test", kWeb));
  EXPECT_TRUE(Selects("zone!=a", kWeb)) << "a VM without the label differs";
  EXPECT_TRUE(Selects("backup", kWeb));
  EXPECT_FALSE(Selects("zone", kWeb));
  EXPECT_FALSE(Selects("!backup", kWeb));
  EXPECT_TRUE(Selects("!zone", kWeb));
  EXPECT_TRUE(Selects("backup=", kWeb)) << "an empty value is a value";
}

TEST(Selector, AllConditionsMustHold) {
  EXPECT_TRUE(Selects("env=prod,tier!=db,!zone", kWeb));
  EXPECT_FALSE(Selects("env=prod,tier=db", kWeb));
}

TEST(Selector, RefusesWhatIsNoCondition) {
  for (const char* bad : {"", ",", "env=prod,", "=prod", "!", "!=x", "a b", "env=pr od", "env==x",
                          "key=a=b", "\x01", "ä=b"}) {
    EXPECT_EQ(Selector::Parse(bad).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
  EXPECT_FALSE(Selector::Parse(std::string(64, 'a')).ok());
  std::string many = "a";
  for (int i = 1; i < 64; ++i) many += ",a";
  EXPECT_TRUE(Selector::Parse(many).ok());
  EXPECT_FALSE(Selector::Parse(many + ",a").ok());
}

TEST(Label, IsPlainText) {
  EXPECT_TRUE(base::CheckLabel("app.example.org/tier", "web_1-a").ok());
  EXPECT_TRUE(base::CheckLabel("k", "").ok());
  EXPECT_FALSE(base::CheckLabel("", "v").ok());
  EXPECT_FALSE(base::CheckLabel("k", "two words").ok());
  EXPECT_FALSE(base::CheckLabel(std::string(64, 'k'), "v").ok());
}

}  // namespace
}  // namespace sealift::policy
