#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <filesystem>
#include <future>
#include <limits>
#include <memory>

#include "base/backoff.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/detached_call.h"
#include "base/file.h"
#include "base/socket.h"
#include "base/status.h"
#include "base/testing.h"
#include "base/unique_fd.h"
#include "base/utf8.h"

namespace sealift::base {
namespace {

TEST(Backoff, DoublesUpToItsCapWithJitterAndStartsOver) {
  Backoff backoff;
  for (const int whole : {100, 200, 400, 800, 1600, 2000, 2000}) {
    const auto pause = backoff.Next();
    EXPECT_GE(pause.count(), whole / 2);
    EXPECT_LE(pause.count(), whole);
  }
  backoff.Reset();
  EXPECT_LE(backoff.Next(), Backoff::kFirst);
}

TEST(Backoff, TwoDoNotKnockAtTheSameMoments) {
  std::minstd_rand one(1);
  std::minstd_rand two(2);
  const std::chrono::milliseconds whole(2000);
  int same = 0;
  for (int i = 0; i < 20; ++i) same += Jittered(whole, one) == Jittered(whole, two) ? 1 : 0;
  EXPECT_LT(same, 3);
}

TEST(DetachedCall, ReturnsWhatTheFunctionDid) {
  const DetachedCall call([] { return absl::DataLossError("bad sector"); });
  EXPECT_EQ(call.Wait(std::chrono::seconds(60)), absl::DataLossError("bad sector"));
  EXPECT_EQ(call.Wait(Duration::zero()), absl::DataLossError("bad sector"));
}

TEST(DetachedCall, AFunctionThatHangsHoldsNobodyUp) {
  auto hold = std::make_shared<std::promise<void>>();
  {
    const DetachedCall call([hold] {
      hold->get_future().wait();
      return absl::OkStatus();
    });
    EXPECT_EQ(call.Wait(Duration::zero()), std::nullopt);
    std::stop_source stop;
    stop.request_stop();
    EXPECT_EQ(call.Wait(std::chrono::hours(1), stop.get_token()), std::nullopt);
  }
  hold->set_value();
}

TEST(Utf8, IsKnownAndMadeOfAnything) {
  EXPECT_TRUE(IsUtf8("aü€😀"));
  EXPECT_EQ(MakeUtf8("aü€😀", 100), "aü€😀");
  for (const std::string_view bad : {"\xff", "\xc0\x80", "\xe0\x80\x80", "\xed\xa0\x80",
                                     "\xf4\x90\x80\x80", "\xe2\x82", "\xe2\x82\x28", "\x80"}) {
    EXPECT_FALSE(IsUtf8(bad));
    EXPECT_TRUE(IsUtf8(MakeUtf8(bad, 100)));
  }
  EXPECT_EQ(MakeUtf8("a\xff"
                     "ü\xc3",
                     100),
            "a?ü?");
}

TEST(Utf8, ControlCharactersAreFoundAndMadeSpaces) {
  for (const std::string_view bad : {"\n", "a\x1b", "\x7f", "ü\xc2\x85", "\xc2\x9bm"}) {
    EXPECT_TRUE(HasControlCharacters(bad));
    EXPECT_FALSE(HasControlCharacters(MakeLine(bad, 100)));
  }
  EXPECT_FALSE(HasControlCharacters("aü\xc2\xa0€😀"));
  EXPECT_EQ(MakeLine("a\tü\xc2\x9b€\xff", 100), "a ü €?");
}

TEST(Utf8, IsCutBetweenCharacters) {
  EXPECT_EQ(MakeUtf8("aü", 3), "aü");
  EXPECT_EQ(MakeUtf8("aü", 2), "a");
  EXPECT_EQ(MakeUtf8("aü", 0), "");
}

TEST(Bytes, HexRoundTripsAndRefusesOtherText) {
  const Bytes bytes = *FromHex("00ffA7");
  EXPECT_EQ(ToHex(bytes), "00ffa7");
  EXPECT_FALSE(FromHex("0").ok());
  EXPECT_FALSE(FromHex("0g").ok());
}

TEST(Bytes, Base64UrlRoundTripsAndRefusesOtherText) {
  const Bytes bytes = *FromHex("fbff00fe");
  EXPECT_EQ(*FromBase64Url(ToBase64Url(bytes)), bytes);
  EXPECT_FALSE(FromBase64Url("a$b!").ok());
}

TEST(Bytes, BigEndianIntegers) {
  Bytes bytes;
  AppendBig<std::uint32_t>(bytes, 0x01020304U);
  EXPECT_EQ(ToHex(bytes), "01020304");
  EXPECT_EQ(LoadBig<std::uint32_t>(bytes), 0x01020304U);
}

TEST(Clock, FormatsUtc) { EXPECT_EQ(FormatUtc(FromUnixMillis(0)), "1970-01-01T00:00:00Z"); }

TEST(Clock, ATimeOutOfReachIsTheNearestThereIs) {
  for (const std::int64_t beyond : {std::int64_t{253'402'300'799'000},  // the end of the year 9999
                                    std::numeric_limits<std::int64_t>::max()}) {
    EXPECT_EQ(FormatUtc(FromUnixMillis(beyond)), "2262-04-11T23:47:16Z");
  }
  EXPECT_EQ(FormatUtc(FromUnixMillis(std::numeric_limits<std::int64_t>::min())),
            "1677-09-21T00:12:44Z");
}

TEST(Status, ErrnoKeepsItsMeaning) {
  EXPECT_EQ(ErrnoStatus("open /x", ENOENT).code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(ErrnoStatus("open /x", EACCES).message(), "open /x: Permission denied");
}

class FileTest : public testing::Test {
 protected:
  const TestFolder folder_;
};

TEST_F(FileTest, ReplacesDurablyWithTheModeAsked) {
  const std::string path = folder_ / "a";
  ASSERT_TRUE(WriteFileDurably(path, "one", 0600).ok());
  ASSERT_TRUE(WriteFileDurably(path, "two", 0640).ok());
  EXPECT_EQ(*ReadFile(path), "two");
  struct stat info {};
  ASSERT_EQ(stat(path.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0640U);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_.path()), {}), 1);
}

TEST_F(FileTest, PublishesUnderANameThatIsFree) {
  ASSERT_TRUE(WriteFileDurably(folder_ / "new", "new").ok());
  ASSERT_TRUE(PublishFile(folder_ / "new", folder_ / "name").ok());
  EXPECT_EQ(ReadFile(folder_ / "new").status().code(), absl::StatusCode::kNotFound);
  ASSERT_TRUE(WriteFileDurably(folder_ / "newer", "newer").ok());
  EXPECT_EQ(PublishFile(folder_ / "newer", folder_ / "name").code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(*ReadFile(folder_ / "name"), "new");
}

TEST_F(FileTest, RefusesAFileOverTheLimit) {
  ASSERT_TRUE(WriteFileDurably(folder_ / "a", "12345").ok());
  EXPECT_EQ(ReadFile(folder_ / "a", 4).status().code(), absl::StatusCode::kResourceExhausted);
}

TEST_F(FileTest, MakesParentsAndRemovesTwice) {
  ASSERT_TRUE(MakeDirectories(folder_ / "x/y").ok());
  ASSERT_TRUE(WriteFileDurably(folder_ / "x/y/f", "").ok());
  EXPECT_TRUE(RemoveFileDurably(folder_ / "x/y/f").ok());
  EXPECT_TRUE(RemoveFileDurably(folder_ / "x/y/f").ok());
  // Also a second call syncs: an OK counts on disk, though the sync of the first one failed.
  EXPECT_FALSE(RemoveFileDurably(folder_ / "x/missing/f").ok());
}

TEST(HostPort, ReadsWhatUsersWrite) {
  EXPECT_EQ(ParseHostPort("10.0.0.1", 7)->ToString(), "10.0.0.1:7");
  EXPECT_EQ(ParseHostPort("a.example:80", 7)->ToString(), "a.example:80");
  EXPECT_EQ(ParseHostPort("[fe80::1]:80", 7)->ToString(), "[fe80::1]:80");
  EXPECT_EQ(ParseHostPort("fe80::1", 7)->ToString(), "[fe80::1]:7");
  for (const char* bad :
       {"", ":80", "a:", "a:0", "a:65536", "a:x", "[fe80::1", "[fe80::1]x", "[a]:"}) {
    EXPECT_FALSE(ParseHostPort(bad, 7).ok()) << bad;
  }
}

TEST(Socket, PassesDescriptorsAndSeesTheEnd) {
  int pair[2];
  ASSERT_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
  UniqueFd left(pair[0]);
  const UniqueFd right(pair[1]);
  ASSERT_TRUE(SendMessage(left.get(), "hello", {left.get()}).ok());
  absl::StatusOr<Message> message = ReceiveMessage(right.get());
  ASSERT_TRUE(message.ok());
  EXPECT_EQ(message->bytes, "hello");
  ASSERT_EQ(message->fds.size(), 1U);
  message->fds.clear();
  left.reset();
  EXPECT_EQ(ReceiveMessage(right.get()).status().code(), absl::StatusCode::kUnavailable);
}

TEST(Socket, ConnectsToAListenerAndNamesARefusal) {
  auto listener = ListenTcp("127.0.0.1", 0, 0);
  ASSERT_TRUE(listener.ok());
  const HostPort address{"127.0.0.1", listener->second};
  EXPECT_TRUE(ConnectTcp(address, std::chrono::seconds(5)).ok());
  listener->first.reset();
  const absl::Status refused = ConnectTcp(address, std::chrono::seconds(5)).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kUnavailable);
  EXPECT_NE(refused.message().find(address.ToString()), std::string::npos);
}

TEST(Socket, AWildcardOfOneFamilyIsListenedAtForBoth) {
  for (const char* wildcard : {"0.0.0.0", "::"}) {
    const auto listeners = ListenEverywhere({wildcard, 0});
    ASSERT_TRUE(listeners.ok()) << listeners.status();
    ASSERT_EQ(listeners->sockets.size(), 1U);
    EXPECT_TRUE(ConnectTcp({"127.0.0.1", listeners->port}, std::chrono::seconds(5)).ok());
    if (!ListenTcp("::1", 0, 0).ok()) continue;  // this machine has no IPv6
    EXPECT_TRUE(ConnectTcp({"::1", listeners->port}, std::chrono::seconds(5)).ok());
  }
}

TEST(Socket, APortThatIsTakenIsNamed) {
  const auto first = ListenEverywhere({"127.0.0.1", 0});
  ASSERT_TRUE(first.ok());
  const absl::Status second = ListenEverywhere({"127.0.0.1", first->port}).status();
  EXPECT_NE(second.message().find(std::to_string(first->port)), std::string::npos);
  EXPECT_NE(second.message().find("Address already in use"), std::string::npos);
}

}  // namespace
}  // namespace sealift::base
