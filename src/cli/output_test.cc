#include "cli/output.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <sstream>

#include "sealift/v1/controller.pb.h"

namespace sealift::cli {
namespace {

using testing::HasSubstr;
using testing::Not;

v1::Migration ExampleMigration() {
  v1::Migration migration;
  migration.set_id("00ff");
  migration.set_mode(v1::ENCRYPTION_MODE_REQUIRED);
  migration.set_encrypted(true);
  migration.set_started_ms(1'769'862'896'789);
  migration.mutable_progress()->set_phase(v1::MIGRATION_PHASE_COPYING);
  migration.mutable_progress()->set_wire_bytes(1ULL << 60);
  migration.mutable_progress()->set_elapsed_ms(1500);
  return migration;
}

TEST(ToJson, EnumsAreShortWords) {
  const Json json = ToJson(ExampleMigration());
  EXPECT_EQ(json["mode"], "required");
  EXPECT_EQ(json["progress"]["phase"], "copying");
  EXPECT_EQ(json["engine"], "unspecified");
  EXPECT_EQ(Word(v1::HOST_STATE_UNREACHABLE), "unreachable");
  EXPECT_EQ(Word(static_cast<v1::VmState>(99)), "99");
}

TEST(ToJson, NumbersAreNumbers) {
  const Json json = ToJson(ExampleMigration());
  EXPECT_EQ(json["progress"]["wire_bytes"].dump(), "1152921504606846976");
  EXPECT_EQ(json["progress"]["elapsed_ms"].dump(), "1500");
  EXPECT_EQ(json["encrypted"].dump(), "true");
}

TEST(ToJson, TimesAreTextAndNullWhenNever) {
  const Json json = ToJson(ExampleMigration());
  EXPECT_EQ(json["started"], "2026-01-31T12:34:56.789Z");
  EXPECT_TRUE(json["ended"].is_null());
  EXPECT_FALSE(json.contains("started_ms"));
  v1::Event event;
  event.set_number(7);  // signed, but no time
  EXPECT_EQ(ToJson(event)["number"].dump(), "7");
}

TEST(ToJson, EveryFieldIsThereInTheOrderOfTheApi) {
  const Json json = ToJson(v1::Vm());
  EXPECT_EQ(json.size(), static_cast<std::size_t>(v1::Vm::descriptor()->field_count()));
  EXPECT_EQ(json.begin().key(), "name");
  EXPECT_TRUE(ToJson(v1::Host())["capabilities"].is_null());
  EXPECT_EQ(ToJson(v1::HostCapabilities())["cpu_flags"], Json::array());
}

TEST(ToJson, ListsOfMessagesAndOfText) {
  v1::AddHostResponse response;
  response.mutable_host()->mutable_capabilities()->add_cpu_flags("aes");
  EXPECT_EQ(ToJson(response)["host"]["capabilities"]["cpu_flags"], Json({"aes"}));
  v1::ListVmsResponse vms;
  vms.add_vms()->set_name("a");
  EXPECT_EQ(ToJson(vms)["vms"][0]["name"], "a");
  EXPECT_EQ(ToJsonList(vms.vms())[0]["name"], "a");
}

// The YAML must be read back as the same types, by the same rules as any YAML 1.1 reader.
TEST(ToYaml, StringsStayStrings) {
  for (const std::string text : {"true",       "NO",           "null",       "~",
                                 "12",         "1e3",          "0x1f",       "",
                                 " lead",      "a: b",         "- x",        "#c",
                                 "2026-01-31", "two\nlines\n", "two\nlines", "\n\n",
                                 "tail\n\n",   "  indented\n", "tab\there",  "y",
                                 "quote\"'",   "größe",        "web1",       "/a/b.qcow2"}) {
    const YAML::Node node = YAML::Load(ToYaml({{"key", text}}));
    EXPECT_EQ(node["key"].Scalar(), text);
    const bool plain = node["key"].Tag() == "?";  // unquoted: a reader may take it for another type
    EXPECT_TRUE(!plain || text == "web1" || text == "/a/b.qcow2") << text;
  }
}

TEST(ToYaml, OtherTypesStandPlain) {
  EXPECT_EQ(ToYaml({{"n", 1ULL << 60}, {"b", true}, {"z", nullptr}, {"l", Json::array()}}),
            "n: 1152921504606846976\nb: true\nz: null\nl: []\n");
}

TEST(ToYaml, DefinitionsAreReadableBlocks) {
  EXPECT_EQ(ToYaml({{"definition_yaml", "name: web1\ncpus: 2\n"}}),
            "definition_yaml: |\n  name: web1\n  cpus: 2\n");
}

class OutputTest : public testing::Test {
 protected:
  Output Make(OutputFormat format) { return {format, out_, err_, Colour::kOff}; }
  std::ostringstream out_;
  std::ostringstream err_;
};

TEST_F(OutputTest, AlignsColumns) {
  Table table({"NAME", "STATE", "X"});
  table.AddRow({"a", Cell("running", Tone::kGood), ""});
  table.AddRow({"größer", "no", "y"});
  Make(OutputFormat::kTable).Print({}, table);
  EXPECT_EQ(out_.str(),
            "NAME    STATE    X\n"
            "a       running  -\n"
            "größer  no       y\n");
}

TEST_F(OutputTest, ColoursOnlyWhereTheyAreOn) {
  Table table;
  table.Add("State", Cell("crashed", Tone::kBad));
  table.Print(out_, Colour::kOff);
  EXPECT_THAT(out_.str(), Not(HasSubstr("\x1b")));
  table.Print(out_, Colour::kOn);
  EXPECT_THAT(out_.str(), HasSubstr("\x1b[31mcrashed\x1b[0m"));
}

TEST_F(OutputTest, CellsCannotSteerTheTerminal) {
  Table table;
  table.Add("Reason", "x\x1b[2J");
  table.Print(out_, Colour::kOff);
  EXPECT_EQ(out_.str(), "Reason  x?[2J\n");
}

TEST_F(OutputTest, DataGoesToStdoutAndMessagesToStderr) {
  Output output = Make(OutputFormat::kJson);
  output.Print({{"a", 1}}, Table());
  output.Note("note");
  output.Warn("warning");
  output.Error("error");
  EXPECT_EQ(out_.str(), "{\n  \"a\": 1\n}\n");
  EXPECT_EQ(err_.str(), "note\nsealift: warning: warning\nsealift: error\n");
}

TEST_F(OutputTest, TablesLeaveOutWhatIsOnlyData) {
  Make(OutputFormat::kTable).PrintData({{"a", 1}});
  EXPECT_EQ(out_.str(), "");
}

TEST_F(OutputTest, ItemsOfAStreamStandAlone) {
  Make(OutputFormat::kJson).PrintItem({{"n", 1}}, "row");
  Make(OutputFormat::kYaml).PrintItem({{"n", 1}}, "row");
  Make(OutputFormat::kTable).PrintItem({{"n", 1}}, "row");
  EXPECT_EQ(out_.str(), "{\"n\":1}\n---\nn: 1\nrow\n");
}

TEST_F(OutputTest, InvalidUtf8DoesNotEndTheProgram) {
  Make(OutputFormat::kJson).PrintItem({{"n", "\xff"}}, "");
  EXPECT_EQ(out_.str(), "{\"n\":\"\xEF\xBF\xBD\"}\n");
}

TEST_F(OutputTest, AFullDiskIsAnError) {
  Output output = Make(OutputFormat::kJson);
  out_.setstate(std::ios::badbit);
  EXPECT_FALSE(output.Flush().ok());
}

TEST(Csv, HasAColumnForEveryFieldOfAnyItem) {
  const Json data = Json::parse(R"([
    {"name": "a", "cpu": null, "on": true, "tags": ["x", "y"]},
    {"name": "b", "cpu": {"model": "M"}, "on": false, "n": 7}])");
  EXPECT_EQ(ToCsv(data),
            "name,cpu,on,tags,cpu.model,n\r\n"
            "a,,true,\"[\"\"x\"\",\"\"y\"\"]\",,\r\n"
            "b,,false,,M,7\r\n");
  EXPECT_EQ(ToCsv(Json::array()), "");
  EXPECT_EQ(ToCsv(Json::parse(R"({"one": 1})")), "one\r\n1\r\n");
}

TEST(Csv, QuotesWhatNeedsItAndDefusesFormulas) {
  const Json data = Json::parse(R"json([{"a": "x,y", "b": "say \"hi\"", "c": "two\nlines",
                                     "d": "=1+1", "e": -5, "f": "@SUM(A1)"}])json");
  EXPECT_EQ(ToCsv(data),
            "a,b,c,d,e,f\r\n"
            "\"x,y\",\"say \"\"hi\"\"\",\"two\nlines\",'=1+1,-5,'@SUM(A1)\r\n");
}

}  // namespace
}  // namespace sealift::cli
