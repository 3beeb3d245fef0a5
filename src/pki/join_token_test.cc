#include "pki/join_token.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"
#include "pki/certificate.h"

namespace sealift::pki {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

class JoinTokenTest : public testing::Test {
 protected:
  void SetUp() override {
    token_.host = "hypervisor-7";
    token_.ca_certificate_pem = (*CertificateAuthority::Create(clock_))->certificate_pem();
    token_.secret = base::Bytes(32, std::byte{0x5a});
    text_ = *EncodeJoinToken(token_);
  }

  base::FakeClock clock_;
  JoinToken token_;
  std::string text_;
};

TEST_F(JoinTokenTest, RoundTripsAsOneWord) {
  EXPECT_THAT(text_, testing::StartsWith("sealift1."));
  EXPECT_EQ(
      text_.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."),
      std::string::npos);
  const JoinToken decoded = *DecodeJoinToken(text_);
  EXPECT_EQ(decoded.host, token_.host);
  EXPECT_EQ(decoded.ca_certificate_pem, token_.ca_certificate_pem);
  EXPECT_EQ(decoded.secret, token_.secret);
}

TEST_F(JoinTokenTest, AllowsBlanksAround) {
  EXPECT_TRUE(DecodeJoinToken("  " + text_ + "\r\n").ok());
}

TEST_F(JoinTokenTest, NoticesEveryCut) {
  for (std::size_t size = 0; size < text_.size(); ++size) {
    const absl::Status status = DecodeJoinToken(text_.substr(0, size)).status();
    ASSERT_EQ(status.code(), StatusCode::kInvalidArgument) << size;
  }
  EXPECT_EQ(DecodeJoinToken(text_.substr(1)).status().code(), StatusCode::kInvalidArgument);
  const absl::Status half = DecodeJoinToken(text_.substr(0, text_.size() / 2)).status();
  EXPECT_THAT(base::MessageOf(half), HasSubstr("copy the whole word"));
}

TEST_F(JoinTokenTest, NoticesEveryAlteredCharacter) {
  for (std::size_t i = 0; i < text_.size(); ++i) {
    std::string altered = text_;
    altered[i] = altered[i] == 'A' ? 'B' : 'A';
    ASSERT_EQ(DecodeJoinToken(altered).status().code(), StatusCode::kInvalidArgument) << i;
  }
}

TEST_F(JoinTokenTest, NoticesWhatWasAdded) {
  for (const char* more : {"A", "AAAA", "=", ".", " x", "\nAAAA"}) {
    EXPECT_FALSE(DecodeJoinToken(text_ + more).ok()) << more;
  }
  EXPECT_FALSE(DecodeJoinToken(text_ + std::string(100'000, 'A')).ok());
}

TEST_F(JoinTokenTest, NamesAnotherVersion) {
  std::string newer = text_;
  newer[7] = '2';
  const absl::Status status = DecodeJoinToken(newer).status();
  EXPECT_EQ(status.code(), StatusCode::kInvalidArgument);
  EXPECT_THAT(base::MessageOf(status), HasSubstr("another version"));
}

TEST_F(JoinTokenTest, ErrorsDoNotRepeatTheSecret) {
  std::string altered = text_;
  altered[20] = altered[20] == 'A' ? 'B' : 'A';
  EXPECT_THAT(base::MessageOf(DecodeJoinToken(altered).status()),
              testing::Not(HasSubstr(text_.substr(30, 20))));
}

TEST_F(JoinTokenTest, EncodesOnlyWhatDecodes) {
  token_.host = "Not A Name";
  EXPECT_EQ(EncodeJoinToken(token_).status().code(), StatusCode::kInvalidArgument);
  token_.host = "a";
  token_.ca_certificate_pem = "no certificate";
  EXPECT_EQ(EncodeJoinToken(token_).status().code(), StatusCode::kInvalidArgument);
}

TEST(Sha256Hex, IsSha256) {
  // FIPS 180-2, appendix B.1.
  EXPECT_EQ(Sha256Hex(base::AsBytes("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace sealift::pki
