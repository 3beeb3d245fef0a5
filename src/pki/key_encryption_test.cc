#include "pki/key_encryption.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "base/status.h"
#include "base/testing.h"
#include "pki/certificate.h"

namespace sealift::pki {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

class KeyEncryptionTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    key_ = *GeneratePrivateKey();
    encrypted_ = *EncryptPrivateKey(key_, "correct horse");
  }
  static inline std::string key_;
  static inline std::string encrypted_;
};

TEST_F(KeyEncryptionTest, GivesTheKeyBackForItsPassphraseOnly) {
  EXPECT_THAT(encrypted_, HasSubstr("BEGIN ENCRYPTED PRIVATE KEY"));
  EXPECT_EQ(*DecryptPrivateKey(encrypted_, "correct horse"), key_);
  for (const char* wrong : {"correct horsf", "correct horse "}) {
    const absl::Status status = DecryptPrivateKey(encrypted_, wrong).status();
    EXPECT_EQ(status.code(), StatusCode::kPermissionDenied) << wrong;
    EXPECT_THAT(base::MessageOf(status), HasSubstr("passphrase"));
  }
}

TEST_F(KeyEncryptionTest, NoTwoLookAlike) {
  EXPECT_NE(*EncryptPrivateKey(key_, "correct horse"), encrypted_);
}

TEST_F(KeyEncryptionTest, RefusesWhatIsNoKey) {
  EXPECT_EQ(EncryptPrivateKey("x", "correct horse").status().code(), StatusCode::kInvalidArgument);
  EXPECT_EQ(DecryptPrivateKey(key_, "correct horse").status().code(), StatusCode::kInvalidArgument);
}

TEST_F(KeyEncryptionTest, OpensslReadsItWithoutUs) {
  const base::TestFolder folder;
  std::ofstream(folder / "key") << encrypted_;
  std::ofstream(folder / "passphrase") << "correct horse\n";
  const std::string command = "openssl pkey -in " + folder / "key" +
                              " -passin file:" + folder / "passphrase" +
                              " -check -noout >/dev/null 2>&1";
  EXPECT_EQ(std::system(command.c_str()), 0);
}

}  // namespace
}  // namespace sealift::pki
