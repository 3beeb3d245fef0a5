#include "mover/page_message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace sealift::mover {
namespace {

using ::testing::ElementsAre;

template <typename T>
T RoundTrip(const T& message) {
  return std::get<T>(DecodePageMessage(EncodePageMessage(message)).value());
}

bool Decodes(const base::Bytes& bytes) { return DecodePageMessage(bytes).ok(); }

base::Bytes FromHex(std::string_view hex) { return base::FromHex(hex).value(); }

TEST(PageMessage, CarriesRanges) {
  constexpr std::uint64_t kLast = std::numeric_limits<std::uint64_t>::max();
  EXPECT_THAT(RoundTrip(PagesMessage{{{1, 2, 3}, {65535, kLast, 1021}}}).ranges,
              ElementsAre(PageRange{1, 2, 3}, PageRange{65535, kLast, 1021}));
  EXPECT_THAT(RoundTrip(ZeroPagesMessage{{{0, 5, 2048}}}).ranges,
              ElementsAre(PageRange{0, 5, 2048}));
}

TEST(PageMessage, CarriesRoundsAndTheirConfirmation) {
  EXPECT_EQ(RoundTrip(RoundMessage{7}).round, 7);
  const AppliedMessage applied{7, std::uint64_t{1} << 40, 9};
  EXPECT_EQ(RoundTrip(applied), applied);
}

// docs/protocol.md, "Direct engine".
TEST(PageMessage, HasTheBytesOfTheProtocol) {
  EXPECT_EQ(base::ToHex(EncodePageMessage(PagesMessage{{{1, 0x1122334455667788, 3}}})),
            "010001112233445566778800000003");
  EXPECT_EQ(base::ToHex(EncodePageMessage(ZeroPagesMessage{{{0, 2, 1}}})),
            "020000000000000000000200000001");
  EXPECT_EQ(base::ToHex(EncodePageMessage(RoundMessage{258})), "0300000102");
  EXPECT_EQ(base::ToHex(EncodePageMessage(AppliedMessage{1, 2, 3})),
            "040000000100000000000000020000000000000003");
}

TEST(PageMessage, RefusesUnknownKindsAndWrongSizes) {
  EXPECT_FALSE(Decodes({}));
  for (const char* bytes : {"00", "05", "01", "02", "03", "04", "03000001", "030000010200",
                            "0100010000000000000002000000", "01000100000000000000020000000300",
                            "0400000001000000000000000200000000000000"}) {
    EXPECT_FALSE(Decodes(FromHex(bytes))) << bytes;
  }
}

TEST(PageMessage, RefusesEmptyRanges) {
  EXPECT_FALSE(Decodes(EncodePageMessage(PagesMessage{{{1, 2, 0}}})));
  EXPECT_FALSE(Decodes(EncodePageMessage(ZeroPagesMessage{{{1, 2, 1}, {1, 2, 0}}})));
}

TEST(PageMessage, RefusesMorePagesOrRangesThanAllowed) {
  PagesMessage pages{{{0, 0, 1024}}};
  EXPECT_TRUE(Decodes(EncodePageMessage(pages)));
  pages.ranges.push_back({0, 2000, 1});
  EXPECT_FALSE(Decodes(EncodePageMessage(pages)));
  pages.ranges = {{0, 0, 4294967295U}, {0, 0, 1025}};  // 2^32 + 1024
  EXPECT_FALSE(Decodes(EncodePageMessage(pages)));

  ZeroPagesMessage zeros;
  zeros.ranges.resize(kMaxRanges, {0, 1, 1});
  EXPECT_TRUE(Decodes(EncodePageMessage(zeros)));
  zeros.ranges.push_back({0, 1, 1});
  EXPECT_FALSE(Decodes(EncodePageMessage(zeros)));
  zeros.ranges = {{0, 0, 2047}, {1, 0, 1}};
  EXPECT_TRUE(Decodes(EncodePageMessage(zeros)));
  zeros.ranges.push_back({0, 0, 1});
  EXPECT_FALSE(Decodes(EncodePageMessage(zeros)));
}

}  // namespace
}  // namespace sealift::mover
