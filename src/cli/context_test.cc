#include "cli/context.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/status.h"
#include "base/testing.h"

namespace sealift::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class ContextTest : public testing::Test {
 protected:
  std::string Path() const { return folder_ / "context.yaml"; }

  std::string Write(const std::string& text, mode_t mode = 0600) const {
    std::ofstream(Path()) << text;
    chmod(Path().c_str(), mode);
    return Path();
  }

  std::string ReadError(const std::string& text) const {
    const auto context = ReadContext(Write(text));
    EXPECT_TRUE(absl::IsInvalidArgument(context.status()));
    return base::MessageOf(context.status());
  }

  const base::TestFolder folder_;
};

const Context kContext{"192.0.2.1:7430", "abc.sealift",
                       "-----BEGIN CERTIFICATE-----\nMIIC\n-----END CERTIFICATE-----\n",
                       "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n"
                       "-----BEGIN CERTIFICATE-----\nMIID\n-----END CERTIFICATE-----\n"};

TEST_F(ContextTest, ReadsBackWhatItWrote) {
  ASSERT_TRUE(WriteContext(Path(), kContext).ok());
  const auto context = ReadContext(Path());
  ASSERT_TRUE(context.ok()) << context.status();
  EXPECT_EQ(*context, kContext);
}

TEST_F(ContextTest, WritesForTheOwnerOnlyAlsoOverAnOpenFile) {
  Write("old", 0644);
  ASSERT_TRUE(WriteContext(Path(), kContext).ok());
  struct stat info {};
  ASSERT_EQ(stat(Path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0600U);
}

TEST_F(ContextTest, RefusesAFileThatOthersMayReadAndSaysTheRemedy) {
  ASSERT_TRUE(WriteContext(Path(), kContext).ok());
  for (const mode_t mode : {0640U, 0604U, 0620U}) {
    chmod(Path().c_str(), mode);
    const absl::Status status = ReadContext(Path()).status();
    EXPECT_TRUE(absl::IsPermissionDenied(status));
    EXPECT_THAT(base::MessageOf(status), HasSubstr("chmod 600 " + Path()));
  }
}

TEST_F(ContextTest, NamesTheKeyThatIsMissing) {
  EXPECT_THAT(ReadError("controller: a:1\ntrust_domain: x\nca: y\n"),
              HasSubstr("identity: missing"));
}

TEST_F(ContextTest, NamesLineAndKeyOfAnUnknownKey) {
  EXPECT_THAT(ReadError("controller: a:1\ncontroler: b\n"),
              HasSubstr(":2: controler: unknown key"));
}

TEST_F(ContextTest, RefusesValuesThatAreNotText) {
  EXPECT_THAT(ReadError("controller: [a]\n"), HasSubstr("controller: must be text"));
  EXPECT_THAT(ReadError("ca: ''\n"), HasSubstr("ca: must be text"));
  EXPECT_THAT(ReadError("just text\n"), HasSubstr("must be a map"));
  EXPECT_THAT(ReadError(""), HasSubstr("must be a map"));
}

TEST_F(ContextTest, NamesTheLineOfASyntaxError) {
  EXPECT_THAT(ReadError("controller: a\nca: \"unclosed\n"), HasSubstr(Path() + ":"));
}

TEST_F(ContextTest, RefusesAFolder) {
  chmod(folder_.path().c_str(), 0700);
  EXPECT_TRUE(absl::IsInvalidArgument(ReadContext(folder_.path()).status()));
}

TEST_F(ContextTest, ANamedFileMustExistAndWinsOverTheOthers) {
  Write("");
  const std::string other = folder_ / "other.yaml";
  EXPECT_TRUE(absl::IsInvalidArgument(FindContext(other, {Path()}).status()));
  std::ofstream(other) << "";
  EXPECT_EQ(*FindContext(other, {Path()}), other);
}

TEST_F(ContextTest, TheFirstThatExistsIsTaken) {
  Write("");
  EXPECT_EQ(*FindContext("", {folder_ / "none", Path(), folder_ / "last"}), Path());
  EXPECT_THAT(base::MessageOf(FindContext("", {"/none/a", "/none/b"}).status()),
              HasSubstr("(/none/a, /none/b)"));
}

TEST_F(ContextTest, TheUsersOwnComesBeforeTheMachines) {
  unsetenv("XDG_CONFIG_HOME");
  setenv("HOME", "/home/u", 1);
  EXPECT_THAT(ContextPaths(),
              ElementsAre("/home/u/.config/sealift/context.yaml", "/etc/sealift/context.yaml"));
  setenv("XDG_CONFIG_HOME", "/cfg", 1);
  EXPECT_THAT(ContextPaths(),
              ElementsAre("/cfg/sealift/context.yaml", "/etc/sealift/context.yaml"));
  unsetenv("XDG_CONFIG_HOME");
}

}  // namespace
}  // namespace sealift::cli
