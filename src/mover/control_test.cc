#include "mover/control.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

namespace sealift::mover {
namespace {

using nlohmann::json;

Start AStart() {
  Start start;
  start.role = Role::kDestination;
  start.spec.id.fill(std::byte{0xab});
  start.spec.vm = "web";
  start.spec.source = "spiffe://sealift/host/a";
  start.spec.destination = "spiffe://sealift/host/b";
  start.spec.protection = keys::Protection::kPlain;
  start.spec.engine = keys::Engine::kStream;
  start.spec.streams = 4;
  start.sealed_key = {std::byte{1}, std::byte{2}};
  start.reconnect_seconds = 7;
  return start;
}

CopyState ACopyState() {
  return {.phase = CopyPhase::kConverged,
          .round = 1,
          .stalls = 2,
          .total_bytes = 3,
          .copied_bytes = 4,
          .remaining_bytes = 5,
          .dirty_bytes_per_second = 6};
}

template <typename T>
T RoundTrip(const T& message) {
  return std::get<T>(DecodeControl(EncodeControl(message)).value());
}

bool Decodes(const json& object) { return DecodeControl(object.dump()).ok(); }

json Encoded(const ControlMessage& message) { return json::parse(EncodeControl(message)); }

TEST(Control, CarriesAnOffer) {
  const Offer offer = RoundTrip(Offer{{std::byte{4}, std::byte{0xff}}, "ipsec-mb"});
  EXPECT_EQ(base::ToHex(offer.public_key), "04ff");
  EXPECT_EQ(offer.aead_backend, "ipsec-mb");
}

TEST(Control, CarriesAStart) {
  const Start sent = AStart();
  const Start start = RoundTrip(sent);
  EXPECT_EQ(start.role, sent.role);
  EXPECT_EQ(keys::CanonicalEncoding(start.spec), keys::CanonicalEncoding(sent.spec));
  EXPECT_EQ(start.sealed_key, sent.sealed_key);
  EXPECT_EQ(start.reconnect_seconds, 7);
}

TEST(Control, CarriesGuestMemory) {
  Start start = AStart();
  start.blocks = {{1U << 21, 0}, {1ULL << 40, 18446744073709547520U}};
  const std::vector<RamBlock> blocks = RoundTrip(start).blocks;
  ASSERT_EQ(blocks.size(), 2);
  EXPECT_EQ(blocks[1].size, 1ULL << 40);
  EXPECT_EQ(blocks[1].address, 18446744073709547520U);
  const BeginCopy begin = RoundTrip(BeginCopy{{{4096, 7}}, 300});
  EXPECT_EQ(begin.blocks.at(0).address, 7);
  EXPECT_EQ(begin.downtime_limit_ms, 300);
}

TEST(Control, CarriesTheStateOfACopy) {
  const CopyState state = RoundTrip(ACopyState());
  EXPECT_EQ(state.phase, CopyPhase::kConverged);
  EXPECT_EQ(state.round, 1);
  EXPECT_EQ(state.stalls, 2);
  EXPECT_EQ(state.total_bytes, 3);
  EXPECT_EQ(state.copied_bytes, 4);
  EXPECT_EQ(state.remaining_bytes, 5);
  EXPECT_EQ(state.dirty_bytes_per_second, 6);
}

TEST(Control, RefusesWrongGuestMemory) {
  const auto decodes = [](const json& blocks) {
    json begin = Encoded(BeginCopy{});
    begin["blocks"] = blocks;
    return Decodes(begin);
  };
  const json block = {{"size", 4096}, {"address", 0}};
  EXPECT_TRUE(decodes(json::array({block, block})));
  EXPECT_FALSE(decodes(json(17, block))) << "too many";
  EXPECT_FALSE(decodes(json::array({{{"size", 4096}}})));
  EXPECT_FALSE(decodes(json::array({{{"size", -1}, {"address", 0}}})));
  EXPECT_FALSE(decodes(json::array({{{"size", 1}, {"address", 0}, {"more", 0}}})));
  EXPECT_FALSE(decodes(block));
}

TEST(Control, CarriesRequestsForConnections) {
  const auto connect = RoundTrip(Connect{65535, 4294967295});
  EXPECT_EQ(connect.stream, 65535);
  EXPECT_EQ(connect.generation, 4294967295);
  EXPECT_EQ(RoundTrip(Connection{3, 7}).generation, 7);
  EXPECT_EQ(RoundTrip(ConnectionFailed{3, 7}).stream, 3);
}

TEST(Control, CarriesCountersAndEnds) {
  const Counters counters = RoundTrip(Counters{18446744073709551615U, 5});
  EXPECT_EQ(counters.wire_bytes, 18446744073709551615U);
  EXPECT_EQ(counters.payload_bytes, 5);
  RoundTrip(Established{});
  RoundTrip(Ended{});
  EXPECT_EQ(RoundTrip(Failed{"no route"}).reason, "no route");
}

TEST(Control, AnyReasonArrives) {
  EXPECT_FALSE(RoundTrip(Failed{std::string(10000, '\xff')}).reason.empty());
  EXPECT_FALSE(RoundTrip(Failed{std::string(10000, 'x')}).reason.empty());
}

TEST(Control, RefusesWhatIsNoMessage) {
  for (const char* bytes :
       {"", "null", "[]", "7", "\"ended\"", "{}", "{\"type\":7}", "{\"type\":null}",
        "{\"type\":\"end\"}", "{\"type\":\"ended\"", "{\"type\":\"ended\"}x", "\xff\xfe"}) {
    EXPECT_EQ(DecodeControl(bytes).status().code(), absl::StatusCode::kInvalidArgument) << bytes;
  }
}

TEST(Control, RefusesDeepNesting) { EXPECT_FALSE(DecodeControl(std::string(100'000, '[')).ok()); }

// Every message with a field left out, given as another kind of value, or one too many.
TEST(Control, RefusesMissingSurplusAndWrongFields) {
  const ControlMessage messages[] = {Offer{{std::byte{4}}, "openssl"},
                                     AStart(),
                                     Connect{1, 2},
                                     Connection{1, 2},
                                     ConnectionFailed{1, 2},
                                     Established{},
                                     BeginCopy{{{4096, 8192}}, 300},
                                     FinishCopy{},
                                     ACopyState(),
                                     Counters{1, 2},
                                     Ended{},
                                     Failed{"why"}};
  for (const ControlMessage& message : messages) {
    const json good = Encoded(message);
    ASSERT_TRUE(Decodes(good)) << good;
    json surplus = good;
    surplus["more"] = 1;
    EXPECT_FALSE(Decodes(surplus)) << surplus;
    for (const auto& field : good.items()) {
      json bad = good;
      bad.erase(field.key());
      EXPECT_FALSE(Decodes(bad)) << bad;
      for (const json& value : {json(nullptr), json(true), json::array({1}), json(-1), json(1.5)}) {
        bad[field.key()] = value;
        EXPECT_FALSE(Decodes(bad)) << bad;
      }
    }
  }
}

TEST(Control, RefusesValuesOutOfRange) {
  const json start = Encoded(AStart());
  const auto with = [](json object, const char* field, const json& value) {
    object[field] = value;
    return Decodes(object);
  };
  for (const char* field : {"role", "protection", "engine"}) {
    EXPECT_TRUE(with(start, field, 1)) << field;
    EXPECT_TRUE(with(start, field, 2)) << field;
    for (const int value : {0, 3, 256, 257}) EXPECT_FALSE(with(start, field, value)) << field;
  }
  EXPECT_FALSE(with(start, "streams", 65536));
  EXPECT_FALSE(with(start, "id", "ab"));
  EXPECT_FALSE(with(start, "id", std::string(34, 'a')));
  EXPECT_FALSE(with(start, "id", std::string(32, 'g')));
  EXPECT_FALSE(with(start, "sealed_key", "abc"));
  EXPECT_FALSE(with(start, "vm", std::string(4097, 'a')));
  const json connect = Encoded(Connect{1, 2});
  EXPECT_FALSE(with(connect, "stream", 65536));
  EXPECT_FALSE(with(connect, "generation", 4294967296));
  EXPECT_FALSE(with(Encoded(Failed{"why"}), "reason", std::string(4097, 'a')));
}

}  // namespace
}  // namespace sealift::mover
