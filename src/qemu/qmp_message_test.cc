#include "qemu/qmp_message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/status.h"

namespace sealift::qemu {
namespace {

using ::testing::HasSubstr;

template <typename T>
T Parse(std::string_view line) {
  const absl::StatusOr<QmpMessage> message = ParseQmpMessage(line);
  EXPECT_TRUE(message.ok()) << message.status();
  EXPECT_TRUE(std::holds_alternative<T>(*message)) << line;
  return std::get<T>(*message);
}

TEST(QmpMessage, ReadsTheGreeting) {
  EXPECT_EQ(
      Parse<QmpGreeting>(R"({"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7},
            "package": "Debian"}, "capabilities": ["oob"]}})")
          .version,
      "7.2.22");
}

TEST(QmpMessage, ReadsAReturn) {
  const auto message = Parse<QmpReturn>(R"({"return": {"status": "running"}, "id": 7})");
  EXPECT_EQ(message.id, 7U);
  EXPECT_EQ(message.value.at("status"), "running");
}

TEST(QmpMessage, ReadsAnError) {
  const auto error =
      Parse<QmpError>(R"({"id": 8, "error": {"class": "GenericError", "desc": "no such device"}})");
  EXPECT_EQ(error.id, 8U);
  EXPECT_EQ(StatusOfQmpError("device_del", error),
            absl::FailedPreconditionError("QEMU refused device_del: no such device"));
  EXPECT_TRUE(absl::IsUnimplemented(StatusOfQmpError("x", {1, "CommandNotFound", "unknown"})));
}

TEST(QmpMessage, ReadsAnEvent) {
  const auto event = Parse<QmpEvent>(
      R"({"timestamp": {"seconds": 1, "microseconds": 2}, "event": "MIGRATION", "data": {"status": "active"}})");
  EXPECT_EQ(event.name, "MIGRATION");
  EXPECT_EQ(event.data.at("status"), "active");
  EXPECT_TRUE(Parse<QmpEvent>(R"({"event": "STOP"})").data.is_null());
}

TEST(QmpMessage, RefusesWhatIsNoMessage) {
  for (const char* line :
       {"", "x", "[]", "7", "null", "{}", "{\"return\": {}}", "{\"return\": {}, \"id\": \"a\"}",
        "{\"return\": {}, \"id\": -1}", "{\"error\": 7}", "{\"event\": 7}", "{\"QMP\": {}}",
        "{\"QMP\": 7}", "{\"QMP\": {\"version\": []}}", "{\"event\": \"STOP\"", "{\"event\": \"\"}",
        "{\"event\": \"\xff\"}"}) {
    EXPECT_EQ(ParseQmpMessage(line).status().code(), absl::StatusCode::kInvalidArgument) << line;
  }
}

TEST(QmpMessage, RefusesDeepNesting) {
  const auto nested = [](int depth) {
    const auto count = static_cast<std::size_t>(depth);
    return R"({"event": "X", "data": )" + std::string(count, '[') + std::string(count, ']') + "}";
  };
  EXPECT_TRUE(ParseQmpMessage(nested(kMaxQmpDepth - 1)).ok());
  EXPECT_THAT(base::MessageOf(ParseQmpMessage(nested(kMaxQmpDepth + 1)).status()),
              HasSubstr("too deeply"));
  EXPECT_FALSE(ParseQmpMessage(nested(1'000'000)).ok());
}

TEST(QmpMessage, FormatsARequest) {
  EXPECT_EQ(FormatQmpRequest("cont", nullptr, 3), "{\"execute\":\"cont\",\"id\":3}\n");
  EXPECT_EQ(FormatQmpRequest("migrate", {{"uri", "unix:/a"}}, 4),
            "{\"arguments\":{\"uri\":\"unix:/a\"},\"execute\":\"migrate\",\"id\":4}\n");
}

TEST(LineSplitter, JoinsPiecesAndSplitsLines) {
  LineSplitter lines;
  ASSERT_TRUE(lines.Append("ab").ok());
  EXPECT_EQ(lines.Next(), std::nullopt);
  ASSERT_TRUE(lines.Append("c\r\nd\n\ne").ok());
  EXPECT_EQ(lines.Next(), "abc");
  EXPECT_EQ(lines.Next(), "d");
  EXPECT_EQ(lines.Next(), "");
  EXPECT_EQ(lines.Next(), std::nullopt);
  ASSERT_TRUE(lines.Append("f\n").ok());
  EXPECT_EQ(lines.Next(), "ef");
}

TEST(LineSplitter, RefusesALineWithoutEnd) {
  LineSplitter lines;
  ASSERT_TRUE(lines.Append(std::string(kMaxQmpLine, 'x')).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(lines.Append("x")));
}

}  // namespace
}  // namespace sealift::qemu
