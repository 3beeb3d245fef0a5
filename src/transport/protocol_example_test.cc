// Compares the hello with the worked hello of docs/protocol.md.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <set>
#include <string>
#include <utility>

#include "keys/testing.h"
#include "transport/hello.h"

namespace sealift::transport {
namespace {

constexpr std::uint16_t kStream = 1;
constexpr std::uint32_t kGeneration = 2;

// The entries of an example: a line with the name, then lines of two spaces and hex digits.
std::map<std::string, std::string> ReadExample(const std::string& heading) {
  std::ifstream page(SEALIFT_SOURCE_DIR "/docs/protocol.md");
  std::map<std::string, std::string> example;
  std::string line;
  while (std::getline(page, line) && line != heading) continue;
  while (std::getline(page, line) && line != "```") continue;
  std::string name;
  while (std::getline(page, line) && line != "```") {
    if (line.starts_with("  ")) {
      example[name] += line.substr(2);
    } else {
      name = line;
    }
  }
  return example;
}

keys::KeySchedule ExampleSchedule() {
  keys::MigrationSpec spec;
  for (std::size_t i = 0; i < spec.id.size(); ++i) spec.id[i] = static_cast<std::byte>(0x10 + i);
  spec.vm = "web-1";
  spec.source = "spiffe://example/host/a";
  spec.destination = "spiffe://example/host/b";
  spec.streams = 4;
  const std::string key = ReadExample("### A worked example")["migration key"];
  return keys::KeySchedule::Create({keys::testing::Secret(keys::testing::Hex(key))},
                                   keys::HashSpec(spec))
      .value();
}

class ProtocolHelloExample : public ::testing::Test {
 protected:
  // The bytes under a name. Each name is to be asked for, so that no entry goes unchecked.
  std::string Hex(const std::string& name) {
    asked_.insert(name);
    return example_[name];
  }

  std::string KeyHex(keys::Direction direction) {
    return base::ToHex(
        schedule_
            .Derive({keys::Purpose::kHello, direction, kStream, kGeneration}, keys::kMacKeySize)
            .value()
            .bytes());
  }

  const keys::KeySchedule schedule_ = ExampleSchedule();
  std::map<std::string, std::string> example_ = ReadExample("### A worked hello");
  std::set<std::string> asked_;
};

TEST_F(ProtocolHelloExample, IsWhatTheCodeDoes) {
  ASSERT_FALSE(example_.empty()) << "no worked hello found in docs/protocol.md";
  EXPECT_EQ(KeyHex(keys::Direction::kToDestination),
            Hex("hello key, to the destination, stream 1, generation 2"));
  EXPECT_EQ(KeyHex(keys::Direction::kToSource),
            Hex("hello key, to the source, stream 1, generation 2"));

  HelloOpen open{.stream = kStream, .generation = kGeneration};
  for (std::size_t i = 0; i < open.id.size(); ++i) open.id[i] = static_cast<std::byte>(0x10 + i);
  keys::testing::CountingRandom source_random(0xc0);
  HelloConnector source = HelloConnector::Create(schedule_, source_random, open, 0).value();
  EXPECT_EQ(base::ToHex(source.Open()), Hex("open"));

  HelloAcceptor destination = HelloAcceptor::Create(schedule_, source.Open()).value();
  keys::testing::CountingRandom destination_random(0xd0);
  const base::Bytes reply = destination.Reply(destination_random, 2).value();
  EXPECT_EQ(base::ToHex(reply), Hex("reply, next sequence 2"));

  const base::Bytes finish = source.Finish(reply).value();
  EXPECT_EQ(base::ToHex(finish), Hex("finish, next sequence 0"));
  EXPECT_TRUE(destination.Finish(finish).ok());
  EXPECT_EQ(source.peer_next_expected(), 2);
  EXPECT_EQ(destination.peer_next_expected(), 0);

  for (const auto& [name, value] : example_) EXPECT_TRUE(asked_.contains(name)) << name;
}

}  // namespace
}  // namespace sealift::transport
