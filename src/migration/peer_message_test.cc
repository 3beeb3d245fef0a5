#include "migration/peer_message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sealift::migration {
namespace {

base::Bytes Raw(std::uint8_t type, std::string_view text) {
  base::Bytes bytes = {std::byte{type}};
  base::Append(bytes, base::AsBytes(text));
  return bytes;
}

absl::StatusCode CodeOf(const base::Bytes& bytes) {
  return DecodePeerMessage(bytes).status().code();
}

class PeerMessageTypeTest : public ::testing::TestWithParam<PeerMessageType> {};

TEST_P(PeerMessageTypeTest, ArrivesWithItsText) {
  for (const char* text : {"", "no route to host", "Größe"}) {
    const auto arrived = DecodePeerMessage(EncodePeerMessage({GetParam(), text}));
    ASSERT_TRUE(arrived.ok()) << text;
    EXPECT_EQ(arrived->type, GetParam());
    EXPECT_EQ(arrived->text, text);
  }
}

INSTANTIATE_TEST_SUITE_P(PeerMessage, PeerMessageTypeTest,
                         ::testing::Values(PeerMessageType::kReady, PeerMessageType::kCommit,
                                           PeerMessageType::kAbort, PeerMessageType::kResumed));

TEST(PeerMessage, IsItsTypeAndThenItsText) {
  EXPECT_EQ(EncodePeerMessage({PeerMessageType::kReady, {}}), Raw(1, ""));
  EXPECT_EQ(EncodePeerMessage({PeerMessageType::kCommit, {}}), Raw(2, ""));
  EXPECT_EQ(EncodePeerMessage({PeerMessageType::kAbort, "why"}), Raw(3, "why"));
  EXPECT_EQ(EncodePeerMessage({PeerMessageType::kResumed, {}}), Raw(4, ""));
}

TEST(PeerMessage, CutsATextThatIsTooLong) {
  const base::Bytes bytes = EncodePeerMessage({PeerMessageType::kAbort, std::string(5000, 'x')});
  ASSERT_TRUE(DecodePeerMessage(bytes).ok());
  EXPECT_EQ(DecodePeerMessage(bytes)->text, std::string(PeerMessage::kMaxText, 'x'));
}

// It ends up in protobuf strings, which take nothing else.
TEST(PeerMessage, IsUtf8WhateverAPeerSays) {
  EXPECT_EQ(DecodePeerMessage(Raw(4, "a\xff\xc3"))->text, "a??");
  const std::string cut_in_a_character = std::string(PeerMessage::kMaxText - 1, 'x') + "ü";
  EXPECT_EQ(
      DecodePeerMessage(EncodePeerMessage({PeerMessageType::kAbort, cut_in_a_character}))->text,
      std::string(PeerMessage::kMaxText - 1, 'x'));
}

TEST(PeerMessage, RefusesAnEmptyOne) { EXPECT_EQ(CodeOf({}), absl::StatusCode::kInvalidArgument); }

TEST(PeerMessage, RefusesTypesThatDoNotExist) {
  for (const int type : {0, 5, 6, 127, 128, 255}) {
    EXPECT_EQ(CodeOf(Raw(static_cast<std::uint8_t>(type), "")), absl::StatusCode::kInvalidArgument)
        << type;
  }
}

TEST(PeerMessage, RefusesATextThatIsTooLong) {
  EXPECT_EQ(CodeOf(Raw(3, std::string(PeerMessage::kMaxText, 'x'))), absl::StatusCode::kOk);
  EXPECT_EQ(CodeOf(Raw(3, std::string(PeerMessage::kMaxText + 1, 'x'))),
            absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace sealift::migration
